"""Masked means, one per model, and the checks of settings that all losses share.

Padding and other models may contain any value, NaN included. Two rules keep both out of a loss and
of its gradient: sums run within a model, and `torch.where` replaces invalid values *before* any
nonlinear function is applied (`0 * nan` and `0 * inf` are NaN, also in the backward pass of an
`exp` whose result is discarded).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.core.errors import UserError, did_you_mean

PerModelSetting = float | Float[Tensor, " model"]  # of a loss: one for all models, or one each

REDUCTIONS = ("step", "sample")


def check_choice(name: str, value: str, choices: Iterable[str], *, path: str) -> str:
    """The value of parameter `path`, if it is one of the choices.

    Raises:
        UserError: it is not.
    """
    choices = tuple(choices)
    if value not in choices:
        raise UserError(
            f"no {name} {value!r}{did_you_mean(value, choices)}", code="invalid_value", path=path
        )
    return value


def check_range(
    name: str, value: PerModelSetting, low: float, high: float, *, path: str
) -> PerModelSetting:
    """The value of parameter `path`, if it lies in [low, high]; tensors are not checked.

    Raises:
        UserError: it does not.
    """
    if not isinstance(value, Tensor) and not low <= value <= high:
        raise UserError(
            f"{name} must lie in [{low:g}, {high:g}], not be {value:g}",
            code="out_of_range",
            path=path,
        )
    return value


def check_positive(name: str, value: float | Tensor, *, path: str) -> float | Tensor:
    """The value of parameter `path`, if it is above 0; tensors are not checked.

    Raises:
        UserError: it is not.
    """
    if not isinstance(value, Tensor) and not value > 0.0:
        raise UserError(f"{name} must be above 0, not {value:g}", code="out_of_range", path=path)
    return value


def broadcast_setting(setting: float | Tensor, like: Tensor) -> float | Tensor:
    """A setting in a shape that multiplies `like`, whose leading dimensions it has."""
    if not isinstance(setting, Tensor):
        return setting
    return setting.reshape(*setting.shape, *[1] * (like.dim() - setting.dim()))


def masked_mean(
    values: Float[Tensor, "model *rest"], valid: Bool[Tensor, "model *rest"]
) -> Float[Tensor, " model"]:
    """Mean of the valid values of each model; 0 for a model without any."""
    rest = tuple(range(1, values.dim()))
    return torch.where(valid, values, 0.0).sum(rest) / valid.sum(rest).clamp(min=1)


def per_sample_mean(
    values: Float[Tensor, "model sample step"], mask: Bool[Tensor, "model sample step"]
) -> Float[Tensor, "model sample"]:
    """Mean over the valid steps of each sample; 0 for a sample without any."""
    return torch.where(mask, values, 0.0).sum(-1) / mask.sum(-1).clamp(min=1)


def reduce_steps(
    values: Float[Tensor, "model sample step"],
    mask: Bool[Tensor, "model sample step"],
    reduction: str,
) -> Float[Tensor, " model"]:
    """Mean over the valid steps of each model.

    Args:
        values: value of each step.
        mask: which steps are valid.
        reduction: `step`: every step has the same weight, so long samples weigh more; `sample`: the
            mean of the means of the samples, every sample has the same weight.

    Raises:
        UserError: `reduction` is neither.
    """
    if check_choice("reduction", reduction, REDUCTIONS, path="reduction") == "step":
        return masked_mean(values, mask)
    return masked_mean(per_sample_mean(values, mask), mask.any(-1))
