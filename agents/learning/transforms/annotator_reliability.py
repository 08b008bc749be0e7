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
from mores.agents.learning.losses.preference import DirectedLosses
from mores.agents.learning.losses.reductions import within
from mores.agents.learning.losses.sample_selection import contestants
from mores.core.errors import UserError

LOWEST, HIGHEST = 0.5, 0.999
WHY = "reliability"

Reliability = Float[Tensor, "policy annotator"]


def preference(losses: DirectedLosses) -> Float[Tensor, "policy pair"]:
    """Probability that what was said to be better is better, from the losses of both labels."""
    return torch.sigmoid(losses.backward - losses.forward)


def label_is_right(
    losses: DirectedLosses, reliability: Float[Tensor, "policy pair"]
) -> Float[Tensor, "policy pair"]:
    """Probability that each label is right; nothing learns through it.

    Args:
        losses: of each label and of its opposite.
        reliability: of whoever gave it, within (0, 1).
    """
    # v = sigmoid(logit p + logit eta), and logit p is the difference of the losses.
    logit = (losses.backward - losses.forward).detach()
    return torch.sigmoid(logit + torch.logit(reliability.detach()))


def update_reliability(
    reliability: Reliability,
    right: Float[Tensor, "policy pair"],
    annotator: Int[Tensor, "policy pair"],
    rate: float = 0.1,
    counted: Bool[Tensor, "policy pair"] | None = None,
    lowest: float = LOWEST,
    highest: float = HIGHEST,
) -> Float[Tensor, "policy annotator"]:
    """Reliability of each annotator after a batch; who judged nothing in it stays as they were.

    Args:
        reliability: before.
        right: probability that each label is right.
        annotator: who gave each label, from zero.
        rate: how far to go towards the batch's mean, from 0 to 1 (all the way).
        counted: which pairs count; all, where it is missing.
        lowest: reliability is never less.
        highest: reliability is never more.

    Raises:
        UserError: the rate or the bounds make no sense, or a number is of no annotator.
    """
    within("the rate of reliability", rate, 0.0, 1.0, path="rate")
    if not 0.0 < lowest <= highest < 1.0:
        raise UserError(
            f"reliability is kept within (0, 1), not within [{lowest}, {highest}]",
            code="out_of_range",
            path="highest" if lowest > 0.0 else "lowest",
        )
    taken = torch.ones_like(right, dtype=torch.bool) if counted is None else counted
    who = _numbers(annotator, taken, reliability.shape[1])
    nobody = torch.zeros_like(reliability)
    labels = nobody.scatter_add(1, who, taken.to(right.dtype))
    summed = nobody.scatter_add(1, who, torch.where(taken, right.detach(), 0.0))
    moved = (1.0 - rate) * reliability + rate * summed / labels.clamp(min=1.0)
    return torch.where(labels > 0, moved.clamp(lowest, highest), reliability)


def learn_reliability(
    reliability: Reliability,
    batch: FeedbackBatch,
    losses: DirectedLosses,
    rate: float = 0.1,
    lowest: float = LOWEST,
    highest: float = HIGHEST,
) -> Float[Tensor, "policy annotator"]:
    """Reliability after a batch of pairs; those that are not there, or have weight 0, say nothing.

    Args:
        reliability: of each annotator before.
        batch: with pairs, and with `annotator` unless there is one for all.
        losses: of each label and of its opposite.
        rate: how far to go towards the batch's mean.
        lowest: reliability is never less.
        highest: reliability is never more.

    Raises:
        UserError: as in `update_reliability`, or the batch does not say who judged.
    """
    counted = contestants(batch, WHY).real
    if batch.pair_weight is not None:
        counted = counted & (batch.pair_weight > 0)
    who = _annotators(batch, counted, reliability.shape[1])
    right = label_is_right(losses, reliability.gather(1, who))
    return update_reliability(reliability, right, who, rate, counted, lowest, highest)


def with_reliability(batch: FeedbackBatch, reliability: Reliability) -> FeedbackBatch:
    """The batch with the reliability of each pair's annotator, for the robust pair term.

    Raises:
        UserError: the batch does not say who judged, or a number is of no annotator.
    """
    real = contestants(batch, WHY).real
    who = _annotators(batch, real, reliability.shape[1])
    return batch.replace(reliability=reliability.gather(1, who))


def _annotators(
    batch: FeedbackBatch, counted: Bool[Tensor, "policy pair"], annotators: int
) -> Int[Tensor, "policy pair"]:
    """Who judged each pair; the only annotator, where there is one and nobody signed."""
    if batch.annotator is None and annotators == 1:
        return torch.zeros_like(counted, dtype=torch.int64)
    return _numbers(batch.need("annotator", WHY), counted, annotators)


def _numbers(
    annotator: Int[Tensor, "policy pair"], counted: Bool[Tensor, "policy pair"], annotators: int
) -> Int[Tensor, "policy pair"]:
    """Annotators as indices, 0 where a pair does not count.

    Raises:
        UserError: a number is of no annotator.
    """
    numbers = torch.where(counted, annotator.long(), 0)
    if numbers.numel() and not 0 <= int(numbers.min()) <= int(numbers.max()) < annotators:
        raise UserError(
            f"annotators: {annotators} are numbered 0 to {annotators - 1}, not "
            f"{int(numbers.min())} to {int(numbers.max())}",
            code="out_of_range",
            path="annotator",
        )
    return numbers
