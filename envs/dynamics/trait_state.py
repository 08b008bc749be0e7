"""Latent state-trait dynamics: a value is a stable disposition plus a temporary state.

    v = d + s                              value = disposition + state residual
    round:            s' = 2^(-1/h) s + std sqrt(1 - 2^(-2/h)) z
                      d' = d + disposition_noise_std z'
    displacement m:   d' = d + p m,        s' = s + (1 - p) m,        p = permanent_share

h is the half-life of the state residual in rounds, z are standard normal. Without displacements the
residual has standard deviation `std = volatility * relative_volatility`. A person's relative
volatility is u^k sqrt(2 k + 1) for u uniform in (0, 1) and k = `volatility_heterogeneity`. Its root
mean square is 1 for every k, so all variances and correlations below hold for every k. People are
equal for k = 0; for k = 1 volatility is uniform from 0 to 1.73 times the root mean square; for
larger k many people hardly change and some change much, as panel studies find.

Of a displacement, `p + (1 - p) 2^(-t/h)` remains after t rounds. Without a half-life there is no
state residual and displacements are permanent.

Every parameter but the heterogeneity may differ between people
(`mores.core.person_parameters`): `rates` gives those of each person.

The environment determines the order of events in a round: it calls `advance_round` and `displace`.
Noise of the *answer* belongs to the response model. Measurements of these parameters, and which of
them data cannot separate: docs/explanation/default_human.md.

Trait, autoregressive state and error: Kenny and Zautra 1995, J. Consult. Clin. Psychol. 63, 52.
Panel answers reflect stable dispositions: Kiley and Vaisey 2020, Am. Sociol. Rev. 85, 477.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import Field, ValidationError
from torch import Tensor

from mores.core.config import Config
from mores.core.errors import ParameterError, UserError
from mores.core.human import Human, HumanInRounds
from mores.core.parameter_tensor import ParameterTensor
from mores.core.person_parameters import person_parameters, resolve_parameters
from mores.core.random_streams import RandomStreams
from mores.core.stream_addresses import INITIAL_RESIDUAL, RELATIVE_VOLATILITY, RESIDUAL
from mores.core.validation_messages import validation_problems
from mores.registry.varying import PersonNumber

UNIFORM_OFFSET = 2.0**-25  # half the spacing of uniform numbers: avoids log(0)


Rate = float | Float[Tensor, "world agent 1"]  # equal for all people, or of each person


@dataclasses.dataclass(frozen=True)
class Rates:
    """What the parameters amount to in a round.

    Attributes:
        decay: share of the state residual that remains a round later, in [0, 1].
        permanent_share: share of a displacement that moves the disposition, in [0, 1].
        volatility: standard deviation of the state residual, value units.
        renewal_std: standard deviation of its renewal in a round.
        disposition_noise_std: standard deviation of disposition changes in a round.
    """

    decay: Rate
    permanent_share: Rate
    volatility: Rate
    renewal_std: Rate
    disposition_noise_std: Rate

    @property
    def numbers(self) -> Rates:
        """The same, with tensors that behave as numbers (`mores.core.parameter_tensor`)."""
        rates = (getattr(self, field.name) for field in dataclasses.fields(self))
        return Rates(*(ParameterTensor.of(r) if isinstance(r, Tensor) else r for r in rates))


@dataclasses.dataclass(frozen=True)
class TraitState:
    """Disposition and state residual of people.

    Attributes:
        disposition: value to which each person reverts.
        state_residual: current deviation from it.
        relative_volatility: volatility over the root mean square of all people's; at least 0.
        rates: rates of each person; None: equal for all.
    """

    disposition: Float[Tensor, "world agent value"]
    state_residual: Float[Tensor, "world agent value"]
    relative_volatility: Float[Tensor, "world agent"]
    rates: Rates | None = None

    @property
    def values(self) -> Float[Tensor, "world agent value"]:
        """Current values, without answer noise."""
        return self.disposition + self.state_residual


class TraitStateDynamics(Config):
    """Parameters of the persistence of people's values; default: displacements are permanent.

    Raises:
        ValidationError: a state residual without a half-life.
    """

    half_life: Annotated[float, PersonNumber(gt=0)] | None = Field(
        default=None,
        description="half-life of the temporary deviation from the disposition, rounds; null: none",
    )
    permanent_share: Annotated[float, PersonNumber(ge=0, le=1)] = Field(
        default=0.0, description="share of a change of values that moves the disposition"
    )
    retained_share: Annotated[float, PersonNumber(ge=0, le=1)] | None = Field(
        default=None,
        description="share of a change of values that remains one round later, as follow-ups "
        "measure it; with half_life it determines permanent_share and replaces it",
    )
    volatility: Annotated[float, PersonNumber(ge=0)] = Field(
        default=0.0,
        description="standard deviation of the temporary deviation, value units, root mean square "
        "over people",
    )
    volatility_heterogeneity: float = Field(
        default=0.0,
        ge=0,
        le=20,
        description="differences between people in volatility; 0: equal, 1: uniform from 0 to "
        "1.73 times the root mean square, above: most people hardly change and few change much",
    )
    disposition_noise_std: Annotated[float, PersonNumber(ge=0)] = Field(
        default=0.0, description="standard deviation of disposition changes per round, value units"
    )

    def model_post_init(self, context: Any) -> None:
        """Refuse incompatible parameters."""
        given = {"permanent_share", "retained_share", "volatility"} & self.model_fields_set
        if self.half_life is None and any(getattr(self, name) for name in given):
            raise ParameterError(
                message=f"{min(given)} has no effect without half_life",
                code="conflict",
            )
        if self.retained_share is not None and "permanent_share" in self.model_fields_set:
            raise ParameterError(
                message="retained_share and permanent_share exclude each other", code="conflict"
            )
        if isinstance(self.half_life, float) and isinstance(self.retained_share, float):
            decay = 2.0 ** (-1.0 / self.half_life)
            if decay == 1.0:
                raise ParameterError(
                    "half_life",
                    message=f"{self.half_life:g} rounds are too many for retained_share: nothing "
                    "decays",
                    code="conflict",
                )
            if self.retained_share < decay:
                raise ParameterError(
                    message=f"retained_share is {self.retained_share:g}; with half_life "
                    f"{self.half_life} it must be at least {decay:.3g}",
                    code="conflict",
                )

    @classmethod
    def check_human(cls, human: Human, rounds_per_year: float, population_std: float) -> None:
        """Check a human in the units of an environment.

        Raises:
            ParameterError: one of its numbers is 0 or infinite there.
        """
        try:
            cls.of_human(human.in_rounds(rounds_per_year, population_std))
        except ValidationError as error:
            problem = validation_problems(error, cls, {})[0]
            name = ".".join(map(str, problem.details["loc"]))
            message = f"{name} in rounds and value units: {problem.message}: see rounds_per_year "
            message += f"({rounds_per_year:g}) and population_std ({population_std:g})"
            raise ParameterError("human", message=message, code=problem.code) from None

    @staticmethod
    def of_human(human: HumanInRounds) -> TraitStateDynamics:
        """The persistence of values that a human model states."""
        if human.half_life is None:
            return TraitStateDynamics(disposition_noise_std=human.disposition_noise_std)
        return TraitStateDynamics(
            half_life=human.half_life,
            permanent_share=human.permanent_share,
            volatility=human.volatility,
            volatility_heterogeneity=human.volatility_heterogeneity,
            disposition_noise_std=human.disposition_noise_std,
        )

    @property
    def mean_reverting(self) -> bool:
        """Whether there is a state residual."""
        return self.half_life is not None

    @property
    def differs_between_people(self) -> bool:
        """Whether a parameter is not one number for all people."""
        return bool(person_parameters({"": self}))

    @property
    def common_rates(self) -> Rates:
        """Rates if parameters are equal for all people.

        Raises:
            UserError: a person's `retained_share` is below what decay alone leaves.
        """
        decay: Any = 1.0 if self.half_life is None else _decay(self.half_life)
        permanent_share: Any = self.permanent_share
        if self.retained_share is not None:
            permanent_share = (self.retained_share - decay) / (1.0 - decay)
            if isinstance(permanent_share, Tensor) and not bool((permanent_share >= 0).all()):
                message = "the retained_share of a person is below what decay alone leaves"
                raise UserError(message, code="conflict", path="trait_state.retained_share")
        lost = 1.0 - decay**2
        root = lost.sqrt() if isinstance(lost, Tensor) else math.sqrt(lost)
        renewal_std = self.volatility * root
        return Rates(
            decay, permanent_share, self.volatility, renewal_std, self.disposition_noise_std
        )

    def rates_of_people(self, traits: Mapping[str, Tensor], path: str) -> Rates | None:
        """Rates of each person; None if they are equal for all.

        Args:
            traits: traits of the people, with the parameters that differ.
            path: path of these dynamics in the names of traits.

        Raises:
            UserError: see `common_rates`.
        """
        if not self.differs_between_people:
            return None
        rates = resolve_parameters(self, traits, path).common_rates
        return Rates(*(_plain(getattr(rates, field.name)) for field in dataclasses.fields(rates)))

    def _numbers(self, rates: Rates | None) -> Rates:
        """Rates of each person, or those that are equal for all."""
        return self.common_rates if rates is None else rates.numbers

    # --- dynamics ----------------------------------------------------------------------------

    def initial_state(
        self,
        disposition: Float[Tensor, "world agent value"],
        streams: RandomStreams,
        rates: Rates | None = None,
    ) -> TraitState:
        """People with these dispositions and residuals from the stationary distribution."""
        relative_volatility = self.sample_relative_volatility(disposition.shape[1], streams)
        residual = torch.zeros_like(disposition)
        volatility = self._numbers(rates).volatility
        if not _is_zero(volatility):
            z = streams.normal(INITIAL_RESIDUAL, *disposition.shape[1:])
            residual = volatility * relative_volatility[..., None] * z
        return TraitState(disposition, residual, relative_volatility, rates)

    def sample_relative_volatility(
        self, num_people: int, streams: RandomStreams
    ) -> Float[Tensor, "world agent"]:
        """Relative volatility of each person; root mean square 1."""
        if not self.volatility_heterogeneity:
            return torch.ones(streams.num_worlds, num_people, device=streams.device)
        u = streams.uniform(RELATIVE_VOLATILITY, num_people)[..., 0] + UNIFORM_OFFSET
        exponent = self.volatility_heterogeneity
        return math.sqrt(2.0 * exponent + 1.0) * torch.exp(exponent * torch.log(u))

    def advance_round(self, trait_state: TraitState, streams: RandomStreams) -> TraitState:
        """People a round later: the residual decays and is renewed, dispositions diffuse."""
        disposition, residual = trait_state.disposition, trait_state.state_residual
        rates = self._numbers(trait_state.rates)
        if self.mean_reverting:
            residual = rates.decay * residual
        size = disposition.shape[1:]
        if not _is_zero(rates.volatility):
            z = streams.normal(RESIDUAL, *size)
            residual = residual + rates.renewal_std * trait_state.relative_volatility[..., None] * z
        if not _is_zero(rates.disposition_noise_std):
            z = streams.normal("disposition", *size)
            disposition = disposition + rates.disposition_noise_std * z
        return dataclasses.replace(trait_state, disposition=disposition, state_residual=residual)

    def displace(
        self, trait_state: TraitState, displacement: Float[Tensor, "world agent value"]
    ) -> TraitState:
        """People after a displacement of their values."""
        if not self.mean_reverting:
            return dataclasses.replace(
                trait_state, disposition=trait_state.disposition + displacement
            )
        permanent = self._numbers(trait_state.rates).permanent_share
        return dataclasses.replace(
            trait_state,
            disposition=trait_state.disposition + permanent * displacement,
            state_residual=trait_state.state_residual + (1.0 - permanent) * displacement,
        )

    def clamp(self, trait_state: TraitState, low: float, high: float) -> TraitState:
        """People with dispositions and values clamped to [low, high]."""
        disposition = trait_state.disposition.clamp(low, high)
        if not self.mean_reverting:
            return dataclasses.replace(trait_state, disposition=disposition)
        values = (disposition + trait_state.state_residual).clamp(low, high)
        return dataclasses.replace(
            trait_state, disposition=disposition, state_residual=values - disposition
        )

    def replace(
        self,
        trait_state: TraitState,
        is_new: Bool[Tensor, "world agent"],
        disposition: Float[Tensor, "world agent value"],
        streams: RandomStreams,
        rates: Rates | None = None,
    ) -> TraitState:
        """People after replacement by newcomers (`cohorts`) with these dispositions.

        `rates`: of the people of the next round, if they differ.
        """
        newcomers = self.initial_state(disposition, streams.child("newcomer"), rates)
        mask = is_new[..., None]
        return TraitState(
            torch.where(mask, newcomers.disposition, trait_state.disposition),
            torch.where(mask, newcomers.state_residual, trait_state.state_residual),
            torch.where(is_new, newcomers.relative_volatility, trait_state.relative_volatility),
            rates,
        )

    # --- closed forms, for parameters that are equal for all people -----------------------------

    def retention(self, rounds: int | float) -> float:
        """Share of a displacement that remains after `rounds` rounds."""
        if self.half_life is None:
            return 1.0
        permanent = self.common_rates.permanent_share
        return permanent + (1.0 - permanent) * 2.0 ** (-rounds / self.half_life)  # type: ignore[return-value]

    def covariance(
        self, rounds: Sequence[int | float], initial_std: float, answer_noise_std: float = 0.0
    ) -> Float[np.ndarray, "wave wave"]:
        """Covariance over people of their answers after each of `rounds`, in increasing order.

        Exact for normal dispositions with standard deviation `initial_std` at round 0, answers
        without rounding or limits, and no displacements. Independent of heterogeneity.
        """
        t = np.asarray(rounds, dtype=np.float64)
        lag = np.abs(t[:, None] - t[None, :])
        diffusion = self.disposition_noise_std**2 * np.minimum(t[:, None], t[None, :])
        decay = (lag == 0.0) if self.half_life is None else 2.0 ** (-lag / self.half_life)
        noise = answer_noise_std**2 * np.eye(len(t))
        return initial_std**2 + diffusion + self.volatility**2 * decay + noise


def _decay(half_life: Any) -> Any:
    """Share of a state residual that remains a round later."""
    if isinstance(half_life, Tensor):  # the last bit of a power would depend on the batch
        return torch.exp(-math.log(2.0) / half_life)
    return 2.0 ** (-1.0 / half_life)


def _plain(rate: Rate) -> Rate:
    """A tensor as it is stored in a state, or a number."""
    return rate.as_subclass(Tensor) if isinstance(rate, Tensor) else rate


def _is_zero(rate: Rate) -> bool:
    """Whether a rate is 0 for all people by its parameters."""
    return not isinstance(rate, Tensor) and rate == 0
