"""Estimated reliability of annotators: RE-PO (also LCPO; Cao et al., arXiv 2509.24159).

The label of a pair (w, l) states that w is better. Let L(w > l) be the loss of that label, L(l > w)
that of the opposite one (`label_losses`), and eta_k the reliability of annotator k: the probability
that a label of theirs is correct. Any loss gives a probability, by Gibbs:

    p   = sigmoid(L(l > w) - L(w > l))                    that w really is better
    v   = p eta / (p eta + (1 - p)(1 - eta))              E step: that the label is correct
    L   = -[v log p + (1 - v) log(1 - p)]                 M step: preference_loss(use_reliability)
    eta <- (1 - a) eta + a mean of v over the pairs of k  M step of reliability, in small steps

With L = -log sigmoid(s), DPO's, p is sigmoid(s) exactly; other losses become a logistic surrogate
of themselves. If p is exact and all pairs are used at once, eta converges to the true share of
correct labels (theorem 4.1). The paper takes a = 0.1 and eta = 0.9 at first, and one annotator for
all if labels have none.

Ours: eta stays within [minimum, maximum], by default [0.5, 0.999]. At 1 no label could ever be
doubted again; below 0.5 the labels of an annotator would count as their opposite, and the policy
with all labels reversed would explain the data as well.
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
CALLER = "annotator reliability"

Reliability = Float[Tensor, "model annotator"]


def preference_probability(losses: LabelLosses) -> Float[Tensor, "model pair"]:
    """Probability that the chosen sample is really better, from the losses of both labels."""
    return torch.sigmoid(losses.flipped - losses.given)


def label_correct_probability(
    losses: LabelLosses, reliability: Float[Tensor, "model pair"]
) -> Float[Tensor, "model pair"]:
    """Probability that each label is correct, without gradients.

    Args:
        losses: of each label and of its opposite.
        reliability: of the annotator of each pair, in (0, 1).
    """
    # v = sigmoid(logit p + logit eta), and logit p is the difference of the losses.
    logit = (losses.flipped - losses.given).detach()
    return torch.sigmoid(logit + torch.logit(reliability.detach()))


def update_reliability(
    reliability: Reliability,
    label_correct: Float[Tensor, "model pair"],
    annotator: Int[Tensor, "model pair"],
    step_size: float = 0.1,
    valid: Bool[Tensor, "model pair"] | None = None,
    minimum: float = MIN_RELIABILITY,
    maximum: float = MAX_RELIABILITY,
) -> Float[Tensor, "model annotator"]:
    """Reliability of each annotator after a batch; unchanged for annotators without pairs in it.

    Args:
        reliability: before.
        label_correct: probability that each label is correct.
        annotator: index of the annotator of each label, from zero.
        step_size: share of the distance to the batch's mean, in [0, 1] (1: all of it).
        valid: which pairs count; None: all.
        minimum: lower limit of reliability.
        maximum: upper limit of reliability.

    Raises:
        UserError: the step size or the limits are out of range, or an index is of no annotator.
    """
    check_range("step_size of reliability", step_size, 0.0, 1.0, path="step_size")
    if not 0.0 < minimum <= maximum < 1.0:
        raise UserError(
            f"limits of reliability must lie in (0, 1), not be [{minimum}, {maximum}]",
            code="out_of_range",
            path="maximum" if minimum > 0.0 else "minimum",
        )
    counts = torch.ones_like(label_correct, dtype=torch.bool) if valid is None else valid
    index = _valid_annotator_index(annotator, counts, reliability.shape[1])
    zero = torch.zeros_like(reliability)
    labels = zero.scatter_add(1, index, counts.to(label_correct.dtype))
    summed = zero.scatter_add(1, index, torch.where(counts, label_correct.detach(), 0.0))
    moved = (1.0 - step_size) * reliability + step_size * summed / labels.clamp(min=1.0)
    return torch.where(labels > 0, moved.clamp(minimum, maximum), reliability)


def update_reliability_from_batch(
    reliability: Reliability,
    batch: FeedbackBatch,
    losses: LabelLosses,
    step_size: float = 0.1,
    minimum: float = MIN_RELIABILITY,
    maximum: float = MAX_RELIABILITY,
) -> Float[Tensor, "model annotator"]:
    """Reliability after a batch of pairs; invalid pairs and pairs of weight 0 do not count.

    Args:
        reliability: of each annotator before.
        batch: with pairs, and with `annotator` unless there is one for all.
        losses: of each label and of its opposite.
        step_size: share of the distance to the batch's mean.
        minimum: lower limit of reliability.
        maximum: upper limit of reliability.

    Raises:
        UserError: as in `update_reliability`, or the batch lacks the annotators.
    """
    valid = pair_indices(batch, CALLER).valid
    if batch.pair_weight is not None:
        valid = valid & (batch.pair_weight > 0)
    index = _annotator_index(batch, valid, reliability.shape[1])
    correct = label_correct_probability(losses, reliability.gather(1, index))
    return update_reliability(reliability, correct, index, step_size, valid, minimum, maximum)


def with_reliability(batch: FeedbackBatch, reliability: Reliability) -> FeedbackBatch:
    """The batch with the reliability of each pair's annotator, for `use_reliability`.

    Raises:
        UserError: the batch lacks the annotators, or an index is of no annotator.
    """
    valid = pair_indices(batch, CALLER).valid
    index = _annotator_index(batch, valid, reliability.shape[1])
    return batch.replace(reliability=reliability.gather(1, index))


def _annotator_index(
    batch: FeedbackBatch, valid: Bool[Tensor, "model pair"], num_annotators: int
) -> Int[Tensor, "model pair"]:
    """Annotator of each pair; 0 for all if there is a single one and the batch has none."""
    if batch.annotator is None and num_annotators == 1:
        return torch.zeros_like(valid, dtype=torch.int64)
    return _valid_annotator_index(batch.require("annotator", CALLER), valid, num_annotators)


def _valid_annotator_index(
    annotator: Int[Tensor, "model pair"], valid: Bool[Tensor, "model pair"], num_annotators: int
) -> Int[Tensor, "model pair"]:
    """Annotators as indices, 0 at invalid pairs.

    Raises:
        UserError: an index is of no annotator.
    """
    index = torch.where(valid, annotator.long(), 0)
    if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < num_annotators:
        raise UserError(
            f"annotators must be 0 to {num_annotators - 1}, not "
            f"{int(index.min())} to {int(index.max())}",
            code="out_of_range",
            path="annotator",
        )
    return index
