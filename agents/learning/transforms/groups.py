"""Samples that answer the same request: what they have in common.

    total_i = sum of x_j over j in the group of i        mean_i = total_i / n_i
    deviation_i = sqrt(sum of (x_j - mean_i)^2 / (n_i - 1)),   0 where n_i = 1

Every result stands at each sample of the group. Groups have any numbers and any sizes, and belong
to one policy: the same number in two policies means two groups. Samples that are not counted (they
have no real step) belong to none: nothing is learned from them, and they are told 0.
"""

from __future__ import annotations

import dataclasses
import functools

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch
from mores.agents.learning.losses.reductions import check_range


@dataclasses.dataclass(frozen=True)
class SampleGroups:
    """Who belongs together.

    Attributes:
        group_index: of each sample's group, from zero within its policy; the number of samples where a
            sample is not counted, which is nobody else's.
        valid: which samples count.
    """

    group_index: Int[Tensor, "policy sample"]
    valid: Bool[Tensor, "policy sample"]

    @staticmethod
    def from_ids(
        group_ids: Int[Tensor, "policy sample"], valid: Bool[Tensor, "policy sample"] | None = None
    ) -> SampleGroups:
        """Samples of the same number in the same policy; `valid`: all, where it is missing."""
        if valid is None:
            valid = torch.ones_like(group_ids, dtype=torch.bool)
        order = group_ids.argsort(dim=1, stable=True)
        in_order = group_ids.gather(1, order)
        begins = torch.zeros_like(in_order)
        begins[:, 1:] = in_order[:, 1:] != in_order[:, :-1]
        number = torch.zeros_like(order).scatter(1, order, begins.cumsum(1).to(order.dtype))
        return SampleGroups(torch.where(valid, number, group_ids.shape[1]), valid)

    @staticmethod
    def from_batch(batch: FeedbackBatch, caller: str) -> SampleGroups:
        """Those of a batch; samples without a real step do not count.

        Raises:
            UserError: the batch does not say who belongs together.
        """
        return SampleGroups.from_ids(batch.require("group", caller), batch.mask.any(-1))

    @staticmethod
    def single_group(valid: Bool[Tensor, "policy sample"]) -> SampleGroups:
        """All samples of a policy in one group."""
        return SampleGroups.from_ids(torch.zeros_like(valid, dtype=torch.int64), valid)

    @functools.cached_property
    def size(self) -> Int[Tensor, "policy sample"]:
        """How many samples each sample's group has, itself among them; 0 where not counted."""
        return self.sum(self.valid.long())

    def sum(self, x: Tensor) -> Tensor:
        """Sum over each sample's group, of `[policy, sample, ...]`."""
        index = self._expand_like(self.group_index, x)
        counted = self._expand_like(self.valid, x)
        slots = x.new_zeros(x.shape[0], x.shape[1] + 1, *x.shape[2:])
        sums = slots.scatter_add(1, index, torch.where(counted, x, 0))
        return torch.where(counted, sums.gather(1, index), 0)

    def mean(self, x: Tensor) -> Tensor:
        """Mean over each sample's group, of `[policy, sample, ...]`."""
        return self.sum(x) / self._expand_like(self.size, x).clamp(min=1)

    def centered(self, x: Tensor) -> Tensor:
        """What each sample has more than its group's mean, of `[policy, sample, ...]`."""
        return torch.where(self._expand_like(self.valid, x), x - self.mean(x), 0)

    def std(self, x: Tensor) -> Tensor:
        """Standard deviation in each sample's group (n - 1), 0 in groups of one."""
        squares = self.sum(self.centered(x).square())
        return (squares / (self._expand_like(self.size, x) - 1).clamp(min=1)).sqrt()

    def normalized(self, x: Tensor, epsilon: float) -> Tensor:
        """`(x - mean) / (deviation + epsilon)`, of `[policy, sample, ...]`."""
        return self.centered(x) / (self.std(x) + epsilon)

    def quantile(self, x: Float[Tensor, "policy sample *more"], q: float) -> Tensor:
        """The value below which a share of each group lies, interpolated between neighbours.

        Raises:
            UserError: the share is not between 0 and 1.
        """
        check_range("a quantile's share", q, 0.0, 1.0, path="share")
        index, count = self._expand_like(self.group_index, x), self._expand_like(self.size, x)
        by_value = x.argsort(dim=1, stable=True)
        by_group = index.gather(1, by_value).argsort(dim=1, stable=True)
        in_order = x.gather(1, by_value.gather(1, by_group))  # group after group, rising in each
        slots = index.new_zeros(x.shape[0], x.shape[1] + 1, *x.shape[2:])
        sizes = slots.scatter_add(1, index, torch.ones_like(index))
        begins = (sizes.cumsum(1) - sizes).gather(1, index)
        place = q * (count - 1).clamp(min=0).double()  # a place in a long list is no float32
        last = x.shape[1] - 1
        low = (begins + place.floor().long()).clamp(max=last)
        high = (begins + place.ceil().long()).clamp(max=last)
        below, above = in_order.gather(1, low), in_order.gather(1, high)
        found = below + (place - place.floor()).to(x.dtype) * (above - below)
        return torch.where(self._expand_like(self.valid, x), found, 0)

    @staticmethod
    def _expand_like(field: Tensor, x: Tensor) -> Tensor:
        """A field `[policy, sample]` in the shape of `x`."""
        return field.view(*field.shape, *[1] * (x.dim() - 2)).expand(x.shape)
