"""Policy gradients: actions with a positive advantage become more likely.

    none      L = -mean  A_t log π(a_t)
    token     L = -mean  min(ρ_t A_t, clip(ρ_t, 1 - low, 1 + high) A_t),   ρ_t = π(a_t) / π_old(a_t)
    sequence  the same with one ratio per sample, ρ = exp(mean_t log ρ_t)

`none` is REINFORCE, and GRAO's Â Je (2508.07750) with `reduction="sample"`: Je is the mean
log-likelihood of the steps of a sample, without ratio or clipping. `token` is PPO (Schulman et al.
2017, 1707.06347) and GRPO (2402.03300), with a higher `clip_range_high` DAPO (2503.14476);
`sequence` is GSPO (2507.18071). Bounds of `math.inf` leave the ratio unclipped.

The GRPO family differs in its mean: `step` as in DAPO and PPO; `sample`, the mean of the means of
the samples, as in GRPO; `constant`, the sum divided by the number of samples times
`constant_length`, as in Dr. GRPO (2503.20783), whose steps count the same in samples of every
length; with `constant_length` 1 that is the sum over steps, RLOO's (2402.14740) without clipping.

Advantages come with the batch and are not normalized here. One difference from the papers: log
ratios are limited to 20, since exp would overflow.
"""

from __future__ import annotations

from typing import Any

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
CALLER = "policy_gradient_loss"
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
) -> Float[Tensor, " model"]:
    """Policy-gradient loss with given advantages.

    Args:
        out: output of the models.
        batch: with `advantage`, and with `old_logp` unless `clip_mode` is `none`.
        clip_mode: `none` (no ratio), `token` or `sequence`.
        clip_range_low: distance below 1 at which the ratio of a worse action is clipped.
        clip_range_high: distance above 1 at which the ratio of a better action is clipped.
        reduction: `step`, `sample` or `constant`.
        constant_length: number of steps of a sample, for `constant`.
        subset: samples used, see `select_samples`: `demonstration` for GRAO's references,
            `generated` for the policy's own answers.
        ent_coef: weight of the entropy bonus, a mean over valid steps for every `reduction`.

    Raises:
        UserError: a setting is unknown or out of range, or a required field is missing.
    """
    check_choice("clip_mode", clip_mode, CLIP_MODES, path="clip_mode")
    check_choice("reduction", reduction, (*REDUCTIONS, "constant"), path="reduction")
    mask = select_steps(batch, subset, CALLER)
    advantage = torch.where(mask, batch.require("advantage", CALLER), 0.0)
    if clip_mode == "none":
        objective = advantage * torch.where(mask, out.logp, 0.0)
    else:
        ratio = _ratio(out, batch, mask, clip_mode)
        lowest, highest = _bound(clip_range_low, ratio, -1.0), _bound(clip_range_high, ratio, 1.0)
        clipped = torch.clamp(ratio, lowest, highest)
        objective = torch.minimum(ratio * advantage, clipped * advantage)
    loss = _reduce(-objective, mask, reduction, constant_length)
    if isinstance(ent_coef, Tensor) or ent_coef != 0.0:
        entropy = out.require("entropy", f"{CALLER} with an entropy bonus")
        loss = loss - ent_coef * masked_mean(entropy, mask)
    return loss


def policy_gradient_diagnostics(
    out: ModelOutput,
    batch: FeedbackBatch,
    *,
    clip_mode: str = "token",
    clip_range_low: PerModelSetting = 0.2,
    clip_range_high: PerModelSetting = 0.2,
    subset: str = "all",
    **_: Any,
) -> dict[str, Float[Tensor, " model"]]:
    """Means over steps, for the arguments of `policy_gradient_loss`.

    Returns:
        `entropy` of the policy, in nats. With a ratio also `approx_kl`, the divergence of the
        policy from the old one as estimated by ρ - 1 - log ρ (Schulman 2020, "Approximating KL
        divergence"), in nats; and `clip_fraction`, the share of steps with a ratio beyond the clip
        range.
    """
    mask = select_steps(batch, subset, CALLER)
    entropy = out.require("entropy", CALLER)
    if clip_mode == "none":
        return {"entropy": masked_mean(entropy, mask)}
    log_ratio = torch.where(mask, out.logp - batch.require("old_logp", CALLER), 0.0)
    ratio = log_ratio.clamp(max=MAX_LOG_RATIO).exp()
    clipped = ratio if clip_mode == "token" else _ratio(out, batch, mask, clip_mode)
    lowest, highest = _bound(clip_range_low, ratio, -1.0), _bound(clip_range_high, ratio, 1.0)
    outside = (clipped < lowest) | (clipped > highest)
    rows = [torch.where(mask, entropy, 0.0), ratio - 1.0 - log_ratio, outside & mask]
    sums = torch.stack([row.sum((1, 2)) for row in rows])
    means = sums / mask.sum((1, 2)).clamp(min=1)
    return dict(zip(("entropy", "approx_kl", "clip_fraction"), means.unbind(0), strict=True))


def _ratio(
    out: ModelOutput,
    batch: FeedbackBatch,
    mask: Bool[Tensor, "model sample step"],
    clip_mode: str,
) -> Float[Tensor, "model sample step"]:
    """Probability ratio to the old policy, of each action or of each sample."""
    log_ratio = torch.where(mask, out.logp - batch.require("old_logp", CALLER), 0.0)
    if clip_mode == "sequence":
        log_ratio = per_sample_mean(log_ratio, mask)[..., None].expand_as(mask)
    return log_ratio.clamp(max=MAX_LOG_RATIO).exp()


def _bound(distance: PerModelSetting, ratio: Tensor, sign: float) -> Tensor:
    """The ratio at a distance from 1, in a shape to clip ratios with."""
    bound = 1.0 + sign * broadcast_setting(distance, ratio)
    return torch.as_tensor(bound, dtype=ratio.dtype, device=ratio.device)


def _reduce(
    loss: Float[Tensor, "model sample step"],
    mask: Bool[Tensor, "model sample step"],
    reduction: str,
    constant_length: float | None,
) -> Float[Tensor, " model"]:
    if reduction == "step":  # the loss of other steps is 0
        return loss.sum((1, 2)) / mask.sum((1, 2)).clamp(min=1)
    if reduction != "constant":
        return reduce_steps(loss, mask, reduction)
    if constant_length is None:
        raise UserError(
            f"{CALLER} with reduction='constant' needs `constant_length`, the steps of a sample",
            code="missing",
            path="constant_length",
        )
    check_positive(f"constant_length of {CALLER}", constant_length, path="constant_length")
    return masked_mean(torch.where(mask, loss, 0.0).sum(-1), mask.any(-1)) / constant_length
