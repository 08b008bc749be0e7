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

Setting = float | Float[Tensor, " policy"]  # of a term: the same for all policies, or one each

PER = ("step", "sample")


def one_of(what: str, given: str, allowed: Iterable[str], *, path: str) -> str:
    """A name that must be one of a few, given as the parameter `path`.

    Raises:
        UserError: it is not.
    """
    allowed = tuple(allowed)
    if given not in allowed:
        raise UserError(
            f"no {what} {given!r}{did_you_mean(given, allowed)}", code="invalid_value", path=path
        )
    return given


def within(what: str, given: Setting, low: float, high: float, *, path: str) -> Setting:
    """A setting, the parameter `path`, between two numbers; one a policy is taken as it is.

    Raises:
        UserError: it does not.
    """
    if not isinstance(given, Tensor) and not low <= given <= high:
        raise UserError(
            f"{what} must lie in [{low:g}, {high:g}], not be {given:g}",
            code="out_of_range",
            path=path,
        )
    return given


def positive(what: str, given: float | Tensor, *, path: str) -> float | Tensor:
    """A setting, the parameter `path`, above zero; one a policy or a pair is taken as it is.

    Raises:
        UserError: it is not.
    """
    if not isinstance(given, Tensor) and not given > 0.0:
        raise UserError(f"{what} must be above 0, not {given:g}", code="out_of_range", path=path)
    return given


def along(setting: float | Tensor, like: Tensor) -> float | Tensor:
    """A setting in a shape that multiplies `like`, whose leading dimensions it has."""
    if not isinstance(setting, Tensor):
        return setting
    return setting.reshape(*setting.shape, *[1] * (like.dim() - setting.dim()))


def average(
    values: Float[Tensor, "policy *rest"], real: Bool[Tensor, "policy *rest"]
) -> Float[Tensor, " policy"]:
    """Mean of the real values of each policy; 0 where there are none."""
    rest = tuple(range(1, values.dim()))
    return torch.where(real, values, 0.0).sum(rest) / real.sum(rest).clamp(min=1)


def sample_average(
    values: Float[Tensor, "policy sample step"], mask: Bool[Tensor, "policy sample step"]
) -> Float[Tensor, "policy sample"]:
    """Mean over the real steps of each sample; 0 where there are none."""
    return torch.where(mask, values, 0.0).sum(-1) / mask.sum(-1).clamp(min=1)


def step_average(
    values: Float[Tensor, "policy sample step"],
    mask: Bool[Tensor, "policy sample step"],
    per: str,
) -> Float[Tensor, " policy"]:
    """Mean over the real steps of each policy.

    Args:
        values: of each step.
        mask: which are real.
        per: `step`: every step counts the same, long samples more than short ones; `sample`: the
            mean of the samples' own means, every sample counts the same.

    Raises:
        UserError: `per` is neither.
    """
    if one_of("way to average, `per`,", per, PER, path="per") == "step":
        return average(values, mask)
    return average(sample_average(values, mask), mask.any(-1))
