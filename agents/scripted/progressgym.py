"""Assistants that keep up with history: ProgressGym's baselines, and the rows to hold them against.

An assistant begins as `first`, the model of the first row of history (in a game without one: what
people first answered). In every round it asks, learns, and then says what it has learned:

    a' = base + rate * (point - base)

The point is the mean answer (lifelong), or the answers extrapolated as many rounds ahead as the
challenge asks (extrapolative); the base is what it was (continual), or what it began as
(independent: it is trained anew every round). `rate` is the share of the way that training covers.

Qiu et al. 2024 (arXiv 2406.20087) finetune language models and list four baselines, lifelong and
extrapolative each by RLHF and by DPO. Here a model is its value vector, and RLHF and DPO are two
ways of training the same vector towards the same answers: they do not differ. Continual or
independent, a flag of theirs, does. They extrapolate votes on single preference pairs, and keep the
sign; here the mean answer is extrapolated. As in theirs, with few answers the order is lower.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from mores.agents.scripted.extrapolation import extrapolation_weights
from mores.core import pytree
from mores.core.deterministic_sum import total
from mores.core.environment import ActionOutput, Box, Phase, Policy, Role
from mores.core.errors import UserError
from mores.core.random_streams import RandomStreams


@dataclasses.dataclass(frozen=True)
class ProgressGymState:
    """What an assistant holds."""

    observation_space: Box  # the layout of its sight
    initial_belief: Float[Tensor, "world assistant value"]  # what it began as
    belief: Float[Tensor, "world assistant value"]  # what it is now
    answer_history: Float[Tensor, "world assistant point value"]  # last answers, the newest last
    num_answers: Int[Tensor, " world"]  # how many answers it has had


class Lifelong(Policy):
    """Trains towards what people answer now, round after round."""

    tags: ClassVar[Mapping[str, object]] = {"learns": True, "stochastic": False}

    learning_rate: float = Field(
        default=0.51,
        ge=0,
        le=1,
        description="share of the way that a round's training covers; .51 is two epochs at .3",
    )
    independent: bool = Field(
        default=False, description="train anew from the first model in every round"
    )

    def initial_state(
        self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams
    ) -> ProgressGymState:
        """Nothing learned yet."""
        for part in ("mean_answer", *self._required_parts):
            if part not in role.observation_space.parts:
                hint = " (set oracle: true)" if part == "target" else ""
                raise UserError(
                    f"{type(self).__name__} needs a role that sees {part!r}{hint}",
                    code="unsupported",
                    path=f"players.{role.name}",
                )
        size = role.observation_space.parts["mean_answer"].size
        nothing = torch.zeros(streams.num_worlds, role.num_agents, size, device=streams.device)
        past = nothing[:, :, None].expand(-1, -1, self._order + 1, -1).clone()
        rounds = torch.zeros(streams.num_worlds, dtype=torch.int64, device=streams.device)
        return ProgressGymState(role.observation_space, nothing, nothing, past, rounds)

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: ProgressGymState,
        streams: RandomStreams,
    ) -> ActionOutput:
        """Learn from this round's answers, then say what was learned, at full voice."""
        sees = state.observation_space
        answers = sees.read(observation, "mean_answer")
        first = sees.read(observation, "initial_history") if "initial_history" in sees.parts else answers
        new = (state.num_answers == 0)[:, None, None]
        first, belief = (
            torch.where(new, first, held) for held in (state.initial_belief, state.belief)
        )
        past = torch.cat([state.answer_history[:, :, 1:], answers[:, :, None]], 2)
        state = ProgressGymState(sees, first, belief, past, state.num_answers + 1)
        base = first if self.independent else belief
        learned = base + self.learning_rate * (self.training_target(state, observation) - base)
        loud = torch.ones_like(learned[..., :1])
        return ActionOutput(
            torch.cat([learned, loud], -1), dataclasses.replace(state, belief=learned)
        )

    def on_episode_start(
        self, state: ProgressGymState, initial: Callable[[], ProgressGymState], reset_mask: Tensor
    ) -> ProgressGymState:
        """Begin anew; what it sees may have changed, if this is another challenge."""
        new = initial()
        return pytree.scatter(
            dataclasses.replace(state, observation_space=new.observation_space), new, reset_mask
        )

    def training_target(
        self, state: ProgressGymState, observation: Tensor
    ) -> Float[Tensor, "world assistant value"]:
        """Where it trains towards: the answers."""
        return state.answer_history[:, :, -1]

    @property
    def _order(self) -> int:
        return 0

    @property
    def _required_parts(self) -> tuple[str, ...]:
        return ()


class Extrapolative(Lifelong):
    """Trains towards where answers will be, extrapolated by a polynomial."""

    order: int = Field(default=1, ge=0, le=8, description="degree of the polynomial (M)")
    forecast_horizon: int | None = Field(
        default=None,
        ge=0,
        le=100,
        description="rounds to extrapolate; none: as many as the challenge asks, or 1",
    )

    def training_target(
        self, state: ProgressGymState, observation: Tensor
    ) -> Float[Tensor, "world assistant value"]:
        """The answers extrapolated, by as high an order as there are answers for."""
        ahead = 1 if self.forecast_horizon is None else self.forecast_horizon
        if self.forecast_horizon is None and "forecast_horizon" in state.observation_space.parts:
            ahead = int(
                state.observation_space.read(observation, "forecast_horizon")[0, 0, 0]
            )  # the same for everybody
        rows = [
            [0.0] * (self.order - low) + list(extrapolation_weights(low, ahead))
            for low in range(self.order + 1)
        ]
        by_order = torch.tensor(rows, dtype=observation.dtype, device=observation.device)
        chosen = by_order[(state.num_answers - 1).clamp(max=self.order)]  # world point
        return total(chosen[:, None, :, None] * state.answer_history, 2)

    @property
    def _order(self) -> int:
        return self.order


class Static(Lifelong):
    """Stays what it began as."""

    learning_rate: float = Field(default=0.0, ge=0, le=0, description="it does not learn")


class Persistence(Lifelong):
    """Says what people answered now, whatever it was before: tomorrow is as today."""

    learning_rate: float = Field(default=1.0, ge=1, le=1, description="it learns all there is")


class Oracle(Lifelong):
    """Says where history is or will be, which `oracle: true` of the environment lets it see."""

    learning_rate: float = Field(default=1.0, ge=1, le=1, description="it has nothing to learn")

    def training_target(
        self, state: ProgressGymState, observation: Tensor
    ) -> Float[Tensor, "world assistant value"]:
        """The target itself."""
        return state.observation_space.read(observation, "target").expand_as(state.belief)

    @property
    def _required_parts(self) -> tuple[str, ...]:
        return ("target",)
