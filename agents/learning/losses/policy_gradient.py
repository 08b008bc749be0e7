"""Policy gradients: acts that went better than expected become more likely.

    none      L = -mean  A_t log π(a_t)
    token     L = -mean  min(ρ_t A_t, clip(ρ_t, 1 - low, 1 + high) A_t),   ρ_t = π(a_t) / π_old(a_t)
    sequence  the same with one ratio a sample, ρ = exp(mean_t log ρ_t)

`none` is REINFORCE, and GRAO's Â Je (2508.07750) with `per="sample"`: Je is the mean
log-likelihood of a sample's steps, there is neither ratio nor clip. `token` is PPO (Schulman et al.
2017, 1707.06347) and GRPO (2402.03300), with a higher `clip_range_high` DAPO (2503.14476); `sequence`
is GSPO (2507.18071). Bounds of `math.inf` leave the ratio unclipped.

What the mean runs over is where the GRPO family differs: `step` as in DAPO and PPO; `sample`, the
mean of every sample's own mean, as in GRPO; `is_constant`, the sum divided by samples times `length`,
as in Dr. GRPO (2503.20783), whose steps count the same in samples of every length; with `length` 1
that is the sum over a sample's steps, RLOO's (2402.14740) where nothing is clipped.

Advantages come with the batch; none is normalised here. Differs from the papers in one place: log
ratios above 20 stand still, since exp would overflow.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch, ModelOutput
from mores.agents.learning.losses.reductions import (
    REDUCTIONS,
    PerModelSetting,
    broadcast_setting,
    check_choice,
    check_positive,
    masked_mean,
    per_sample_mean,
    reduce_steps,
)
from mores.agents.learning.losses.sample_selection import select_steps
from mores.core.errors import UserError

CLIP_MODES = ("none", "token", "sequence")
CALLER = "the pg term"
MAX_LOG_RATIO = 20.0


def policy_gradient_loss(
    out: ModelOutput,
    batch: FeedbackBatch,
    *,
    clip_mode: str = "token",
    clip_range_low: PerModelSetting = 0.2,
    clip_range_high: PerModelSetting = 0.2,
    reduction: str = "step",
    constant_length: float | None = None,
    subset: str = "all",
    ent_coef: PerModelSetting = 0.0,
) -> Float[Tensor, " policy"]:
    """Policy-gradient loss with given advantages.

    Args:
        out: what the policies say.
        batch: with `advantage`, and with `old_logp` unless nothing is clipped.
        clip_mode: `none` (no ratio), `token` or `sequence`.
        clip_range_low: how far below 1 the ratio may fall before a worse act is left alone.
        clip_range_high: how far above 1 it may rise before a better act is left alone.
        reduction: `step`, `sample` or `is_constant`.
        constant_length: of a sample, for `is_constant`.
        subset: the samples in question, see `samples.chosen`: GRAO's references are `reference`,
            the policy's own answers `own`.
        ent_coef: weight of the bonus for entropy, the mean over real steps however `reduction` is set.

    Raises:
        UserError: a setting is unknown or out of range, or something is missing.
    """
    check_choice("clip mode", clip_mode, CLIP_MODES, path="clip_mode")
    check_choice("way to average, `per`,", reduction, (*REDUCTIONS, "constant"), path="per")
    mask = select_steps(batch, subset, CALLER)
    advantage = torch.where(mask, batch.require("advantage", CALLER), 0.0)
    if clip_mode == "none":
        gain = advantage * torch.where(mask, out.logp, 0.0)
    else:
        ratio = _ratio(out, batch, mask, clip_mode)
        lowest, highest = _bound(clip_range_low, ratio, -1.0), _bound(clip_range_high, ratio, 1.0)
        held = torch.clamp(ratio, lowest, highest)
        gain = torch.minimum(ratio * advantage, held * advantage)
    loss = _reduce(-gain, mask, reduction, constant_length)
    if isinstance(ent_coef, Tensor) or ent_coef != 0.0:
        spread = out.require("entropy", "the pg term with an entropy bonus")
        loss = loss - ent_coef * masked_mean(spread, mask)
    return loss


def _ratio(
    out: ModelOutput,
    batch: FeedbackBatch,
    mask: Bool[Tensor, "policy sample step"],
    clip_mode: str,
) -> Float[Tensor, "policy sample step"]:
    """How much more likely each act, or each sample of acts, has become."""
    log_ratio = torch.where(mask, out.logp - batch.require("old_logp", CALLER), 0.0)
    if clip_mode == "sequence":
        log_ratio = per_sample_mean(log_ratio, mask)[..., None].expand_as(mask)
    return log_ratio.clamp(max=MAX_LOG_RATIO).exp()


def _bound(distance: PerModelSetting, ratio: Tensor, sign: float) -> Tensor:
    """The ratio at a distance from 1, in a shape to clip ratios with."""
    bound = 1.0 + sign * broadcast_setting(distance, ratio)
    return torch.as_tensor(bound, dtype=ratio.dtype, device=ratio.device)


def _reduce(
    loss: Float[Tensor, "policy sample step"],
    mask: Bool[Tensor, "policy sample step"],
    reduction: str,
    constant_length: float | None,
) -> Float[Tensor, " policy"]:
    if reduction != "constant":
        return reduce_steps(loss, mask, reduction)
    if constant_length is None:
        raise UserError(
            "the pg term with per='constant' needs `constant_length`, the steps of a sample",
            code="missing",
            path="length",
        )
    check_positive("the pg term's length", constant_length, path="length")
    return masked_mean(torch.where(mask, loss, 0.0).sum(-1), mask.any(-1)) / constant_length
