"""Scripted assistants: they learn where people stand from their answers, and say something.

All hold a belief about the people's mean position. What they say in a round was learned before
that round's answers came in, as a model in use was trained on yesterday's data:

    a' = a + rate * (answers + ahead * trend - a)

Their first answers are believed at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from mores.core.environment import ActionOutput, Box, Phase, Policy, Role
from mores.core.errors import UserError
from mores.core.random_streams import RandomStreams


@dataclasses.dataclass(frozen=True)
class AssistantState:
    """What an assistant holds: the layout of its sight, its belief, whether it has begun."""

    observation_space: Box
    belief: Float[Tensor, "world assistant value"]
    initialized: Bool[Tensor, " world"]


class LinearTrend(Policy):
    """Learns where people stand, and aims some rounds further along history's trend."""

    tags: ClassVar[Mapping[str, object]] = {"learns": True, "stochastic": False}

    learning_rate: float = Field(
        default=0.2, ge=0, le=1, description="learning rate (eta), share of the gap a round"
    )
    forecast_horizon: float = Field(
        default=0.0, ge=0, description="rounds of history's trend to aim ahead (L)"
    )

    def initial_state(
        self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams
    ) -> AssistantState:
        """No belief yet."""
        for part in ("mean_answer", "trend"):
            if part not in role.observation_space.parts:
                raise UserError(
                    f"{type(self).__name__} needs a role that sees {part!r}",
                    code="unsupported",
                    path=f"players.{role.name}",
                )
        size = role.observation_space.parts["mean_answer"].size
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
    ) -> ActionOutput:
        """Say something on the belief held so far, then learn from this round's answers."""
        answers, trend = (
            state.observation_space.read(observation, "mean_answer"),
            state.observation_space.read(observation, "trend"),
        )
        belief = torch.where(state.initialized[:, None, None], state.belief, answers)
        learned = belief + self.learning_rate * (answers + self.forecast_horizon * trend - belief)
        position, voice = self.advise(belief)
        loud = torch.full_like(position[..., :1], voice)
        after = dataclasses.replace(
            state, belief=learned, initialized=torch.ones_like(state.initialized)
        )
        return ActionOutput(torch.cat([position, loud], -1), after)

    @property
    def is_truthful(self) -> bool:
        """Whether it says what it believes, at full voice."""
        return type(self).advise is LinearTrend.advise

    def advise(self, belief: Tensor) -> tuple[Tensor, float]:
        """What to say on a belief `[world, assistant, value]`, and how loudly."""
        return belief, 1.0


class Mirror(LinearTrend):
    """Learns where people stand, and says it back to them."""

    forecast_horizon: float = Field(
        default=0.0, ge=0, le=0, description="a mirror does not look ahead"
    )


class Persuader(LinearTrend):
    """Learns where people stand, and speaks from there towards a goal of its own."""

    goal: list[float] = Field(min_length=1, description="where it wants people, one a value")
    goal_weight: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="share of the way from people to the goal that it speaks from",
    )

    def initial_state(
        self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams
    ) -> AssistantState:
        """No belief yet; the goal must fit the number of values."""
        memory = super().initial_state(role, phases, streams)
        if len(self.goal) != memory.belief.shape[-1]:
            raise UserError(
                f"persuade: goal has {len(self.goal)} values, people {memory.belief.shape[-1]}",
                code="wrong_shape",
                path="persuade.goal",
            )
        return memory

    def advise(self, belief: Tensor) -> tuple[Tensor, float]:
        """A point on the way from the people to the goal."""
        goal = torch.tensor(self.goal, dtype=belief.dtype, device=belief.device)
        return belief + self.goal_weight * (goal - belief), 1.0


class Silent(LinearTrend):
    """Learns as the others do, and says nothing: the placebo."""

    def advise(self, belief: Tensor) -> tuple[Tensor, float]:
        """Nothing."""
        return belief, 0.0
