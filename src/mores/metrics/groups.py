"""Differences between the groups of people, and within them.

The groups are those of the population; a newcomer has the group of the parent. Sums are in double
precision, in a fixed order. `group_gap`: `mores.core.people_statistics`.
"""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from mores.core import people_statistics
from mores.core.deterministic_sum import mean, total
from mores.core.errors import UserError

Values = Float[Tensor, "world agent value"]
Groups = Int[Tensor, "world agent"]


def group_means(
    values: Values,
    groups: Groups,
    *,
    num_groups: Annotated[int, Field(ge=1, le=10_000)],
    value: Annotated[int, Field(ge=0)] = 0,
) -> Float[Tensor, "world group"]:
    """Mean over the people of each group of one value dimension; NaN for a group without people.

    `value` is the index of the dimension, from 0. The groups 0 to `num_groups` - 1 are reported.
    """
    if value >= values.shape[2]:
        message = f"group_means: value {value} of {values.shape[2]}; the first is 0"
        raise UserError(message, code="out_of_range", path="value")
    if int(groups.amax()) >= num_groups:
        message = f"group_means: num_groups is {num_groups}; people are in {int(groups.amax()) + 1}"
        raise UserError(message, code="out_of_range", path="num_groups")
    x = values[..., value, None].double()
    return people_statistics.group_means(x, groups, num_groups).mean[..., 0]


def within_group_rms(values: Values, groups: Groups) -> Float[Tensor, " world"]:
    """Root mean square distance of people from the mean of their group, value units.

    `rms_distance` squared is this squared plus the variance between groups.
    """
    deviation = _within_group_deviation(values.double(), groups)
    return mean(total(deviation * deviation, -1), 1).sqrt()


def eta_squared(values: Values, groups: Groups) -> Float[Tensor, "world value"]:
    """Share of the variance of each value that lies between groups, in [0, 1] (correlation ratio).

    1 - within / total, with sums of squares over people. 0: all groups have the same mean; 1: all
    people of a group agree, and groups differ. NaN if all people agree. It does not depend on the
    scale, and so does not show how far groups are apart: see `group_gap`. As a measure of the
    alignment of opinions with camps it is biased upwards by about (groups - 1) / (people - 1).
    Pearson 1905, Drapers' Company Research Memoirs, Biometric Series II.
    """
    x = values.double()
    deviation, within = x - mean(x, 1)[:, None], _within_group_deviation(x, groups)
    all_agree = (x == x[:, :1]).all(1)
    share = 1.0 - total(within * within, 1) / total(deviation * deviation, 1)
    return torch.where(all_agree, torch.nan, share.clamp(0.0, 1.0))


def _within_group_deviation(x: Values, groups: Groups) -> Values:
    """Deviation of each person from the mean of their group."""
    deviation = torch.zeros_like(x)
    for number in groups.unique().tolist():  # those of other worlds change nothing in a world
        member = (groups == number)[..., None]
        count = total(member.to(x.dtype), 1).clamp(min=1.0)
        group_mean = total(torch.where(member, x, 0.0), 1) / count
        deviation = torch.where(member, x - group_mean[:, None], deviation)
    return deviation
