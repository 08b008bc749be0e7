"""Which acts a judgement condemns: CUT, "Reasons to Reject" (Xu et al. 2024, arXiv 2312.14591).

A sample y was judged bad, and the judgement j says why. Whoever reads j and then still finds an act
more likely than without it has found what j speaks of:

    U = {t : p(y_t | x, j) - l p(y_t | x) > 0}           l = 1.1 or 1.2

    loss = -1/N [sum over t not in U of log p(y_t | x)
                 + sum over t in U of a p(y_t | x, j)^g log(1 - p(y_t | x))]

So a step counts 1, or a p(y_t | x, j)^g in U: `weight` a in {.25, .5, 1}, `exponent` g in {.25, .5,
1, 2}. The terms `nll(steps="appropriate")` and `unlikelihood_loss` do the rest, over the batch that
comes out of `with_inappropriate_steps`.

The authors' code asks whether the ratio p(y_t | x, j) / p(y_t | x) exceeds a threshold. That is the
same rule, so there is no option for it; logarithms are compared here, which lose no small
probabilities. Their code has no exponent: g = 0. In the paper the second probability may be one
that reads a *positive* judgement; give that as `plain_logp`. Samples that were not judged bad have
no inappropriate act: their likelihood is raised as a whole.

CUT needs judgements that say which act or value they mean; one bit tells nothing about acts.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch
from mores.agents.learning.losses.reductions import check_positive

StepValues = Float[Tensor, "policy sample step"]
StepMask = Bool[Tensor, "policy sample step"]


class DetectionScores(NamedTuple):
    """How well acts were found, by policy; no number where there is nothing to divide by.

    Attributes:
        precision: share of the marked acts that are inappropriate.
        recall: share of the inappropriate acts that are marked.
    """

    precision: Float[Tensor, " policy"]
    recall: Float[Tensor, " policy"]


def inappropriate_steps(
    plain_logp: StepValues,
    critiqued_logp: StepValues,
    mask: Bool[Tensor, "policy sample step"],
    criticized: Bool[Tensor, "policy sample"],
    ratio_threshold: float = 1.1,
) -> Bool[Tensor, "policy sample step"]:
    """Steps that the judgement made more likely, by more than the margin.

    Args:
        plain_logp: log-probability of each act.
        critiqued_logp: the same, where the judgement was read.
        mask: which steps are real.
        criticized: which samples were judged bad.
        ratio_threshold: l, above 0.

    Raises:
        UserError: the margin is not positive.
    """
    check_positive("the margin of inappropriate acts", ratio_threshold, path="margin")
    return mask & criticized[..., None] & (critiqued_logp - plain_logp > math.log(ratio_threshold))


def step_weights(
    critiqued_logp: StepValues,
    inappropriate: StepMask,
    unlikelihood_coef: float = 1.0,
    unlikelihood_exponent: float = 1.0,
) -> Float[Tensor, "policy sample step"]:
    """How much each step counts: 1, or `weight * p(y_t | x, j) ** exponent` where marked."""
    condemned = unlikelihood_coef * (unlikelihood_exponent * critiqued_logp.detach()).exp()
    return torch.where(inappropriate, condemned, 1.0)


def with_inappropriate_steps(
    batch: FeedbackBatch,
    plain_logp: StepValues,
    critiqued_logp: StepValues,
    ratio_threshold: float = 1.1,
    unlikelihood_coef: float = 1.0,
    unlikelihood_exponent: float = 1.0,
) -> FeedbackBatch:
    """The batch with `inappropriate_steps` steps and the weight of each step.

    Args:
        batch: with `desirable`: samples that are not were judged bad.
        plain_logp: log-probability of each act.
        critiqued_logp: the same, where the judgement was read.
        ratio_threshold: l, above 0.
        unlikelihood_coef: a, what inappropriate steps count.
        unlikelihood_exponent: g, how much more they count if the judged policy is sure of them.

    Raises:
        UserError: the batch does not say what was judged bad, or the margin is not positive.
    """
    bad = ~batch.require("desirable", "finding inappropriate acts")
    marked = inappropriate_steps(plain_logp, critiqued_logp, batch.mask, bad, ratio_threshold)
    weights = step_weights(critiqued_logp, marked, unlikelihood_coef, unlikelihood_exponent)
    if batch.step_weight is not None:
        weights = weights * batch.step_weight
    return batch.replace(inappropriate=marked, step_weight=weights)


def detection_scores(predicted: StepMask, target: StepMask, valid: StepMask) -> DetectionScores:
    """Precision and recall against what really was inappropriate.

    Args:
        predicted: what was marked.
        target: what was inappropriate.
        valid: which steps count, such as the real ones of samples judged bad.
    """
    hits = (predicted & target & valid).sum((1, 2))
    return DetectionScores(
        hits / (predicted & valid).sum((1, 2)),  # 0 / 0 is no number
        hits / (target & valid).sum((1, 2)),
    )
