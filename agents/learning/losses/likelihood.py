"""More of what was done, or less of it: likelihood and unlikelihood.

    nll          = -mean_t w_t log π(a_t)
    unlikelihood = -mean_t [t in U] w_t log(1 - π(a_t))

The first is imitation: supervised fine-tuning, the anchor of CPO (2401.08417) and ADPA
(2502.17927) on winners, GRAO's imitation (2508.07750) with advantages for weights. With smoothing
ε the target is (1 - ε) on the act and ε spread evenly over the open options (Szegedy et al. 2016,
1512.00567). The second is unlikelihood training (Welleck et al. 2020, 1908.04319) on the steps U
that a judge found inappropriate, as in CUT (Xu et al. 2024, 2312.14591):

    L1 = -(1/N) [Σ_{t not in U} log π(a_t) + Σ_{t in U} α p_j(a_t)^γ log(1 - π(a_t))]

which is `nll(steps="appropriate")` + `unlikelihood_loss()` with `step_weight` 1 outside of U and
α p_j^γ within. Both divide by all N real steps of the samples in question, whatever the weights:
weights that are twice as large give twice the loss, and weights may be negative.
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
LOG_ZERO = float("-inf")  # log-probability of an option that is not open


def nll_loss(
    out: ModelOutput,
    batch: FeedbackBatch,
    *,
    reduction: str = "step",
    subset: str = "all",
    step_subset: str = "all",
    label_smoothing: float = 0.0,
) -> Float[Tensor, " policy"]:
    """Negative log-likelihood of what was done.

    Args:
        out: what the policies say.
        batch: with the acts; its `step_weight` counts, if there is one.
        reduction: `step` or `sample`, see `masked.step_average`.
        subset: the samples to imitate, see `samples.chosen`.
        step_subset: `all`, or `appropriate`: inappropriate ones add nothing (and still count in N).
        label_smoothing: share of the target that is spread over all open options, in [0, 1].

    Raises:
        UserError: a setting is unknown or out of range, or something is missing.
    """
    check_choice("choice of steps, `steps`,", step_subset, STEP_SUBSETS, path="steps")
    check_range("the nll term's smoothing", label_smoothing, 0.0, 1.0, path="smoothing")
    mask = select_steps(batch, subset, "the nll term")
    loss = -torch.where(mask, out.logp, 0.0)
    if label_smoothing > 0.0:
        even = _uniform_nll(out.require("logits", "the nll term with smoothing"), batch)
        loss = (1.0 - label_smoothing) * loss + label_smoothing * even
    loss = _apply_step_weight(loss, batch, mask)
    if step_subset == "appropriate":
        loss = torch.where(batch.require("inappropriate", "the nll term"), 0.0, loss)
    return reduce_steps(loss, mask, reduction)


def unlikelihood_loss(
    out: ModelOutput,
    batch: FeedbackBatch,
    *,
    reduction: str = "step",
    subset: str = "all",
    floor: float = 1e-5,
) -> Float[Tensor, " policy"]:
    """Negative log-probability of doing anything but what was done, on inappropriate steps.

    Where the policy gives the logits of all options, log(1 - p) is the log of the others' sum:
    exact however close p is to 1, with gradients of at most `step_weight` on each logit. With
    log-probabilities alone, 1 - p is the difference of nearly equal numbers; below `floor` the
    loss goes on along its tangent, so that it stays finite and its slope stays 1 / `floor`. A
    step whose act was the only open option adds nothing: there is nothing else to do.

    Args:
        out: what the policies say.
        batch: with `inappropriate`; its `step_weight` counts, if there is one.
        reduction: `step` or `sample`, see `masked.step_average`. All real steps count in N.
        subset: the samples in question, see `samples.chosen`.
        floor: of 1 - p, where logits are missing.

    Raises:
        UserError: a setting is unknown or out of range, or something is missing.
    """
    check_range("the unlikelihood term's floor", floor, 1e-30, 1.0, path="floor")
    if torch.is_floating_point(batch.action):
        raise UserError(
            "the unlikelihood term needs acts that are numbers of options",
            code="wrong_type",
            path="action",
        )
    mask = select_steps(batch, subset, "the unlikelihood term")
    bad = mask & batch.require("inappropriate", "the unlikelihood term")
    if out.logits is not None:
        loss = _complement_nll(out.logits, batch, bad)
    else:
        rest = -torch.expm1(torch.where(bad, out.logp, -1.0))  # 1 - p
        held = rest.clamp(min=floor)
        loss = -held.log() + (held - rest) / floor
    loss = torch.where(bad, _apply_step_weight(loss, batch, mask), 0.0)
    return reduce_steps(loss, mask, reduction)


def _apply_step_weight(
    loss: Float[Tensor, "policy sample step"],
    batch: FeedbackBatch,
    mask: Bool[Tensor, "policy sample step"],
) -> Float[Tensor, "policy sample step"]:
    if batch.step_weight is None:
        return loss
    return loss * torch.where(mask, batch.step_weight, 0.0)


def _uniform_nll(
    logits: Float[Tensor, "policy sample step option"], batch: FeedbackBatch
) -> Float[Tensor, "policy sample step"]:
    """Mean negative log-probability of the open options."""
    open_ = (
        logits != LOG_ZERO
        if batch.action_mask is None
        else batch.action_mask & (logits != LOG_ZERO)
    )
    return -torch.where(open_, logits, 0.0).sum(-1) / open_.sum(-1).clamp(min=1)


def _complement_nll(
    logits: Float[Tensor, "policy sample step option"],
    batch: FeedbackBatch,
    inappropriate: Bool[Tensor, "policy sample step"],
) -> Float[Tensor, "policy sample step"]:
    """-log(1 - p) of the acts, from the log-probabilities of all other options."""
    act = torch.where(inappropriate, batch.action, 0).long()[..., None]
    others = torch.where(inappropriate[..., None], logits, 0.0).scatter(-1, act, LOG_ZERO)
    alone = (others == LOG_ZERO).all(-1)  # and not: NaN, which is to be seen
    others = torch.where(alone[..., None], 0.0, others)
    return torch.where(alone, 0.0, -others.logsumexp(-1))
