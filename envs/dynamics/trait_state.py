"""Settled people: what somebody expresses is a settled disposition plus a temporary state.

    v = d + s                               value = disposition + temporary state
    a round passes:   s' = 2^(-1/h) s + own_sd sqrt(1 - 2^(-2/h)) z
                      d' = d + disposition_noise z'
    a push m:         d' = d + settling m,     s' = s + (1 - settling) m

h is the half-life of the temporary state in rounds, z are standard normal. Left alone, the
temporary state keeps the standard deviation `own_sd = volatility * restlessness`. Restlessness is
a person's own, u^p sqrt(2 p + 1) for an even u in (0, 1) and p = `volatility_heterogeneity`: its root mean
square is 1 for every p, so all variances and correlations below hold whatever the p. People are
alike for p = 0; for p = 1 their volatility runs evenly from none to 1.73 times the average, so
that many hardly change and some change much, as is found in panels.

A push is felt in full at once; of it, `settling + (1 - settling) 2^(-t/h)` is left t rounds later.
Without a half-life nothing reverts: the whole push settles, and there is no temporary state.

The order of events within a round is the environment's: `passed` and `displace` are called where the
round passes and where something moves people. What a person *answers* has noise besides: that
is the respondent's, not in here. What measurements say about the parameters, and what they cannot
tell apart, is in docs/explanation/default_human.md.

Trait, autoregressive state and error: Kenny and Zautra 1995, J. Consult. Clin. Psychol. 63, 52.
Answers of panels reflect settled dispositions: Kiley and Vaisey 2020, Am. Sociol. Rev. 85, 477.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from mores.core.environment import Config
from mores.core.errors import ParameterError
from mores.core.random_streams import RandomStreams

UNIFORM_OFFSET = (
    2.0**-25
)  # half a step of a uniform number: the logarithm of zero is never asked for


@dataclasses.dataclass(frozen=True)
class TraitState:
    """What people hold.

    Attributes:
        disposition: where each settles when left alone.
        state_residual: how far each is from there now.
        relative_volatility: how changeable each is, relative to the root mean square of all; at least 0.
    """

    disposition: Float[Tensor, "world agent value"]
    state_residual: Float[Tensor, "world agent value"]
    relative_volatility: Float[Tensor, "world agent"]

    @property
    def values(self) -> Float[Tensor, "world agent value"]:
        """What each expresses, but for noise of the answer."""
        return self.disposition + self.state_residual


class TraitStateDynamics(Config):
    """Parameters of how people's values stay and move; by default whatever moves them settles.

    Raises:
        ValidationError: a temporary state without a half-life.
    """

    half_life: float | None = Field(
        default=None,
        gt=0,
        description="rounds after which half of a temporary state is left; none: all of it settles",
    )
    permanent_share: float = Field(
        default=0.0, ge=0, le=1, description="share of a push that moves the disposition for good"
    )
    retained_share: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="share of a push that is left a round later, as experiments measure it: with "
        "half_life it says what settles, and is given instead of settling",
    )
    volatility: float = Field(
        default=0.0,
        ge=0,
        description="standard deviation of the temporary state, value units, root mean square "
        "over people",
    )
    volatility_heterogeneity: float = Field(
        default=0.0,
        ge=0,
        le=20,
        description="how people differ in it; 0: alike, 1: evenly from none to 1.73 times as much, "
        "more: most hardly change and a few change much",
    )
    disposition_noise_std: float = Field(
        default=0.0,
        ge=0,
        description="standard deviation of the disposition's own movement a round, value units",
    )

    def model_post_init(self, context: Any) -> None:
        """Refuse parameters that do not go together."""
        given = {"permanent_share", "retained_share", "volatility"} & self.model_fields_set
        if self.half_life is None and any(getattr(self, name) for name in given):
            raise ParameterError(
                message=f"{min(given)} says nothing without a half_life: all of it settles",
                code="conflict",
            )
        if self.retained_share is not None and "permanent_share" in self.model_fields_set:
            raise ParameterError(
                message="left and settling say the same: leave one out", code="conflict"
            )
        if self.retained_share is not None and self.retained_share < self.decay:
            raise ParameterError(
                message=f"left: of a temporary state alone {self.decay:.3g} is left a round later "
                f"with half_life {self.half_life:g}: at least that, not {self.retained_share:g}",
                code="conflict",
            )

    @property
    def mean_reverting(self) -> bool:
        """Whether there is a temporary state at all."""
        return self.half_life is not None

    @property
    def effective_permanent_share(self) -> float:
        """`settling`, or what follows from `left`: left = share + (1 - share) 2^(-1/half_life)."""
        if self.retained_share is None:
            return self.permanent_share
        return (self.retained_share - self.decay) / (1.0 - self.decay)

    @property
    def decay(self) -> float:
        """The share of a temporary state that is left a round later, in [0, 1]."""
        return 1.0 if self.half_life is None else 2.0 ** (-1.0 / self.half_life)

    # --- what happens to people --------------------------------------------------------------

    def initial_state(
        self, disposition: Float[Tensor, "world agent value"], streams: RandomStreams
    ) -> TraitState:
        """People with these dispositions, each in a temporary state as they usually are."""
        restlessness = self.sample_relative_volatility(disposition.shape[1], streams)
        temporary = torch.zeros_like(disposition)
        if self.volatility:
            z = streams.normal("first temporary", *disposition.shape[1:])
            temporary = self.volatility * restlessness[..., None] * z
        return TraitState(disposition, temporary, restlessness)

    def sample_relative_volatility(
        self, num_people: int, streams: RandomStreams
    ) -> Float[Tensor, "world agent"]:
        """How changeable each person is, by an even number of their own."""
        if not self.volatility_heterogeneity:
            return torch.ones(streams.num_worlds, num_people, device=streams.device)
        u = streams.uniform("restlessness", num_people)[..., 0] + UNIFORM_OFFSET
        power = self.volatility_heterogeneity
        return math.sqrt(2.0 * power + 1.0) * torch.exp(power * torch.log(u))

    def advance_round(self, trait_state: TraitState, streams: RandomStreams) -> TraitState:
        """People a round later: the temporary state reverts and is renewed."""
        disposition, temporary = trait_state.disposition, self.decay * trait_state.state_residual
        size = disposition.shape[1:]
        if self.volatility:
            renewal = self.volatility * math.sqrt(1.0 - self.decay**2)
            z = streams.normal("temporary", *size)
            temporary = temporary + renewal * trait_state.relative_volatility[..., None] * z
        if self.disposition_noise_std:
            z = streams.normal("disposition", *size)
            disposition = disposition + self.disposition_noise_std * z
        return dataclasses.replace(trait_state, disposition=disposition, state_residual=temporary)

    def displace(
        self, trait_state: TraitState, displacement: Float[Tensor, "world agent value"]
    ) -> TraitState:
        """People after something moved them by `displacement`."""
        if not self.mean_reverting:
            return dataclasses.replace(
                trait_state, disposition=trait_state.disposition + displacement
            )
        return dataclasses.replace(
            trait_state,
            disposition=trait_state.disposition + self.effective_permanent_share * displacement,
            state_residual=trait_state.state_residual
            + (1.0 - self.effective_permanent_share) * displacement,
        )

    def clamp(self, trait_state: TraitState, low: float, high: float) -> TraitState:
        """People whose dispositions and values stay in [low, high]."""
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
    ) -> TraitState:
        """People some of whom were replaced by newcomers (`cohorts`) with these dispositions."""
        fresh = self.initial_state(disposition, streams.child("newcomer"))
        here = is_new[..., None]
        return TraitState(
            torch.where(here, fresh.disposition, trait_state.disposition),
            torch.where(here, fresh.state_residual, trait_state.state_residual),
            torch.where(is_new, fresh.relative_volatility, trait_state.relative_volatility),
        )

    # --- what follows from it ------------------------------------------------------------------

    def retention(self, rounds: int | float) -> float:
        """The share of a push that is left so many rounds after it."""
        if self.half_life is None:
            return 1.0
        settles = self.effective_permanent_share
        return settles + (1.0 - settles) * 2.0 ** (-rounds / self.half_life)

    def covariance(
        self, rounds: Sequence[int | float], initial_std: float, answer_noise_std: float = 0.0
    ) -> Float[np.ndarray, "wave wave"]:
        """Covariance over people of their answers after so many rounds, in increasing order.

        Exact for normal dispositions with standard deviation `initial_std` at round 0, answers that are
        not rounded or limited, and nothing that pushes people apart. Heterogeneity does not matter.
        """
        t = np.asarray(rounds, dtype=np.float64)
        lag = np.abs(t[:, None] - t[None, :])
        walked = self.disposition_noise_std**2 * np.minimum(t[:, None], t[None, :])
        left = (lag == 0.0) if self.half_life is None else 2.0 ** (-lag / self.half_life)
        noise = answer_noise_std**2 * np.eye(len(t))
        return initial_std**2 + walked + self.volatility**2 * left + noise
