"""How people keep and change their values, in units that do not depend on an environment.

A `Human` is stated in standard deviations of the population and in years. An environment has other
units: its own scale, and rounds, of which `rounds_per_year` make a year. `in_rounds` converts.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from mores.core.config import Config
from mores.core.errors import ParameterError


@dataclasses.dataclass(frozen=True)
class HumanInRounds:
    """A human in the units of an environment.

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


class Human(Config):
    """A kind of people: how stable their values are, and how far a conversation moves them.

    Every field but the half-life may be 0. Values of a person: disposition + temporary deviation;
    an answer adds noise (`mores.envs.dynamics.trait_state`, `survey_respondent`).
    """

    tags: ClassVar[Mapping[str, object]] = {}  # for `mores list --where`

    half_life: float | None = Field(
        default=None,
        gt=0,
        description="half-life of a temporary deviation from the disposition, years; null: none, "
        "changes are permanent",
    )
    permanent_share: float = Field(
        default=0.0, ge=0, le=1, description="share of a change that moves the disposition"
    )
    volatility: float = Field(
        default=0.0,
        ge=0,
        description="standard deviation of temporary deviations, in standard deviations of the "
        "population's dispositions",
    )
    volatility_heterogeneity: float = Field(
        default=0.0, ge=0, le=20, description="differences between people in volatility"
    )
    disposition_noise: float = Field(
        default=0.0,
        ge=0,
        description="random change of dispositions, population standard deviations per square "
        "root of a year",
    )
    answer_noise: float = Field(
        default=0.0,
        ge=0,
        description="standard deviation of the noise of an answer, in population standard "
        "deviations",
    )
    influence: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="share of the distance to a position that one conversation closes",
    )

    def model_post_init(self, context: object) -> None:
        """Refuse temporary deviations without a half-life."""
        if self.half_life is None and (self.volatility or self.permanent_share):
            name = "volatility" if self.volatility else "permanent_share"
            raise ParameterError(
                name, message=f"{name} has no effect without half_life", code="conflict"
            )

    def in_rounds(self, rounds_per_year: float, population_std: float) -> HumanInRounds:
        """This human in the units of an environment.

        Args:
            rounds_per_year: rounds that make a year, above 0.
            population_std: standard deviation of the population's dispositions, value units.
        """
        return HumanInRounds(
            half_life=None if self.half_life is None else self.half_life * rounds_per_year,
            permanent_share=self.permanent_share,
            volatility=self.volatility * population_std,
            volatility_heterogeneity=self.volatility_heterogeneity,
            disposition_noise_std=self.disposition_noise
            * population_std
            / math.sqrt(rounds_per_year),
            answer_noise_std=self.answer_noise * population_std,
            influence=self.influence,
        )
