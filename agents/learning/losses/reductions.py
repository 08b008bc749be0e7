"""Means over what is real, one a policy, and the small checks that all terms share.

Padding may hold anything, NaN included, and so may another policy. Two habits keep both out of a
loss and of its gradient: sums run within a policy, and what is not real is replaced by
`torch.where` *before* anything curved is done to it (`0 * nan` and `0 * inf` are NaN, also in the
backward pass of an `exp` whose result is thrown away).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.core.errors import UserError, did_you_mean

PerModelSetting = (
    float | Float[Tensor, " policy"]
)  # of a term: the same for all policies, or one each

REDUCTIONS = ("step", "sample")


def check_choice(name: str, value: str, choices: Iterable[str], *, path: str) -> str:
    """A name that must be one of a few, given as the parameter `path`.

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
    """A setting, the parameter `path`, between two numbers; one a policy is taken as it is.

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
    """A setting, the parameter `path`, above zero; one a policy or a pair is taken as it is.

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
    values: Float[Tensor, "policy *rest"], valid: Bool[Tensor, "policy *rest"]
) -> Float[Tensor, " policy"]:
    """Mean of the real values of each policy; 0 where there are none."""
    rest = tuple(range(1, values.dim()))
    return torch.where(valid, values, 0.0).sum(rest) / valid.sum(rest).clamp(min=1)


def per_sample_mean(
    values: Float[Tensor, "policy sample step"], mask: Bool[Tensor, "policy sample step"]
) -> Float[Tensor, "policy sample"]:
    """Mean over the real steps of each sample; 0 where there are none."""
    return torch.where(mask, values, 0.0).sum(-1) / mask.sum(-1).clamp(min=1)


def reduce_steps(
    values: Float[Tensor, "policy sample step"],
    mask: Bool[Tensor, "policy sample step"],
    reduction: str,
) -> Float[Tensor, " policy"]:
    """Mean over the real steps of each policy.

    Args:
        values: of each step.
        mask: which are real.
        reduction: `step`: every step counts the same, long samples more than short ones; `sample`: the
            mean of the samples' own means, every sample counts the same.

    Raises:
        UserError: `reduction` is neither.
    """
    if check_choice("way to average, `per`,", reduction, REDUCTIONS, path="per") == "step":
        return masked_mean(values, mask)
    return masked_mean(per_sample_mean(values, mask), mask.any(-1))
