"""Numbers that should come true: what a value head expects, and what reward heads say.

    value    mean_t (V_t - R_t)^2, or with a clip the larger of it and
             (V_old + clip(V_t - V_old, -c, c) - R_t)^2      (PPO's code, 1707.06347)
    regress  mean (s - y)^2, or Huber's loss (1964), quadratic within a threshold and linear beyond

`regression_loss` is the pointwise half of Baichuan's reward model (2410.14940), absolute scores beside
comparisons. No factor of 1/2 stands before a square: the weight in the objective says it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch, ModelOutput
from mores.agents.learning.losses.reductions import (
    PerModelSetting,
    broadcast_setting,
    check_choice,
    check_positive,
    masked_mean,
    reduce_steps,
)
from mores.agents.learning.losses.sample_selection import select_samples, select_steps
from mores.core.errors import UserError

LOSS_TYPES = ("mse", "huber")


def value_loss(
    out: ModelOutput,
    batch: FeedbackBatch,
    *,
    clip_range_vf: PerModelSetting | None = None,
    reduction: str = "step",
    subset: str = "all",
) -> Float[Tensor, " policy"]:
    """Squared error of the value head.

    Args:
        out: what the policies say, with `value_loss`.
        batch: with `value_target`, and `old_value` where there is a clip.
        clip_range_vf: how far a value may move from the old one before it is held against the policy, in
            units of value; None: no clip.
        reduction: `step` or `sample`, see `masked.step_average`.
        subset: the samples in question, see `samples.chosen`.

    Raises:
        UserError: a setting is unknown or out of range, or something is missing.
    """
    mask = select_steps(batch, subset, "the value term")
    said = torch.where(mask, out.require("value", "the value term"), 0.0)
    target = torch.where(mask, batch.require("value_target", "the value term"), 0.0)
    loss = (said - target).square()
    if clip_range_vf is not None:
        check_positive("the value term's clip", clip_range_vf, path="clip")
        old = torch.where(mask, batch.require("old_value", "the value term with a clip"), 0.0)
        reach = torch.as_tensor(
            broadcast_setting(clip_range_vf, said), dtype=said.dtype, device=said.device
        )
        held = old + torch.clamp(said - old, -reach, reach)
        loss = torch.maximum(loss, (held - target).square())
    return reduce_steps(loss, mask, reduction)


def regression_loss(
    out: ModelOutput,
    batch: FeedbackBatch,
    *,
    loss_type: str = "mse",
    delta: float = 1.0,
    ignore_nan: bool = False,
    subset: str = "all",
) -> Float[Tensor, " policy"]:
    """Error of the reward heads against what they should say of each sample.

    Args:
        out: what the policies say, with `score`.
        batch: with `target`.
        loss_type: `square` or `huber`.
        delta: up to which error Huber's loss is quadratic, in units of the score.
        ignore_nan: whether NaN in `target` means that nobody said what the score should be, and is
            left out; otherwise it makes that policy's loss NaN.
        subset: the samples in question, see `samples.chosen`.

    Raises:
        UserError: a setting is unknown or out of range, or something is missing.
    """
    check_choice("link of the regress term", loss_type, LOSS_TYPES, path="link")
    said = out.require("score", "the regress term")
    target = batch.require("target", "the regress term")
    if said.shape[-1] != target.shape[-1]:
        raise UserError(
            f"the regress term needs as many scores as targets, not {said.shape[-1]} "
            f"for {target.shape[-1]}",
            code="wrong_shape",
            path="target",
        )
    real = (batch.mask.any(-1) & select_samples(batch, subset, "the regress term"))[..., None]
    real = real & ~target.isnan() if ignore_nan else real.expand_as(target)
    error = torch.where(real, said, 0.0) - torch.where(real, target, 0.0)
    if loss_type == "mse":
        return masked_mean(error.square(), real)
    check_positive("the regress term's threshold", delta, path="threshold")
    size = error.abs()
    within = error.square() / 2.0
    return masked_mean(torch.where(size <= delta, within, delta * (size - delta / 2)), real)
