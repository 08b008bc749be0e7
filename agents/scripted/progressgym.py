"""Assistants that track history: ProgressGym's baselines, and reference policies.

An assistant starts at `initial_history`, the first row of history (in environments without it: at
the first mean answer). In every round it observes answers, trains, and advises the result:

    a' = base + learning_rate * (target - base)

The target is the mean answer (lifelong), or the answers extrapolated by the challenge's horizon
(extrapolative); the base is the current model (continual), or the initial model (independent:
trained from scratch in every round). `learning_rate` is the share of the gap that training closes.

Qiu et al. 2024 (arXiv 2406.20087) fine-tune language models and list four baselines, lifelong and
extrapolative, each by RLHF and by DPO. Here a model is its value vector, and RLHF and DPO train the
same vector towards the same answers, so they do not differ. Continual or independent, a flag of
theirs, does. They extrapolate votes on single preference pairs and keep the sign
(`mores.agents.scripted.vote_extrapolation`); here the mean answer is extrapolated. In Follow they
look one or two centuries ahead, here the default is the challenge's horizon, 0. As in theirs, the
order is lower while there are few answers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from mores.agents.scripted.extrapolation import extrapolation_weights
from mores.core.deterministic_sum import total
from mores.core.environment import Phase, Role
from mores.core.errors import UserError
from mores.core.policy import ActionOutput, Policy
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box


@dataclasses.dataclass(frozen=True)
class ProgressGymState:
    """State of an assistant."""

    observation_space: Box
    initial_belief: Float[Tensor, "world assistant value"]  # initial model
    belief: Float[Tensor, "world assistant value"]  # current model
    answer_history: Float[Tensor, "world assistant point value"]  # last mean answers, oldest first
    num_answers: Int[Tensor, " world"]  # number of answers so far


class Lifelong(Policy):
    """Trains on the current mean answer in every round."""

    tags: ClassVar[Mapping[str, object]] = {"stochastic": False}

    learning_rate: float = Field(
        default=0.51,
        ge=0,
        le=1,
        description="share of the gap that a round's training closes; .51 is two epochs at .3",
    )
    independent: bool = Field(
        default=False, description="train from the initial model in every round"
    )

    def initial_state(
        self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams
    ) -> ProgressGymState:
        """No model yet."""
        for part in ("mean_answer", *self._required_parts):
            if part not in role.observation_space.parts:
                hint = " (set observe_target: true)" if part == "target" else ""
                raise UserError(
                    f"{type(self).__name__} needs an observation with the part {part!r}{hint}",
                    code="unsupported",
                    path=f"policies.{role.name}",
                )
        size = role.observation_space.parts["mean_answer"].size
        zeros = torch.zeros(streams.num_worlds, role.num_agents, size, device=streams.device)
        history = zeros[:, :, None].expand(-1, -1, self._order + 1, -1).clone()
        counts = torch.zeros(streams.num_worlds, dtype=torch.int64, device=streams.device)
        return ProgressGymState(role.observation_space, zeros, zeros, history, counts)

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: ProgressGymState,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """Train on this round's answers, then advise the result at full intensity."""
        space = state.observation_space
        answers = space.read(observation, "mean_answer")
        start_part = "initial_history" if "initial_history" in space.parts else "mean_answer"
        start = space.read(observation, start_part)
        is_first = (state.num_answers == 0)[:, None, None]
        initial, belief = (
            torch.where(is_first, start, model) for model in (state.initial_belief, state.belief)
        )
        history = torch.cat([state.answer_history[:, :, 1:], answers[:, :, None]], 2)
        state = ProgressGymState(space, initial, belief, history, state.num_answers + 1)
        base = initial if self.independent else belief
        trained = base + self.learning_rate * (self.training_target(state, observation) - base)
        action = torch.cat([trained, torch.ones_like(trained[..., :1])], -1)
        return ActionOutput(action, dataclasses.replace(state, belief=trained))

    def training_target(
        self, state: ProgressGymState, observation: Tensor
    ) -> Float[Tensor, "world assistant value"]:
        """Training target: the last mean answer."""
        return state.answer_history[:, :, -1]

    @property
    def _order(self) -> int:
        return 0

    @property
    def _required_parts(self) -> tuple[str, ...]:
        return ()


class Extrapolative(Lifelong):
    """Trains on mean answers extrapolated by a polynomial."""

    order: int = Field(default=1, ge=0, le=8, description="degree of the polynomial (M)")
    forecast_horizon: int | None = Field(
        default=None,
        ge=0,
        le=100,
        description="rounds to extrapolate; null: the challenge's horizon, or 1",
    )

    def training_target(
        self, state: ProgressGymState, observation: Tensor
    ) -> Float[Tensor, "world assistant value"]:
        """Extrapolated answers, by the highest order that the number of answers allows."""
        weights = self.answer_weights(state, observation)
        return total(weights[:, None, :, None] * state.answer_history, 2)

    def answer_weights(
        self, state: ProgressGymState, observation: Tensor
    ) -> Float[Tensor, "world point"]:
        """Weight of each of the last answers in the extrapolated one."""
        space, horizon = state.observation_space, self.forecast_horizon
        if horizon is None:
            horizon = 1
            if "forecast_horizon" in space.parts:  # the same in all worlds
                horizon = int(space.read(observation, "forecast_horizon")[0, 0, 0])
        rows = [
            [0.0] * (self.order - low) + list(extrapolation_weights(low, horizon))
            for low in range(self.order + 1)
        ]
        by_order = torch.tensor(rows, dtype=observation.dtype, device=observation.device)
        return by_order[(state.num_answers - 1).clamp(max=self.order)]

    @property
    def _order(self) -> int:
        return self.order


class Static(Lifelong):
    """Advises the initial model, without training."""

    learning_rate: float = Field(default=0.0, ge=0, le=0, description="fixed: no training")


class Persistence(Lifelong):
    """Persistence forecast: advises the current mean answer."""

    learning_rate: float = Field(
        default=1.0, ge=1, le=1, description="fixed: the model is the last answer"
    )


class Oracle(Lifelong):
    """Advises history's target; the environment needs `observe_target: true`."""

    learning_rate: float = Field(
        default=1.0, ge=1, le=1, description="fixed: the model is the target"
    )

    def training_target(
        self, state: ProgressGymState, observation: Tensor
    ) -> Float[Tensor, "world assistant value"]:
        """The target."""
        return state.observation_space.read(observation, "target").expand_as(state.belief)

    @property
    def _required_parts(self) -> tuple[str, ...]:
        return ("target",)
