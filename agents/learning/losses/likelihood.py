"""Likelihood and unlikelihood of the taken actions.

    nll          = -mean_t w_t log π(a_t)
    unlikelihood = -mean_t [t in U] w_t log(1 - π(a_t))

The first is imitation: supervised fine-tuning, the anchor of CPO (2401.08417) and ADPA
(2502.17927) on chosen samples, GRAO's imitation (2508.07750) with advantages as weights. With label
smoothing ε the target is (1 - ε) on the action and ε spread evenly over the legal options (Szegedy
et al. 2016, 1512.00567). The second is unlikelihood training (Welleck et al. 2020, 1908.04319) on
the steps U that a critique marks as inappropriate, as in CUT (Xu et al. 2024, 2312.14591):

    L1 = -(1/N) [Σ_{t not in U} log π(a_t) + Σ_{t in U} α p_j(a_t)^γ log(1 - π(a_t))]

which is `nll_loss(step_subset="appropriate")` + `unlikelihood_loss()` with `step_weight` 1 outside
of U and α p_j^γ within. Both divide by the number N of valid steps of the selected samples,
regardless of the weights: weights twice as large give twice the loss, and weights may be negative.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch, ModelOutput
from mores.agents.learning.losses.reductions import check_choice, check_range, reduce_steps
from mores.agents.learning.losses.sample_selection import select_steps
from mores.core.errors import UserError

STEP_SUBSETS = ("all", "appropriate")
LOG_ZERO = float("-inf")  # log-probability of an illegal option


def nll_loss(
    out: ModelOutput,
    batch: FeedbackBatch,
    *,
    reduction: str = "step",
    subset: str = "all",
    step_subset: str = "all",
    label_smoothing: float = 0.0,
) -> Float[Tensor, " model"]:
    """Negative log-likelihood of the taken actions.

    Args:
        out: output of the models.
        batch: with the actions, weighted by `step_weight` if present.
        reduction: `step` or `sample`, see `reduce_steps`.
        subset: samples to imitate, see `select_samples`.
        step_subset: `all`, or `appropriate`: inappropriate steps add nothing (but count in N).
        label_smoothing: share of the target that is spread over all legal options, in [0, 1].

    Raises:
        UserError: a setting is unknown or out of range, or a required field is missing.
    """
    check_choice("step_subset", step_subset, STEP_SUBSETS, path="step_subset")
    check_range("label_smoothing", label_smoothing, 0.0, 1.0, path="label_smoothing")
    mask = select_steps(batch, subset, "nll_loss")
    loss = -torch.where(mask, out.logp, 0.0)
    if label_smoothing > 0.0:
        uniform = _uniform_nll(out.require("logits", "nll_loss with label_smoothing"), batch)
        loss = (1.0 - label_smoothing) * loss + label_smoothing * uniform
    loss = _apply_step_weight(loss, batch, mask)
    if step_subset == "appropriate":
        loss = torch.where(batch.require("inappropriate", "nll_loss"), 0.0, loss)
    return reduce_steps(loss, mask, reduction)


def unlikelihood_loss(
    out: ModelOutput,
    batch: FeedbackBatch,
    *,
    reduction: str = "step",
    subset: str = "all",
    floor: float = 1e-5,
) -> Float[Tensor, " model"]:
    """Negative log-probability of any other action than the taken one, on inappropriate steps.

    With the logits of all options, log(1 - p) is the log of the sum over the other options: exact
    however close p is to 1, with gradients of at most `step_weight` on each logit. With
    log-probabilities alone, 1 - p is the difference of nearly equal numbers; below `floor` the loss
    continues along its tangent, so that it stays finite and its slope stays 1 / `floor`. A step
    whose action was the only legal option adds nothing, as there is no other action.

    Args:
        out: output of the models.
        batch: with `inappropriate`, weighted by `step_weight` if present.
        reduction: `step` or `sample`, see `reduce_steps`. All valid steps count in N.
        subset: samples used, see `select_samples`.
        floor: lower limit of 1 - p, used without logits.

    Raises:
        UserError: a setting is unknown or out of range, or a required field is missing.
    """
    check_range("floor of unlikelihood_loss", floor, 1e-30, 1.0, path="floor")
    if torch.is_floating_point(batch.action):
        raise UserError(
            "unlikelihood_loss needs discrete actions (option indices)",
            code="wrong_type",
            path="action",
        )
    mask = select_steps(batch, subset, "unlikelihood_loss")
    inappropriate = mask & batch.require("inappropriate", "unlikelihood_loss")
    if out.logits is not None:
        loss = _complement_nll(out.logits, batch, inappropriate)
    else:
        complement = -torch.expm1(torch.where(inappropriate, out.logp, -1.0))  # 1 - p
        clamped = complement.clamp(min=floor)
        loss = -clamped.log() + (clamped - complement) / floor
    loss = torch.where(inappropriate, _apply_step_weight(loss, batch, mask), 0.0)
    return reduce_steps(loss, mask, reduction)


def _apply_step_weight(
    loss: Float[Tensor, "model sample step"],
    batch: FeedbackBatch,
    mask: Bool[Tensor, "model sample step"],
) -> Float[Tensor, "model sample step"]:
    if batch.step_weight is None:
        return loss
    return loss * torch.where(mask, batch.step_weight, 0.0)


def _uniform_nll(
    logits: Float[Tensor, "model sample step option"], batch: FeedbackBatch
) -> Float[Tensor, "model sample step"]:
    """Mean negative log-probability of the legal options."""
    legal = (
        logits != LOG_ZERO
        if batch.action_mask is None
        else batch.action_mask & (logits != LOG_ZERO)
    )
    return -torch.where(legal, logits, 0.0).sum(-1) / legal.sum(-1).clamp(min=1)


def _complement_nll(
    logits: Float[Tensor, "model sample step option"],
    batch: FeedbackBatch,
    inappropriate: Bool[Tensor, "model sample step"],
) -> Float[Tensor, "model sample step"]:
    """-log(1 - p) of the actions, from the log-probabilities of all other options."""
    action = torch.where(inappropriate, batch.action, 0).long()[..., None]
    others = torch.where(inappropriate[..., None], logits, 0.0).scatter(-1, action, LOG_ZERO)
    only_option = (others == LOG_ZERO).all(-1)  # False for NaN, which must stay visible
    others = torch.where(only_option[..., None], 0.0, others)
    return torch.where(only_option, 0.0, -others.logsumexp(-1))
