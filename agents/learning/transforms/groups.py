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
from mores.agents.learning.losses.reductions import within


@dataclasses.dataclass(frozen=True)
class Groups:
    """Who belongs together.

    Attributes:
        number: of each sample's group, from zero within its policy; the number of samples where a
            sample is not counted, which is nobody else's.
        counted: which samples count.
    """

    number: Int[Tensor, "policy sample"]
    counted: Bool[Tensor, "policy sample"]

    @staticmethod
    def of(
        group: Int[Tensor, "policy sample"], counted: Bool[Tensor, "policy sample"] | None = None
    ) -> Groups:
        """Samples of the same number in the same policy; `counted`: all, where it is missing."""
        if counted is None:
            counted = torch.ones_like(group, dtype=torch.bool)
        order = group.argsort(dim=1, stable=True)
        in_order = group.gather(1, order)
        begins = torch.zeros_like(in_order)
        begins[:, 1:] = in_order[:, 1:] != in_order[:, :-1]
        number = torch.zeros_like(order).scatter(1, order, begins.cumsum(1).to(order.dtype))
        return Groups(torch.where(counted, number, group.shape[1]), counted)

    @staticmethod
    def in_batch(batch: FeedbackBatch, why: str) -> Groups:
        """Those of a batch; samples without a real step do not count.

        Raises:
            UserError: the batch does not say who belongs together.
        """
        return Groups.of(batch.need("group", why), batch.mask.any(-1))

    @staticmethod
    def whole(counted: Bool[Tensor, "policy sample"]) -> Groups:
        """All samples of a policy in one group."""
        return Groups.of(torch.zeros_like(counted, dtype=torch.int64), counted)

    @functools.cached_property
    def count(self) -> Int[Tensor, "policy sample"]:
        """How many samples each sample's group has, itself among them; 0 where not counted."""
        return self.total(self.counted.long())

    def total(self, x: Tensor) -> Tensor:
        """Sum over each sample's group, of `[policy, sample, ...]`."""
        index = self._like(self.number, x)
        counted = self._like(self.counted, x)
        slots = x.new_zeros(x.shape[0], x.shape[1] + 1, *x.shape[2:])
        sums = slots.scatter_add(1, index, torch.where(counted, x, 0))
        return torch.where(counted, sums.gather(1, index), 0)

    def mean(self, x: Tensor) -> Tensor:
        """Mean over each sample's group, of `[policy, sample, ...]`."""
        return self.total(x) / self._like(self.count, x).clamp(min=1)

    def centred(self, x: Tensor) -> Tensor:
        """What each sample has more than its group's mean, of `[policy, sample, ...]`."""
        return torch.where(self._like(self.counted, x), x - self.mean(x), 0)

    def deviation(self, x: Tensor) -> Tensor:
        """Standard deviation in each sample's group (n - 1), 0 in groups of one."""
        squares = self.total(self.centred(x).square())
        return (squares / (self._like(self.count, x) - 1).clamp(min=1)).sqrt()

    def normalised(self, x: Tensor, epsilon: float) -> Tensor:
        """`(x - mean) / (deviation + epsilon)`, of `[policy, sample, ...]`."""
        return self.centred(x) / (self.deviation(x) + epsilon)

    def quantile(self, x: Float[Tensor, "policy sample *more"], share: float) -> Tensor:
        """The value below which a share of each group lies, interpolated between neighbours.

        Raises:
            UserError: the share is not between 0 and 1.
        """
        within("a quantile's share", share, 0.0, 1.0, path="share")
        index, count = self._like(self.number, x), self._like(self.count, x)
        by_value = x.argsort(dim=1, stable=True)
        by_group = index.gather(1, by_value).argsort(dim=1, stable=True)
        in_order = x.gather(1, by_value.gather(1, by_group))  # group after group, rising in each
        slots = index.new_zeros(x.shape[0], x.shape[1] + 1, *x.shape[2:])
        sizes = slots.scatter_add(1, index, torch.ones_like(index))
        begins = (sizes.cumsum(1) - sizes).gather(1, index)
        place = share * (count - 1).clamp(min=0).double()  # a place in a long list is no float32
        last = x.shape[1] - 1
        low = (begins + place.floor().long()).clamp(max=last)
        high = (begins + place.ceil().long()).clamp(max=last)
        below, above = in_order.gather(1, low), in_order.gather(1, high)
        found = below + (place - place.floor()).to(x.dtype) * (above - below)
        return torch.where(self._like(self.counted, x), found, 0)

    @staticmethod
    def _like(field: Tensor, x: Tensor) -> Tensor:
        """A field `[policy, sample]` in the shape of `x`."""
        return field.view(*field.shape, *[1] * (x.dim() - 2)).expand(x.shape)
