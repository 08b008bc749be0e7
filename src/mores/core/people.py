"""The people of a community: values that move, and what does not move with them."""

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
        values: where each person stands on each value dimension.
        traits: other numbers of a person by name, `[world, agent]`.
        groups: the number of the group each person belongs to, or `None`.
    """

    values: Float[Tensor, "world agent value"]
    traits: Mapping[str, Float[Tensor, "world agent"]] = dataclasses.field(default_factory=dict)
    groups: Int[Tensor, "world agent"] | None = None


@runtime_checkable
class Population(Protocol):
    """Where people come from: parameters, or real data."""

    def sample_people(self, draws: RandomStreams) -> People:
        """Fresh people for `draws.num_worlds` worlds."""
        ...
