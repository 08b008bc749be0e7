"""Compares one world in two simulations, call by call.

Replicate 1 alone must equal replicate 1 of 2: bit for bit, or to rounding after the first result of
a network, since products of matrices are added in an order that depends on the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mores.sim.value_checks import Call

ROUNDING = 1e-4  # relative to the largest number of a tensor, or absolute: far above rounding
MAX_FLIPPED = 1e-3  # share of choices that rounding may flip


class Difference(NamedTuple):
    """The first difference between two simulations of a world.

    Attributes:
        call: the call that returned it.
        name: name of the tensor.
        size: largest difference; infinite: other shapes.
        is_rounding: whether it may be rounding.
    """

    call: Call
    name: str
    size: float
    is_rounding: bool


class WorldComparison:
    """Comparison of the calls of two simulations, round by round.

    Args:
        row, other_row: index of the world in the first and the second simulation.
        rounding_paths: paths of errors of policies after whose first result rounding is accepted.
    """

    def __init__(self, row: int, other_row: int, rounding_paths: frozenset[str]) -> None:
        self._row, self._other_row = row, other_row
        self._rounding_paths = rounding_paths
        self._accepts_rounding = self._flipped = False

    def first_difference(self, calls: Sequence[Call], others: Sequence[Call]) -> Difference | None:
        """The first difference that is not accepted, in the calls of a round."""
        for call, other in zip(calls, others, strict=False):
            if self._flipped:
                return None
            self._accepts_rounding = self._accepts_rounding or call.path in self._rounding_paths
            if call.method != other.method or call.tensors.keys() != other.tensors.keys():
                return Difference(call, "", float("inf"), False)
            for name, tensor in call.tensors.items():
                difference = self._compare(call, name, tensor, other.tensors[name])
                if difference is None:
                    continue
                if not (self._accepts_rounding and difference.is_rounding):
                    return difference
                self._flipped = self._flipped or not tensor.is_floating_point()
        return None

    def _compare(self, call: Call, name: str, tensor: Tensor, other: Tensor) -> Difference | None:
        one, two = tensor[self._row], other[self._other_row]
        if one.dim() != two.dim() or one.dtype != two.dtype:
            return Difference(call, name, float("inf"), False)
        # Worlds with other numbers of entries (ties of graphs) are padded with zeros at the end.
        shape = [max(sizes) for sizes in zip(one.shape, two.shape, strict=True)]
        one, two = _padded(one, shape), _padded(two, shape)
        if torch.equal(one, two):
            return None
        unequal = (one != two) & ~((one != one) & (two != two))  # NaN equals NaN
        if not unequal.any():
            return None
        if not one.is_floating_point():
            flipped = float(unequal.float().mean())
            return Difference(call, name, flipped, flipped <= MAX_FLIPPED)
        distance = torch.where(unequal, (one - two).abs().double(), 0.0)
        size = float(distance.nan_to_num(float("inf")).max())
        largest = float(one.double().abs().nan_to_num(0.0, 0.0, 0.0).max())
        return Difference(call, name, size, size <= ROUNDING * max(1.0, largest))


def _padded(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """The tensor with zeros at the ends of its dimensions, up to a shape."""
    if list(tensor.shape) == list(shape):
        return tensor
    padded = tensor.new_zeros(shape)
    padded[tuple(slice(size) for size in tensor.shape)] = tensor
    return padded
