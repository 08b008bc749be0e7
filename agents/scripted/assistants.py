"""Scripted assistants: they estimate the mean answer of their audience and advise.

The advice of a round is based on the estimate from before that round's answers, as a deployed model
is trained on earlier data. The estimate then moves towards the answers:

    a' = a + learning_rate * (answers + forecast_horizon * trend - a)

The first mean answer is the initial estimate.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from mores.core.analytic_policies import LinearTracker, TrackingParameters
from mores.core.environment import Phase, Role
from mores.core.errors import UserError
from mores.core.policy import ActionOutput, Policy, require_observation_parts
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box


@dataclasses.dataclass(frozen=True)
class AssistantState:
    """Observation space, estimate of the mean answer, and whether the estimate is initialized."""

    observation_space: Box
    belief: Float[Tensor, "world assistant value"]
    initialized: Bool[Tensor, " world"]


class LinearTrend(Policy, LinearTracker):
    """Linear trend: estimates the mean answer and extrapolates history's trend."""

    tags: ClassVar[Mapping[str, object]] = {"stochastic": False}

    learning_rate: float = Field(
        default=0.2, ge=0, le=1, description="share of the gap per round (eta)"
    )
    forecast_horizon: float = Field(
        default=0.0, ge=0, description="rounds of history's trend to extrapolate (L)"
    )
    estimated_part: str = Field(
        default="mean_answer",
        min_length=1,
        description="part of the observation that it estimates: mean_answer, of its audience, or "
        "community_mean, of everybody",
    )

    def initial_state(
        self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams
    ) -> AssistantState:
        """No estimate yet."""
        require_observation_parts(type(self).__name__, role, self.estimated_part, "trend")
        size = role.observation_space.parts[self.estimated_part].size
        belief = torch.zeros(streams.num_worlds, role.num_agents, size, device=streams.device)
        return AssistantState(
            role.observation_space, belief, torch.zeros_like(belief[:, 0, 0], dtype=torch.bool)
        )

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: AssistantState,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """Advise from the current estimate, then update it with this round's answers."""
        answers, trend = (
            state.observation_space.read(observation, self.estimated_part),
            state.observation_space.read(observation, "trend"),
        )
        belief = torch.where(state.initialized[:, None, None], state.belief, answers)
        updated = belief + self.learning_rate * (answers + self.forecast_horizon * trend - belief)
        position, intensity = self.advise(belief)
        intensities = torch.full_like(position[..., :1], intensity)
        next_state = dataclasses.replace(
            state, belief=updated, initialized=torch.ones_like(state.initialized)
        )
        return ActionOutput(torch.cat([position, intensities], -1), next_state)

    @property
    def tracking(self) -> TrackingParameters | None:
        """Parameters of the estimate, where it is the advice, at full intensity."""
        if type(self).advise is not LinearTrend.advise or self.estimated_part != "mean_answer":
            return None
        return TrackingParameters(self.learning_rate, self.forecast_horizon)

    def advise(self, belief: Tensor) -> tuple[Tensor, float]:
        """Position of the advice `[world, assistant, value]` and its intensity in [0, 1]."""
        return belief, 1.0


class Mirror(LinearTrend):
    """Mirror: estimates the mean answer of its audience and repeats it (a sycophant)."""

    forecast_horizon: float = Field(
        default=0.0, ge=0, le=0, description="a mirror does not extrapolate"
    )


class Persuader(LinearTrend):
    """Persuader: advises a point between the estimated mean answer and its own goal."""

    goal: list[float] = Field(min_length=1, description="target position, one number per value")
    goal_weight: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="weight of the goal against the estimate",
    )

    def initial_state(
        self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams
    ) -> AssistantState:
        """No estimate yet; the goal must have one number per value."""
        state = super().initial_state(role, phases, streams)
        if len(self.goal) != state.belief.shape[-1]:
            raise UserError(
                f"persuader: goal has {len(self.goal)} values, people {state.belief.shape[-1]}",
                code="wrong_shape",
                path="persuader.goal",
            )
        return state

    def advise(self, belief: Tensor) -> tuple[Tensor, float]:
        """A weighted mean of the estimate and the goal."""
        goal = torch.tensor(self.goal, dtype=belief.dtype, device=belief.device)
        return belief + self.goal_weight * (goal - belief), 1.0


class Silent(LinearTrend):
    """Silent assistant: estimates the mean answer and gives no advice (placebo)."""

    def advise(self, belief: Tensor) -> tuple[Tensor, float]:
        """The estimate, with intensity 0."""
        return belief, 0.0
