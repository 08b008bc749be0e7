"""Trust in each assistant, learned from how near its advice came to what one then holds.

    T' = T + rate * heard * (evidence - T),    0 <= T <= 1

For constant evidence e that is always heard, `T_t = e + (T_0 - e) (1 - rate)^t`. Trust multiplies
the influence of an assistant on a person; with `rate` 0 it is the constant it began with.

This is the delta rule (Rescorla and Wagner 1972), as studies of advice taking use it. Evidence is
agreement and not truth: a person comes to trust who says what the person holds anyway, or comes to
hold. Whether trust in assistants is learned so, and how fast, no figure here was fitted to.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mores.core.deterministic_sum import mean
from mores.core.environment import Config


class Trust(Config):
    """Parameters of people's trust in assistants; by default all trust fully, for ever."""

    initial_trust: float = Field(default=1.0, ge=0, le=1, description="trust at first")
    learning_rate: float = Field(
        default=0.0, ge=0, le=1, description="share of the way to the evidence that trust goes"
    )
    distance_scale: float = Field(
        default=1.0, gt=0, description="distance of advice at which evidence falls to .61"
    )

    def initial_state(
        self,
        values: Float[Tensor, "world agent value"],
        advice: Float[Tensor, "world assistant value"],
    ) -> Float[Tensor, "world agent assistant"]:
        """Everybody's trust in each assistant at first."""
        shape = (*values.shape[:2], advice.shape[1])
        return torch.full(shape, self.initial_trust, dtype=values.dtype, device=values.device)

    def evidence(
        self,
        values: Float[Tensor, "world agent value"],
        advice: Float[Tensor, "world assistant value"],
    ) -> Float[Tensor, "world agent assistant"]:
        """How near each piece of advice came to what each person holds, in (0, 1].

        `exp(-d^2 / (2 width^2))`, with d the root mean square distance over values.
        """
        apart = values[:, :, None] - advice[:, None]  # world agent assistant value
        return torch.exp(mean(apart * apart, -1) * (-0.5 / self.distance_scale**2))

    def update(
        self,
        trust: Float[Tensor, "world agent assistant"],
        evidence: Float[Tensor, "world agent assistant"],
        intensity: Float[Tensor, "world assistant"],
    ) -> Float[Tensor, "world agent assistant"]:
        """Trust after this evidence; of an assistant that was not heard (voice 0) it stays."""
        if not self.learning_rate:
            return trust
        return trust + self.learning_rate * intensity[:, None] * (evidence - trust)
