"""Contrastive unlikelihood training, CUT: which actions of a criticized sample are inappropriate.

Xu et al. 2024, arXiv 2312.14591. A sample y is criticized, and the critique j (the paper: judgment)
states why. If conditioning on j raises the probability of an action by more than the factor
lambda, the action is taken to be the one that the critique concerns:

    U = {t : p(y_t | x, y_<t, j) - lambda p(y_t | x, y_<t) > 0}           lambda = 1.1 or 1.2

    loss = -1/N [sum over t not in U of log p(y_t | x)
                 + sum over t in U of alpha p(y_t | x, j)^gamma log(1 - p(y_t | x))]

over the N valid steps; lambda is `ratio_threshold`, alpha `unlikelihood_coef` in {.25, .5, 1},
gamma `unlikelihood_exponent` in {.25, .5, 1, 2}. `nll_loss(step_subset="appropriate")` computes the
first sum and `unlikelihood_loss` the second, from the batch that `with_inappropriate_steps`
returns.

The authors' code compares the ratio p(y_t | x, j) / p(y_t | x) with a threshold, which is the same
rule. Here logarithms are compared, to avoid underflow. Their code has no exponent: gamma = 0. In
the paper the second probability may also be conditioned on a *positive* critique: pass it as
`plain_logp`. Samples that are not criticized have no inappropriate action and get the ordinary
negative log-likelihood.

CUT needs critiques that refer to an action or a value: a binary judgment of the whole sample does
not identify actions.
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
        precision: share of the actions in U that are truly inappropriate.
        recall: share of the truly inappropriate actions that are in U.
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
    """Steps whose probability rises with the critique by more than the factor `ratio_threshold`.

    Args:
        plain_logp: log-probability of each action, without the critique in the observation.
        critiqued_logp: the same, with the critique in the observation.
        mask: which steps are valid.
        criticized: which samples are criticized.
        ratio_threshold: lambda, above 0.

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
        batch: with `desirable`: samples that are not desirable are criticized.
        plain_logp: log-probability of each action.
        critiqued_logp: the same, with the critique in the observation.
        ratio_threshold: lambda, above 0.
        unlikelihood_coef: alpha, weight of inappropriate steps.
        unlikelihood_exponent: gamma, exponent of their probability with the critique.

    Raises:
        UserError: the batch lacks `desirable`, or the threshold is not positive.
    """
    criticized = ~batch.require("desirable", "with_inappropriate_steps")
    inappropriate = inappropriate_steps(
        plain_logp, critiqued_logp, batch.mask, criticized, ratio_threshold
    )
    weights = step_weights(critiqued_logp, inappropriate, unlikelihood_coef, unlikelihood_exponent)
    if batch.step_weight is not None:
        weights = weights * batch.step_weight
    return batch.replace(inappropriate=inappropriate, step_weight=weights)


def detection_scores(predicted: StepMask, target: StepMask, valid: StepMask) -> DetectionScores:
    """Precision and recall of predicted inappropriate steps.

    Args:
        predicted: which steps are in U.
        target: which steps are truly inappropriate.
        valid: which steps count, such as the valid ones of criticized samples.
    """
    true_positives = (predicted & target & valid).sum((1, 2))
    return DetectionScores(
        true_positives / (predicted & valid).sum((1, 2)),  # 0 / 0 is NaN
        true_positives / (target & valid).sum((1, 2)),
    )
