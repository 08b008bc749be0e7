"""Human models: stability of values, noise of answers, and effect of a conversation.

A human model applies to any environment, so its parameters are in standard deviations of the
population's dispositions and in years. `Human.in_rounds` converts them to the value units and the
rounds of an environment, of which `rounds_per_year` make a year. The dynamics that use them are in
`mores.envs.dynamics.trait_state`; the kinds are in `mores.agents.people.humans`.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from mores.core.config import Config


@dataclasses.dataclass(frozen=True)
class HumanInRounds:
    """Parameters of a human model in the units of an environment.

    The disposition is the stable part of a person's values, the trait of latent state-trait theory.
    A number that differs between people is a `mores.core.person_parameters.PersonParameter`.

    Attributes:
        half_life: half-life of the temporary deviation of values from the disposition, rounds;
            None: changes of values are permanent.
        permanent_share: share of a change of values that moves the disposition, in [0, 1].
        volatility: standard deviation of the temporary deviation, value units, root mean square
            over people.
        volatility_heterogeneity: differences between people in volatility, without unit; 0: none
            (`mores.envs.dynamics.trait_state`).
        disposition_noise_std: standard deviation of disposition changes per round, value units.
        answer_noise_std: standard deviation of the noise of an answer, value units, root mean
            square over people.
        influence: share of the distance between a person's values and the position of the other
            party that one conversation closes, in [0, 1].
    """

    half_life: float | None
    permanent_share: float
    volatility: float
    volatility_heterogeneity: float
    disposition_noise_std: float
    answer_noise_std: float
    influence: float


class Human(Config, ABC):
    """Human model: the parameters of people that do not depend on the environment."""

    tags: ClassVar[Mapping[str, object]] = {}  # for `mores list --where`

    @abstractmethod
    def in_rounds(self, rounds_per_year: float, population_std: float) -> HumanInRounds:
        """The parameters of the human model in the units of an environment.

        Args:
            rounds_per_year: number of rounds in a year, above 0.
            population_std: standard deviation of the population's dispositions, value units.
        """
