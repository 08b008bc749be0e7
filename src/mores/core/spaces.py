"""What may be seen and done: a choice, several choices, a vector of named parts."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mores.core.errors import did_you_mean


@dataclasses.dataclass(frozen=True)
class Discrete:
    """A choice among `num_options`, numbered from zero."""

    num_options: int


@dataclasses.dataclass(frozen=True)
class MultiDiscrete:
    """Several choices at once, each among its own number of options, numbered from zero."""

    num_options: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many choices."""
        return len(self.num_options)


@dataclasses.dataclass(frozen=True)
class Part:
    """A named stretch of a vector: its length, and the range of each number in it."""

    size: int
    low: float = -math.inf
    high: float = math.inf


@dataclasses.dataclass(frozen=True)
class Box:
    """A vector made of named parts, so that nobody reads it by number."""

    parts: Mapping[str, Part]

    @staticmethod
    def of(**parts: int | Part) -> Box:
        """`Box.of(values=3, voice=Part(1, 0.0, 1.0))`: a number is a length without bounds."""
        return Box({n: Part(p) if isinstance(p, int) else p for n, p in parts.items()})

    @functools.cached_property
    def size(self) -> int:
        """Length of the whole vector."""
        return sum(part.size for part in self.parts.values())

    @functools.cached_property
    def low(self) -> tuple[float, ...]:
        """Smallest value of each number."""
        return tuple(part.low for part in self.parts.values() for _ in range(part.size))

    @functools.cached_property
    def high(self) -> tuple[float, ...]:
        """Largest value of each number."""
        return tuple(part.high for part in self.parts.values() for _ in range(part.size))

    @functools.cached_property
    def limits(self) -> tuple[Float[Tensor, " size"], Float[Tensor, " size"]]:
        """`low` and `high` as tensors."""
        return torch.tensor(self.low), torch.tensor(self.high)

    @functools.cached_property
    def _slices(self) -> Mapping[str, slice]:
        slices, at = {}, 0
        for name, part in self.parts.items():
            slices[name] = slice(at, at + part.size)
            at += part.size
        return slices

    def read(self, vector: Tensor, name: str) -> Tensor:
        """The named part of a vector `[..., size]`."""
        if name not in self._slices:
            raise KeyError(f"no part {name!r} here{did_you_mean(name, self._slices)}")
        return vector[..., self._slices[name]]

    def join(self, **parts: Tensor) -> Tensor:
        """The vector `[..., size]` from its parts `[..., part]`; leading sizes are broadcast."""
        if set(parts) != set(self.parts):
            raise KeyError(f"needs the parts {sorted(self.parts)}, not {sorted(parts)}")
        # numpy's, since torch's imports sympy (0.6 CPU s)
        leading = np.broadcast_shapes(*(part.shape[:-1] for part in parts.values()))
        return torch.cat([parts[n].expand(*leading, -1) for n in self.parts], -1)


Space = Discrete | MultiDiscrete | Box
