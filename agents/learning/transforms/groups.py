"""Groups of samples that answer the same request, and statistics within them.

    sum_i = sum of x_j over j in the group of i        mean_i = sum_i / n_i
    std_i = sqrt(sum of (x_j - mean_i)^2 / (n_i - 1)),   0 where n_i = 1

Every result has the shape of the samples: each sample has the statistic of its group. Groups have
any ids and any sizes, and belong to one model: the same id in two models means two groups. Invalid
samples (without a valid step) belong to no group: they do not count, and their results are 0.
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
    """A partition of the samples of each model.

    Attributes:
        group_index: index of each sample's group, from zero within its model; the number of
            samples at invalid samples, which is no group's index.
        valid: which samples count.
    """

    group_index: Int[Tensor, "model sample"]
    valid: Bool[Tensor, "model sample"]

    @staticmethod
    def from_ids(
        group_ids: Int[Tensor, "model sample"], valid: Bool[Tensor, "model sample"] | None = None
    ) -> SampleGroups:
        """Groups of samples with the same id in the same model; `valid`: None means all."""
        if valid is None:
            valid = torch.ones_like(group_ids, dtype=torch.bool)
        order = group_ids.argsort(dim=1, stable=True)
        in_order = group_ids.gather(1, order)
        is_first = torch.zeros_like(in_order)
        is_first[:, 1:] = in_order[:, 1:] != in_order[:, :-1]
        index = torch.zeros_like(order).scatter(1, order, is_first.cumsum(1).to(order.dtype))
        return SampleGroups(torch.where(valid, index, group_ids.shape[1]), valid)

    @staticmethod
    def from_batch(batch: FeedbackBatch, caller: str) -> SampleGroups:
        """Groups by the field `group` of a batch; samples without a valid step do not count.

        Raises:
            UserError: the batch has no `group`.
        """
        return SampleGroups.from_ids(batch.require("group", caller), batch.mask.any(-1))

    @staticmethod
    def single_group(valid: Bool[Tensor, "model sample"]) -> SampleGroups:
        """One group with all samples of a model."""
        return SampleGroups.from_ids(torch.zeros_like(valid, dtype=torch.int64), valid)

    @functools.cached_property
    def size(self) -> Int[Tensor, "model sample"]:
        """Number of samples in the group of each sample, itself included; 0 at invalid samples."""
        return self.sum(self.valid.long())

    def sum(self, x: Tensor) -> Tensor:
        """Sum over each sample's group, of `[model, sample, ...]`."""
        index = self._expand_like(self.group_index, x)
        valid = self._expand_like(self.valid, x)
        slots = x.new_zeros(x.shape[0], x.shape[1] + 1, *x.shape[2:])
        sums = slots.scatter_add(1, index, torch.where(valid, x, 0))
        return torch.where(valid, sums.gather(1, index), 0)

    def mean(self, x: Tensor) -> Tensor:
        """Mean over each sample's group, of `[model, sample, ...]`."""
        return self.sum(x) / self._expand_like(self.size, x).clamp(min=1)

    def centered(self, x: Tensor) -> Tensor:
        """Value of each sample minus its group's mean, of `[model, sample, ...]`."""
        return torch.where(self._expand_like(self.valid, x), x - self.mean(x), 0)

    def std(self, x: Tensor) -> Tensor:
        """Standard deviation in each sample's group (n - 1), 0 in groups of one."""
        squares = self.sum(self.centered(x).square())
        return (squares / (self._expand_like(self.size, x) - 1).clamp(min=1)).sqrt()

    def normalized(self, x: Tensor, epsilon: float) -> Tensor:
        """`(x - mean) / (std + epsilon)`, of `[model, sample, ...]`."""
        return self.centered(x) / (self.std(x) + epsilon)

    def quantile(self, x: Float[Tensor, "model sample *more"], q: float) -> Tensor:
        """Quantile `q` of each group, interpolated linearly between neighbors.

        Raises:
            UserError: `q` is not in [0, 1].
        """
        check_range("q of a quantile", q, 0.0, 1.0, path="q")
        index, count = self._expand_like(self.group_index, x), self._expand_like(self.size, x)
        by_value = x.argsort(dim=1, stable=True)
        by_group = index.gather(1, by_value).argsort(dim=1, stable=True)
        in_order = x.gather(1, by_value.gather(1, by_group))  # group after group, rising in each
        slots = index.new_zeros(x.shape[0], x.shape[1] + 1, *x.shape[2:])
        sizes = slots.scatter_add(1, index, torch.ones_like(index))
        start = (sizes.cumsum(1) - sizes).gather(1, index)
        position = q * (count - 1).clamp(min=0).double()  # float32 is too coarse for long lists
        last = x.shape[1] - 1
        low = (start + position.floor().long()).clamp(max=last)
        high = (start + position.ceil().long()).clamp(max=last)
        below, above = in_order.gather(1, low), in_order.gather(1, high)
        quantile = below + (position - position.floor()).to(x.dtype) * (above - below)
        return torch.where(self._expand_like(self.valid, x), quantile, 0)

    @staticmethod
    def _expand_like(field: Tensor, x: Tensor) -> Tensor:
        """A field `[model, sample]` in the shape of `x`."""
        return field.view(*field.shape, *[1] * (x.dim() - 2)).expand(x.shape)
