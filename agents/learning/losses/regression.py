"""Regression losses of value heads and reward heads.

    value_loss       mean over steps of (V_t - target_t)^2; with a clip range c, of the larger of
                     this square and (V_old + clip(V_t - V_old, -c, c) - target_t)^2
    regression_loss  mean of (s - y)^2, or of Huber's loss (1964): e^2 / 2 for |e| <= `delta`, else
                     `delta` (|e| - `delta` / 2), with e = s - y

Clipping of values is that of OpenAI Baselines' PPO2; the PPO paper (arXiv 1707.06347) has none.
`regression_loss` fits absolute scores, as one of the two losses of Baichuan's reward model does
(arXiv 2410.14940); the other compares samples. The squared errors have no factor 1/2, Huber's loss
has it.
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
) -> Float[Tensor, " model"]:
    """Squared error of the value head.

    Args:
        out: output of the models, with `value`.
        batch: with `value_target`, and `old_value` if there is a clip range.
        clip_range_vf: largest change from the old value that lowers the loss, in units of value;
            None: no clipping.
        reduction: `step` or `sample`, see `reduce_steps`.
        subset: samples used, see `select_samples`.

    Raises:
        UserError: a setting is unknown or out of range, or a required field is missing.
    """
    mask = select_steps(batch, subset, "value_loss")
    value = torch.where(mask, out.require("value", "value_loss"), 0.0)
    target = torch.where(mask, batch.require("value_target", "value_loss"), 0.0)
    loss = (value - target).square()
    if clip_range_vf is not None:
        check_positive("clip_range_vf of value_loss", clip_range_vf, path="clip_range_vf")
        old = torch.where(mask, batch.require("old_value", "value_loss with clip_range_vf"), 0.0)
        clip_range = torch.as_tensor(
            broadcast_setting(clip_range_vf, value), dtype=value.dtype, device=value.device
        )
        clipped = old + torch.clamp(value - old, -clip_range, clip_range)
        loss = torch.maximum(loss, (clipped - target).square())
    return reduce_steps(loss, mask, reduction)


def regression_loss(
    out: ModelOutput,
    batch: FeedbackBatch,
    *,
    loss_type: str = "mse",
    delta: float = 1.0,
    ignore_nan: bool = False,
    subset: str = "all",
) -> Float[Tensor, " model"]:
    """Error of the reward heads against the target of each sample.

    Args:
        out: output of the models, with `score`.
        batch: with `target`.
        loss_type: `mse` or `huber`.
        delta: largest error at which Huber's loss is quadratic, in units of the score.
        ignore_nan: whether NaN in `target` marks a missing target, which is left out; otherwise it
            makes the loss of that model NaN.
        subset: samples used, see `select_samples`.

    Raises:
        UserError: a setting is unknown or out of range, or a required field is missing.
    """
    check_choice("loss_type of regression_loss", loss_type, LOSS_TYPES, path="loss_type")
    score = out.require("score", "regression_loss")
    target = batch.require("target", "regression_loss")
    if score.shape[-1] != target.shape[-1]:
        raise UserError(
            "regression_loss needs as many scores as targets, not "
            f"{score.shape[-1]} and {target.shape[-1]}",
            code="wrong_shape",
            path="target",
        )
    valid = (batch.mask.any(-1) & select_samples(batch, subset, "regression_loss"))[..., None]
    valid = valid & ~target.isnan() if ignore_nan else valid.expand_as(target)
    error = torch.where(valid, score, 0.0) - torch.where(valid, target, 0.0)
    if loss_type == "mse":
        return masked_mean(error.square(), valid)
    check_positive("delta of regression_loss", delta, path="delta")
    distance = error.abs()
    quadratic, linear = error.square() / 2.0, delta * (distance - delta / 2)
    return masked_mean(torch.where(distance <= delta, quadratic, linear), valid)
