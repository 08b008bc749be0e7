"""The people of a community: their values, which change, and fixed traits."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from mores.core.config import Config
from mores.core.random_streams import RandomStreams


@dataclasses.dataclass(frozen=True)
class People:
    """People of a batch of worlds.

    Attributes:
        values: position of each person on each value dimension, value units.
        traits: other quantities of a person by name, such as age or the sample of a person
            parameter, each in its own unit.
        groups: group index of each person, from 0; None: no groups.
        group_names: name of each group, by index; the same in all worlds. Empty: groups have
            no names.
    """

    values: Float[Tensor, "world agent value"]
    traits: Mapping[str, Float[Tensor, "world agent"]] = dataclasses.field(default_factory=dict)
    groups: Int[Tensor, "world agent"] | None = None
    group_names: tuple[str, ...] = ()


class Population(Config, ABC):
    """Source of people: a distribution, or respondents of a survey."""

    @abstractmethod
    def sample_people(self, streams: RandomStreams) -> People:
        """New people for `streams.num_worlds` worlds."""

    @property
    def value_names(self) -> tuple[str, ...]:
        """Names of the value dimensions. Empty: those of the environment."""
        return ()

    @property
    def group_names(self) -> tuple[str, ...]:
        """Name of each group of `People.groups`, by index. Empty: no groups, or without names."""
        return ()

    @property
    def person_names(self) -> tuple[str, ...]:
        """Names of the people in their order. Empty: they have none, or no order."""
        return ()

    @property
    def value_std(self) -> float | None:
        """Standard deviation of dispositions over people, value units; None: unknown.

        Root mean square over value dimensions. It is the unit of the parameters of a `Human`.
        """
        return None

    @property
    def resamples_people(self) -> bool:
        """Whether every world has its own sample of respondents, with replacement."""
        return False

    @property
    def remarks(self) -> tuple[str, ...]:
        """Notes on the data for the user, such as the number of excluded respondents.

        `mores check` prints them, `mores run` writes them to its log.
        """
        return ()

    def environment_parameters(self) -> Mapping[str, Any]:
        """Parameters of the environment that the population determines, such as `num_people`."""
        return {}
