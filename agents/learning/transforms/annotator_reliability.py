"""Whom to believe: RE-PO (also LCPO; Cao et al., arXiv 2509.24159) around any pair loss.

Of a pair (w, l), somebody said that w is better. Let L(w > l) be the loss of that label, L(l > w)
that of the opposite one (`terms.directed_losses`), and eta_k the reliability of annotator k: the
probability that a label of theirs is right. Any loss gives a probability, by Gibbs:

    p   = sigmoid(L(l > w) - L(w > l))                    that w really is better
    v   = p eta / (p eta + (1 - p)(1 - eta))              E step: that the label is right
    L   = -[v log p + (1 - v) log(1 - p)]                 M step of the policy: `pair(robust=True)`
    eta <- (1 - a) eta + a mean of v over the pairs of k  M step of reliability, in small steps

With L = -log sigmoid(s), DPO's, p is sigmoid(s) exactly; other losses become a logistic surrogate
of themselves. If p is exact and all pairs are used at once, eta comes to rest at the true share of
right labels (theorem 4.1). The paper takes a = 0.1 and eta = 0.9 at first, and one annotator for
all where nobody signed.

Ours: eta is kept within [lowest, highest], by default [0.5, 0.999]. At 1 no label could ever be
doubted again; below 0.5 an annotator would be taken for somebody who means the opposite, and the
policy with all labels upside down would explain the data as well.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch
from mores.agents.learning.losses.preference import LabelLosses
from mores.agents.learning.losses.reductions import check_range
from mores.agents.learning.losses.sample_selection import pair_indices
from mores.core.errors import UserError

MIN_RELIABILITY, MAX_RELIABILITY = 0.5, 0.999
CALLER = "reliability"

Reliability = Float[Tensor, "policy annotator"]


def preference_probability(losses: LabelLosses) -> Float[Tensor, "policy pair"]:
    """Probability that what was said to be better is better, from the losses of both labels."""
    return torch.sigmoid(losses.flipped - losses.given)


def label_correct_probability(
    losses: LabelLosses, reliability: Float[Tensor, "policy pair"]
) -> Float[Tensor, "policy pair"]:
    """Probability that each label is right; nothing learns through it.

    Args:
        losses: of each label and of its opposite.
        reliability: of whoever gave it, within (0, 1).
    """
    # v = sigmoid(logit p + logit eta), and logit p is the difference of the losses.
    logit = (losses.flipped - losses.given).detach()
    return torch.sigmoid(logit + torch.logit(reliability.detach()))


def update_reliability(
    reliability: Reliability,
    label_correct: Float[Tensor, "policy pair"],
    annotator: Int[Tensor, "policy pair"],
    step_size: float = 0.1,
    valid: Bool[Tensor, "policy pair"] | None = None,
    minimum: float = MIN_RELIABILITY,
    maximum: float = MAX_RELIABILITY,
) -> Float[Tensor, "policy annotator"]:
    """Reliability of each annotator after a batch; who judged nothing in it stays as they were.

    Args:
        reliability: before.
        label_correct: probability that each label is right.
        annotator: who gave each label, from zero.
        step_size: how far to go towards the batch's mean, from 0 to 1 (all the way).
        valid: which pairs count; all, where it is missing.
        minimum: reliability is never less.
        maximum: reliability is never more.

    Raises:
        UserError: the rate or the bounds make no sense, or a number is of no annotator.
    """
    check_range("the rate of reliability", step_size, 0.0, 1.0, path="rate")
    if not 0.0 < minimum <= maximum < 1.0:
        raise UserError(
            f"reliability is kept within (0, 1), not within [{minimum}, {maximum}]",
            code="out_of_range",
            path="highest" if minimum > 0.0 else "lowest",
        )
    taken = torch.ones_like(label_correct, dtype=torch.bool) if valid is None else valid
    who = _valid_annotator_index(annotator, taken, reliability.shape[1])
    nobody = torch.zeros_like(reliability)
    labels = nobody.scatter_add(1, who, taken.to(label_correct.dtype))
    summed = nobody.scatter_add(1, who, torch.where(taken, label_correct.detach(), 0.0))
    moved = (1.0 - step_size) * reliability + step_size * summed / labels.clamp(min=1.0)
    return torch.where(labels > 0, moved.clamp(minimum, maximum), reliability)


def update_reliability_from_batch(
    reliability: Reliability,
    batch: FeedbackBatch,
    losses: LabelLosses,
    step_size: float = 0.1,
    minimum: float = MIN_RELIABILITY,
    maximum: float = MAX_RELIABILITY,
) -> Float[Tensor, "policy annotator"]:
    """Reliability after a batch of pairs; those that are not there, or have weight 0, say nothing.

    Args:
        reliability: of each annotator before.
        batch: with pairs, and with `annotator` unless there is one for all.
        losses: of each label and of its opposite.
        step_size: how far to go towards the batch's mean.
        minimum: reliability is never less.
        maximum: reliability is never more.

    Raises:
        UserError: as in `update_reliability`, or the batch does not say who judged.
    """
    counted = pair_indices(batch, CALLER).valid
    if batch.pair_weight is not None:
        counted = counted & (batch.pair_weight > 0)
    who = _annotator_index(batch, counted, reliability.shape[1])
    right = label_correct_probability(losses, reliability.gather(1, who))
    return update_reliability(reliability, right, who, step_size, counted, minimum, maximum)


def with_reliability(batch: FeedbackBatch, reliability: Reliability) -> FeedbackBatch:
    """The batch with the reliability of each pair's annotator, for the robust pair term.

    Raises:
        UserError: the batch does not say who judged, or a number is of no annotator.
    """
    real = pair_indices(batch, CALLER).valid
    who = _annotator_index(batch, real, reliability.shape[1])
    return batch.replace(reliability=reliability.gather(1, who))


def _annotator_index(
    batch: FeedbackBatch, valid: Bool[Tensor, "policy pair"], num_annotators: int
) -> Int[Tensor, "policy pair"]:
    """Who judged each pair; the only annotator, where there is one and nobody signed."""
    if batch.annotator is None and num_annotators == 1:
        return torch.zeros_like(valid, dtype=torch.int64)
    return _valid_annotator_index(batch.require("annotator", CALLER), valid, num_annotators)


def _valid_annotator_index(
    annotator: Int[Tensor, "policy pair"], valid: Bool[Tensor, "policy pair"], num_annotators: int
) -> Int[Tensor, "policy pair"]:
    """Annotators as indices, 0 where a pair does not count.

    Raises:
        UserError: a number is of no annotator.
    """
    numbers = torch.where(valid, annotator.long(), 0)
    if numbers.numel() and not 0 <= int(numbers.min()) <= int(numbers.max()) < num_annotators:
        raise UserError(
            f"annotators: {num_annotators} are numbered 0 to {num_annotators - 1}, not "
            f"{int(numbers.min())} to {int(numbers.max())}",
            code="out_of_range",
            path="annotator",
        )
    return numbers
