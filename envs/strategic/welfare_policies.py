"""Scripted policies of the welfare game: users with a threshold, assistants that follow the cue."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from mores.core.environment import Phase, Role
from mores.core.errors import UserError
from mores.core.policy import ActionOutput, Policy, require_observation_parts
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box
from mores.envs.strategic.welfare_task import ACTS

ActName = Literal["direct", "clarify", "answer_and_ask"]


class ThresholdWriter(Policy):
    """User who writes definitely if it costs less than a threshold.

    This is the form of every best response. `mores.envs.strategic.welfare_values.writing_threshold`
    gives the threshold.
    """

    threshold: float = Field(default=0.2, ge=0, description="threshold of the cost, utility")

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Box:
        """Layout of the observation; requires the cost of writing definitely."""
        require_observation_parts("threshold_writer", role, "writing_cost")
        return role.observation_space

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Box,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """1 (definitely) below the threshold, else 0."""
        cost = state.read(observation, "writing_cost")[..., 0]
        return ActionOutput((cost < self.threshold).to(torch.int64), state)

    def expected_action(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Box,
        search: bool = False,
    ) -> Tensor:
        """Probability 1 of that action."""
        cost = state.read(observation, "writing_cost")[..., 0]
        return functional.one_hot((cost < self.threshold).to(torch.int64), 2).to(observation.dtype)


class ScriptedAssistant(Policy):
    """Base of assistants that decide by a fixed rule. A subclass says how, for each phase."""

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Box:
        """Layout of the observation; requires cue, costs and act of a conversation."""
        if role.name != "assistant":
            raise UserError(
                f"{type(self).__name__} plays the role assistant; the role is {role.name}",
                code="unsupported",
                path=f"policies.{role.name}",
            )
        parts = ("cue", "delay_cost", "reading_cost", "price", "act")
        require_observation_parts(type(self).__name__, role, *parts)
        return role.observation_space

    def decide(self, phase: str, observation: Tensor, space: Box) -> Tensor:
        """Index of the act, length in hundred words `[..., 1]`, or payoff estimates `[..., 12]`."""
        raise NotImplementedError

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Box,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """The decision of the phase."""
        return ActionOutput(self.decide(phase.name, observation, state), state)

    def expected_action(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Box,
        search: bool = False,
    ) -> Tensor:
        """The same: nothing is random."""
        decision = self.decide(phase.name, observation, state)
        if phase.name != "respond":
            return decision
        return functional.one_hot(decision, len(ACTS)).to(observation.dtype)


class CueAssistant(ScriptedAssistant):
    """Assistant with one act for each cue and a fixed length; its payoff estimates are 0."""

    on_definite: ActName = Field(default="direct", description="act at a definite cue")
    on_vague: ActName = Field(default="clarify", description="act at a vague cue")
    words: float = Field(default=2.0, ge=0, description="length of an answer, hundred words")

    def decide(self, phase: str, observation: Tensor, space: Box) -> Tensor:
        """See the fields."""
        if phase == "respond":
            is_vague = space.read(observation, "cue")[..., 0] > 0.5
            acts = (ACTS.index(self.on_definite), ACTS.index(self.on_vague))
            return torch.where(is_vague, acts[1], acts[0])
        size = 1 if phase == "length" else 12
        value = self.words if phase == "length" else 0.0
        return observation.new_full((*observation.shape[:-1], size), value)
