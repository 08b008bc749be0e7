"""Actions that a critique marks as inappropriate: CUT (Xu et al. 2024, arXiv 2312.14591).

A sample y was judged bad, and the critique j states why. If the policy finds an action more likely
after reading j than without it, the critique concerns that action:

    U = {t : p(y_t | x, j) - l p(y_t | x) > 0}           l = 1.1 or 1.2

    loss = -1/N [sum over t not in U of log p(y_t | x)
                 + sum over t in U of a p(y_t | x, j)^g log(1 - p(y_t | x))]

So a step has weight 1, or a p(y_t | x, j)^g in U, with `unlikelihood_coef` a in {.25, .5, 1} and
`unlikelihood_exponent` g in {.25, .5, 1, 2}. `nll_loss(step_subset="appropriate")` and
`unlikelihood_loss` do the rest, with the batch that `with_inappropriate_steps` returns.

The authors' code asks whether the ratio p(y_t | x, j) / p(y_t | x) exceeds a threshold. That is the
same rule, so there is no option for it; logarithms are compared here, as they lose no small
probabilities. Their code has no exponent: g = 0. The paper's second probability may be that with a
*positive* critique (`plain_logp`). Samples not judged bad have no inappropriate action: their
likelihood is raised as a whole.

CUT needs critiques that refer to an action or a value; one bit has no information about actions.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch
from mores.agents.learning.losses.reductions import check_positive

StepValues = Float[Tensor, "model sample step"]
StepMask = Bool[Tensor, "model sample step"]


class DetectionScores(NamedTuple):
    """Scores of detection, by model; NaN where the divisor is zero.

    Attributes:
        precision: share of the marked actions that are inappropriate.
        recall: share of the inappropriate actions that are marked.
    """

    precision: Float[Tensor, " model"]
    recall: Float[Tensor, " model"]


def inappropriate_steps(
    plain_logp: StepValues,
    critiqued_logp: StepValues,
    mask: Bool[Tensor, "model sample step"],
    criticized: Bool[Tensor, "model sample"],
    ratio_threshold: float = 1.1,
) -> Bool[Tensor, "model sample step"]:
    """Steps whose probability rises with the critique by more than the threshold.

    Args:
        plain_logp: log-probability of each action.
        critiqued_logp: the same, with the critique in the observation.
        mask: which steps are valid.
        criticized: which samples were judged bad.
        ratio_threshold: l, above 0.

    Raises:
        UserError: the threshold is not positive.
    """
    check_positive("ratio_threshold", ratio_threshold, path="ratio_threshold")
    return mask & criticized[..., None] & (critiqued_logp - plain_logp > math.log(ratio_threshold))


def step_weights(
    critiqued_logp: StepValues,
    inappropriate: StepMask,
    unlikelihood_coef: float = 1.0,
    unlikelihood_exponent: float = 1.0,
) -> Float[Tensor, "model sample step"]:
    """Weight of each step: 1, or a p(y_t | x, j)^g at inappropriate steps."""
    weight = unlikelihood_coef * (unlikelihood_exponent * critiqued_logp.detach()).exp()
    return torch.where(inappropriate, weight, 1.0)


def with_inappropriate_steps(
    batch: FeedbackBatch,
    plain_logp: StepValues,
    critiqued_logp: StepValues,
    ratio_threshold: float = 1.1,
    unlikelihood_coef: float = 1.0,
    unlikelihood_exponent: float = 1.0,
) -> FeedbackBatch:
    """The batch with the fields `inappropriate` and `step_weight`.

    Args:
        batch: with `desirable`: samples that are not desirable were judged bad.
        plain_logp: log-probability of each action.
        critiqued_logp: the same, with the critique in the observation.
        ratio_threshold: l, above 0.
        unlikelihood_coef: a, weight of inappropriate steps.
        unlikelihood_exponent: g, exponent of their probability with the critique.

    Raises:
        UserError: the batch lacks `desirable`, or the threshold is not positive.
    """
    bad = ~batch.require("desirable", "with_inappropriate_steps")
    marked = inappropriate_steps(plain_logp, critiqued_logp, batch.mask, bad, ratio_threshold)
    weights = step_weights(critiqued_logp, marked, unlikelihood_coef, unlikelihood_exponent)
    if batch.step_weight is not None:
        weights = weights * batch.step_weight
    return batch.replace(inappropriate=marked, step_weight=weights)


def detection_scores(predicted: StepMask, target: StepMask, valid: StepMask) -> DetectionScores:
    """Precision and recall of marked steps.

    Args:
        predicted: which steps are marked.
        target: which steps are inappropriate.
        valid: which steps count, such as the valid ones of samples judged bad.
    """
    hits = (predicted & target & valid).sum((1, 2))
    return DetectionScores(
        hits / (predicted & valid).sum((1, 2)),  # 0 / 0 is NaN
        hits / (target & valid).sum((1, 2)),
    )
