"""Human models: fitted to survey data and experiments, and idealised.

The data, the fit, and the predictions that fail: docs/explanation/default_human.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from mores.agents.people.parameters import scaled
from mores.core.errors import ParameterError
from mores.core.human import Human, HumanInRounds
from mores.registry.varying import PersonNumber

NonNegative = Annotated[float, PersonNumber(ge=0)]
Share = Annotated[float, PersonNumber(ge=0, le=1)]

# Estimates for the fitted human model, in points of the panel's scale of seven items.
PANEL_STD, PANEL_VOLATILITY, PANEL_ANSWER_NOISE = 1.70, 1.01, 1.00


class Idealised(Human):
    """People whose values change by influence alone: changes are permanent, answers are exact.

    Classical models of opinion dynamics, which have closed forms, make these assumptions. Compared
    with `Fitted`, an assistant moves people further, and more of the change is permanent. Other
    parameter values give other human models.

    Values of a person are a disposition plus a temporary deviation, as in
    `mores.envs.dynamics.trait_state`; an answer adds noise. Numbers may differ between people.

    Raises:
        ValidationError: volatility or a permanent share without a half-life.
    """

    tags: ClassVar[Mapping[str, object]] = {"real": False}

    half_life: Annotated[float, PersonNumber(gt=0)] | None = Field(
        default=None,
        description="half-life of a temporary deviation from the disposition, years; null: no "
        "deviations, changes are permanent",
    )
    permanent_share: Share = Field(
        default=0.0, description="share of a change that moves the disposition"
    )
    volatility: NonNegative = Field(
        default=0.0,
        description="standard deviation of temporary deviations, population standard deviations",
    )
    volatility_heterogeneity: float = Field(
        default=0.0, ge=0, le=20, description="differences between people in volatility"
    )
    disposition_noise: NonNegative = Field(
        default=0.0,
        description="random change of dispositions, population standard deviations per square "
        "root of a year",
    )
    answer_noise: NonNegative = Field(
        default=0.0,
        description="standard deviation of the noise of an answer, population standard deviations",
    )
    influence: Share = Field(
        default=0.1, description="share of the distance to a position that a conversation closes"
    )

    def model_post_init(self, context: object) -> None:
        """Check that there are no temporary deviations without a half-life."""
        for name in ("volatility", "permanent_share"):
            if self.half_life is None and getattr(self, name):
                message = f"{name} has no effect without half_life"
                raise ParameterError(name, message=message, code="conflict")

    def in_rounds(self, rounds_per_year: float, population_std: float) -> HumanInRounds:
        """The parameters in rounds and value units: see `Human.in_rounds`."""
        per_round = population_std / math.sqrt(rounds_per_year)
        return HumanInRounds(
            half_life=None if self.half_life is None else scaled(self.half_life, rounds_per_year),
            permanent_share=self.permanent_share,
            volatility=scaled(self.volatility, population_std),
            volatility_heterogeneity=self.volatility_heterogeneity,
            disposition_noise_std=scaled(self.disposition_noise, per_round),
            answer_noise_std=scaled(self.answer_noise, population_std),
            influence=self.influence,
        )


class Fitted(Idealised):
    """People fitted to a panel survey of four years and to experiments with conversations.

    British Social Attitudes panel 1983-86 (264 people) and Hackenburg et al. 2025 (arXiv
    2507.13919). Of its tested predictions one fails: the odds of agreeing more after a debate are
    too large. `influence` is that of the most persuasive configuration of a language model.

    Raises:
        ValidationError: volatility or a permanent share without a half-life.
    """

    tags: ClassVar[Mapping[str, object]] = {"real": True}

    half_life: Annotated[float, PersonNumber(gt=0)] | None = Field(
        default=0.5 / 12.0,
        description="half-life of a temporary deviation from the disposition, years: half a month",
    )
    permanent_share: Share = Field(
        default=0.20, description="share of a change that moves the disposition"
    )
    volatility: NonNegative = Field(
        default=PANEL_VOLATILITY / PANEL_STD,
        description="standard deviation of temporary deviations, population standard deviations",
    )
    volatility_heterogeneity: float = Field(
        default=1.06, ge=0, le=20, description="differences between people in volatility"
    )
    answer_noise: NonNegative = Field(
        default=PANEL_ANSWER_NOISE / PANEL_STD,
        description="standard deviation of the noise of an answer, population standard deviations",
    )
    influence: Share = Field(
        default=0.337, description="share of the distance to a position that a conversation closes"
    )
