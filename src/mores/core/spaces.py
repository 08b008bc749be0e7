"""Observation and action spaces: one choice, several choices, a vector of named parts."""

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
    """A choice among `num_options` options, numbered from 0."""

    num_options: int


@dataclasses.dataclass(frozen=True)
class MultiDiscrete:
    """Several simultaneous choices, each with its own number of options, numbered from 0."""

    num_options: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of choices."""
        return len(self.num_options)


@dataclasses.dataclass(frozen=True)
class Part:
    """A named slice of a vector: its length, and the range of each number."""

    size: int
    low: float = -math.inf
    high: float = math.inf


@dataclasses.dataclass(frozen=True)
class Box:
    """A vector of named parts, read by name and not by index."""

    parts: Mapping[str, Part]

    @staticmethod
    def of(**parts: int | Part) -> Box:
        """`Box.of(values=3, voice=Part(1, 0.0, 1.0))`; a number is the length of a part."""
        return Box({n: Part(p) if isinstance(p, int) else p for n, p in parts.items()})

    @functools.cached_property
    def size(self) -> int:
        """Length of the vector."""
        return sum(part.size for part in self.parts.values())

    @functools.cached_property
    def low(self) -> tuple[float, ...]:
        """Lower bound of each number."""
        return tuple(part.low for part in self.parts.values() for _ in range(part.size))

    @functools.cached_property
    def high(self) -> tuple[float, ...]:
        """Upper bound of each number."""
        return tuple(part.high for part in self.parts.values() for _ in range(part.size))

    @functools.cached_property
    def limits(self) -> tuple[Float[Tensor, " size"], Float[Tensor, " size"]]:
        """`low` and `high` as tensors."""
        return torch.tensor(self.low), torch.tensor(self.high)

    @functools.cached_property
    def is_bounded(self) -> bool:
        """Whether any number has a limit."""
        return any(map(math.isfinite, (*self.low, *self.high)))

    def clamp(self, vector: Tensor) -> Tensor:
        """The vector `[..., size]` within the limits of its parts."""
        if not self.is_bounded:
            return vector
        if self._common_limits is not None:
            low, high = self._common_limits
            return vector.clamp(low, high)
        low, high = (limit.to(vector.device) for limit in self.limits)
        return vector.clamp(low, high)

    @functools.cached_property
    def _common_limits(self) -> tuple[float, float] | None:
        """Bounds in float32 that all share, with which torch clamps faster; None: they differ."""
        low, high = self.limits
        limits = set(zip(low.tolist(), high.tolist(), strict=True))
        return limits.pop() if len(limits) == 1 else None

    @functools.cached_property
    def _slices(self) -> Mapping[str, slice]:
        slices, start = {}, 0
        for name, part in self.parts.items():
            slices[name] = slice(start, start + part.size)
            start += part.size
        return slices

    def read(self, vector: Tensor, name: str) -> Tensor:
        """The named part of a vector `[..., size]`."""
        if name not in self._slices:
            raise KeyError(f"no part {name!r}{did_you_mean(name, self._slices)}")
        return vector[..., self._slices[name]]

    def join(self, **parts: Tensor) -> Tensor:
        """The vector `[..., size]` from its parts `[..., part]`; leading dimensions broadcast."""
        if set(parts) != set(self.parts):
            raise KeyError(f"needs the parts {sorted(self.parts)}, not {sorted(parts)}")
        # numpy's function, since torch's imports sympy (0.6 CPU s)
        leading = np.broadcast_shapes(*(part.shape[:-1] for part in parts.values()))
        ordered = [parts[name] for name in self.parts]
        return torch.cat(
            [p if p.shape[:-1] == leading else p.expand(*leading, -1) for p in ordered], -1
        )


Space = Discrete | MultiDiscrete | Box
