"""Scripted policies of the welfare game: users with a threshold, assistants that follow the cue."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from mores.core.environment import Phase, Role
from mores.core.errors import UserError
from mores.core.policy import ActionOutput, Policy, require_observation_parts
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box
from mores.envs.strategic.welfare_parameters import NUM_CELLS
from mores.envs.strategic.welfare_task import ACTS

ActName = Literal["direct", "clarify", "answer_and_ask"]


class ThresholdWriter(Policy):
    """User who writes a definite request if it costs less than a threshold.

    This is the form of every best response. `mores.envs.strategic.welfare_values.writing_threshold`
    gives the threshold.
    """

    threshold: float = Field(
        default=0.2,
        ge=0,
        description="largest writing cost at which the request is definite, utility",
    )

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
        return ActionOutput(self._choose(observation, state), state)

    def expected_action(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Box,
        search: bool = False,
    ) -> Tensor:
        """Probability 1 of that action."""
        return functional.one_hot(self._choose(observation, state), 2).to(observation.dtype)

    def _choose(self, observation: Tensor, space: Box) -> Int[Tensor, "*shape"]:
        return (space.read(observation, "writing_cost")[..., 0] < self.threshold).to(torch.int64)


class AssistantLayout(NamedTuple):
    """What an assistant or composer observes, and what it decides: parts of a composer's action."""

    observation: Box
    parts: tuple[str, ...]


class ConversationPolicy(Policy):
    """Base of assistants and composers that decide by a fixed rule; a subclass has the rule."""

    def initial_state(
        self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams
    ) -> AssistantLayout:
        """Layout of observation and action; requires cue and costs of a conversation."""
        if role.name not in ("assistant", "composer"):
            raise UserError(
                f"{type(self).__name__} plays assistant or composer; the role is {role.name}",
                code="unsupported",
                path=f"policies.{role.name}",
            )
        parts = ("cue", "delay_cost", "reading_cost", "price")
        require_observation_parts(type(self).__name__, role, *parts)
        spaces = [phase.action_spaces.get(role.name) for phase in phases]
        composed = [tuple(space.parts) for space in spaces if isinstance(space, Box)]
        return AssistantLayout(role.observation_space, composed[0] if composed else ())

    def choose_act(self, observation: Tensor, space: Box) -> Int[Tensor, "*shape"]:
        """Index of the act."""
        raise NotImplementedError

    def compose(self, part: str, observation: Tensor, space: Box) -> Float[Tensor, "*shape size"]:
        """Length in hundred words (part `words`), or payoff estimates (part `payoffs`)."""
        raise NotImplementedError

    def _decide(self, observation: Tensor, state: AssistantLayout) -> Tensor:
        space = state.observation
        if not state.parts:
            return self.choose_act(observation, space)
        return torch.cat([self.compose(part, observation, space) for part in state.parts], -1)

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: AssistantLayout,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """The decision of the role."""
        return ActionOutput(self._decide(observation, state), state)

    def expected_action(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: AssistantLayout,
        search: bool = False,
    ) -> Tensor:
        """The same: nothing is random."""
        decision = self._decide(observation, state)
        if state.parts:
            return decision
        return functional.one_hot(decision, len(ACTS)).to(observation.dtype)


class CueAssistant(ConversationPolicy):
    """Assistant with one act for each cue and a fixed length; its payoff estimates are 0."""

    on_definite: ActName = Field(default="direct", description="act at a definite cue")
    on_vague: ActName = Field(default="clarify", description="act at a vague cue")
    words: float = Field(default=2.0, ge=0, description="length of an answer, hundred words")

    def choose_act(self, observation: Tensor, space: Box) -> Int[Tensor, "*shape"]:
        """See the fields."""
        is_vague = space.read(observation, "cue")[..., 0] > 0.5
        on_definite, on_vague = ACTS.index(self.on_definite), ACTS.index(self.on_vague)
        return torch.where(is_vague, on_vague, on_definite)

    def compose(self, part: str, observation: Tensor, space: Box) -> Float[Tensor, "*shape size"]:
        """`words`; zeros as payoffs."""
        size, value = (1, self.words) if part == "words" else (NUM_CELLS, 0.0)
        return observation.new_full((*observation.shape[:-1], size), value)
