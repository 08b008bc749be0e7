"""The people of a community: their values, which change, and fixed traits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from mores.core.random_streams import RandomStreams


@dataclasses.dataclass(frozen=True)
class People:
    """People of a batch of worlds.

    Attributes:
        values: position of each person on each value dimension.
        traits: other quantities of a person by name, `[world, agent]`.
        groups: group index of each person, or `None`.
    """

    values: Float[Tensor, "world agent value"]
    traits: Mapping[str, Float[Tensor, "world agent"]] = dataclasses.field(default_factory=dict)
    groups: Int[Tensor, "world agent"] | None = None


@runtime_checkable
class Population(Protocol):
    """A source of people: parameters, or real data."""

    def sample_people(self, streams: RandomStreams) -> People:
        """New people for `streams.num_worlds` worlds."""
        ...
