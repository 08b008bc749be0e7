"""Kinds of people: how stable their values are, and how far a conversation moves them.

A human is stated in standard deviations of the population and in years. An environment has its own
scale, and rounds, of which `rounds_per_year` make a year. `Human.in_rounds` converts.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from mores.core.config import Config


@dataclasses.dataclass(frozen=True)
class HumanInRounds:
    """A human in the units of an environment.

    A number that differs between people is a `mores.core.person_parameters.PersonParameter`.

    Attributes:
        half_life: half-life of the temporary deviation from the disposition, rounds; None: changes
            of values are permanent.
        permanent_share: share of a change of values that moves the disposition, in [0, 1].
        volatility: standard deviation of the temporary deviation, value units, root mean square
            over people.
        volatility_heterogeneity: differences between people in volatility.
        disposition_noise_std: standard deviation of disposition changes per round, value units.
        answer_noise_std: standard deviation of the noise of an answer, value units, root mean
            square over people.
        influence: share of the distance to a position closed by one conversation, in [0, 1].
    """

    half_life: float | None
    permanent_share: float
    volatility: float
    volatility_heterogeneity: float
    disposition_noise_std: float
    answer_noise_std: float
    influence: float


class Human(Config, ABC):
    """A kind of people."""

    tags: ClassVar[Mapping[str, object]] = {}  # for `mores list --where`

    @abstractmethod
    def in_rounds(self, rounds_per_year: float, population_std: float) -> HumanInRounds:
        """This human in the units of an environment.

        Args:
            rounds_per_year: rounds that make a year, above 0.
            population_std: standard deviation of the population's dispositions, value units.
        """
