"""Statistics of the values of a community, for environments' own metrics and for registered ones.

Sums have a fixed order, so that a world's numbers do not depend on the batch. Distances are
Euclidean, in value units.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mores.core.deterministic_sum import mean, norm, total


def mean_value(values: Float[Tensor, "world agent value"]) -> Float[Tensor, "world value"]:
    """Mean of people's values."""
    return mean(values, 1)


def rms_distance(values: Float[Tensor, "world agent value"]) -> Float[Tensor, " world"]:
    """Root mean square distance of people from their mean."""
    deviation = values - mean(values, 1)[:, None]
    return mean(total(deviation * deviation, -1), 1).sqrt()


class GroupMeans(NamedTuple):
    """Mean of each group, NaN for a group without people, and the number of people."""

    mean: Float[Tensor, "world group n"]
    num_people: Float[Tensor, "world group"]


def group_means(
    x: Float[Tensor, "world agent n"], groups: Int[Tensor, "world agent"], num_groups: int
) -> GroupMeans:
    """Means over the people of the groups 0 to `num_groups - 1`; time grows with their number."""
    means, counts = [], []
    for number in range(num_groups):
        member = groups == number
        counts.append(total(member.to(x.dtype), 1))
        means.append(total(torch.where(member[..., None], x, 0.0), 1) / counts[-1][:, None])
    return GroupMeans(torch.stack(means, 1), torch.stack(counts, 1))


def group_gap(
    values: Float[Tensor, "world agent value"], groups: Int[Tensor, "world agent"]
) -> Float[Tensor, " world"]:
    """Distance between the mean values of the first and the last group of people."""
    means = []
    for number in (groups.amin(1, keepdim=True), groups.amax(1, keepdim=True)):
        member = (groups == number)[..., None].to(torch.float32)
        means.append(total(member * values, 1) / total(member, 1))
    return norm(means[1] - means[0])
