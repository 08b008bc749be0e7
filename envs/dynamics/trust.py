"""Trust in each assistant, learned from the distance of its advice to the person's next values.

    T' = T + learning_rate * intensity * (evidence - T),    0 <= T <= 1

For constant evidence e and intensity 1, `T_t = e + (T_0 - e) (1 - learning_rate)^t`. Trust
multiplies an assistant's influence on a person; with `learning_rate` 0 it is constant.

This is the delta rule (Rescorla and Wagner 1972), as in studies of advice taking. Evidence is
agreement, not truth: trust grows in assistants whose advice the person holds or adopts.
The rule and its rate are assumptions: no parameter here was fitted to data.

Every parameter may differ between people; the methods then belong to a copy in which it is a tensor
`[world, agent, 1]` (`mores.core.person_parameters.resolve_parameters`).
"""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mores.core.config import Config
from mores.core.deterministic_sum import mean
from mores.registry.varying import PersonNumber


class Trust(Config):
    """Parameters of people's trust in assistants; default: constant full trust."""

    initial_trust: Annotated[float, PersonNumber(ge=0, le=1)] = Field(
        default=1.0, description="initial trust of a person in each assistant"
    )
    learning_rate: Annotated[float, PersonNumber(ge=0, le=1)] = Field(
        default=0.0,
        description="share of the distance to the evidence, the agreement of advice and "
        "values, closed per round",
    )
    distance_scale: Annotated[float, PersonNumber(ge=1e-15)] = Field(
        default=1.0, description="RMS distance at which the evidence is .61, value units"
    )

    @property
    def learns(self) -> bool:
        """Whether trust changes."""
        return not isinstance(self.learning_rate, float) or self.learning_rate > 0

    def initial_state(
        self,
        values: Float[Tensor, "world agent value"],
        advice: Float[Tensor, "world assistant value"],
    ) -> Float[Tensor, "world agent assistant"]:
        """Initial trust of each person in each assistant."""
        shape = (*values.shape[:2], advice.shape[1])
        return values.new_zeros(shape) + self.initial_trust

    def evidence(
        self,
        values: Float[Tensor, "world agent value"],
        advice: Float[Tensor, "world #agent assistant value"],
    ) -> Float[Tensor, "world agent assistant"]:
        """Agreement of each received advice with each person's values, in (0, 1].

        `exp(-d^2 / (2 distance_scale^2))`, d the root mean square distance over values.
        """
        difference = values[:, :, None] - advice  # world agent assistant value
        return torch.exp(mean(difference * difference, -1) * (-0.5 / self.distance_scale**2))

    def update(
        self,
        trust: Float[Tensor, "world agent assistant"],
        evidence: Float[Tensor, "world agent assistant"],
        intensity: Float[Tensor, "world #agent assistant"],
    ) -> Float[Tensor, "world agent assistant"]:
        """Trust after this evidence; unchanged for advice of intensity 0."""
        if not self.learns:
            return trust
        return trust + self.learning_rate * intensity * (evidence - trust)
