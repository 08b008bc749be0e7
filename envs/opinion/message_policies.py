"""Scripted policies of `opinion_messages`: a stated value, a statement of it, a fixed message."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from mores.core.environment import Phase, Role
from mores.core.errors import UserError
from mores.core.policy import (
    ActionOutput,
    Policy,
    require_message_actions,
    require_observation_parts,
)
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, MultiDiscrete
from mores.core.turn_text import encode_message
from mores.envs.opinion.message_topic import Topic


def option_probabilities(
    value: Float[Tensor, "*many"], low: float, high: float, num_options: int
) -> Float[Tensor, "*many option"]:
    """Probabilities of evenly spaced options whose mean is the value, on its two neighbors."""
    position = (value.clamp(low, high) - low) * ((num_options - 1) / (high - low))
    options = torch.arange(num_options, dtype=value.dtype, device=value.device)
    return (1.0 - (position[..., None] - options).abs()).clamp(min=0.0)


def nearest_option(
    value: Float[Tensor, "*many"], low: float, high: float, num_options: int
) -> Int[Tensor, "*many"]:
    """The option nearest to a value; of two equally near ones the higher."""
    position = (value.clamp(low, high) - low) * ((num_options - 1) / (high - low))
    return (position + 0.5).floor().long().clamp(max=num_options - 1)


class ScaleAnswer(Policy):
    """Person that states the own value: the mean of probabilities of its two nearest options."""

    tags: ClassVar[Mapping[str, object]] = {"stochastic": False}

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Role:
        """The role, whose observation is read by name."""
        require_observation_parts("scale_answer", role, "values")
        spaces = [p.action_spaces[role.name] for p in phases if role.name in p.action_spaces]
        if not all(isinstance(space, Box) and space.size > 1 for space in spaces):
            raise UserError(
                f"scale_answer states probabilities; the actions of {role.name} are none",
                code="unsupported",
                path=f"policies.{role.name}",
            )
        values = role.observation_space.parts["values"]
        if not (math.isfinite(values.low) and math.isfinite(values.high)):
            raise UserError(
                f"scale_answer needs values within limits; those of {role.name} have none",
                code="unsupported",
                path=f"policies.{role.name}",
            )
        return role

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Role,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """State the value."""
        return ActionOutput(self._stated(phase, observation, state), state)

    def expected_action(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Role,
        search: bool = False,
    ) -> Tensor:
        """The same: nothing is random."""
        return self._stated(phase, observation, state)

    def _stated(self, phase: Phase, observation: Tensor, role: Role) -> Tensor:
        space, part = phase.action_spaces[role.name], role.observation_space.parts["values"]
        assert isinstance(space, Box)
        value = role.observation_space.read(observation, "values")[..., 0]
        return option_probabilities(value, part.low, part.high, space.size)


class FixedMessage(Policy):
    """Agent that always sends the same message; an empty one: it is silent."""

    tags: ClassVar[Mapping[str, object]] = {"stochastic": False}

    text: str = Field(default="", description="the message; default: empty, nothing is said")

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Role:
        """The role; its actions must be messages."""
        require_message_actions("fixed_message", role, phases)
        return role

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Role,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """Send the message."""
        space = phase.action_spaces[state.name]
        assert isinstance(space, MultiDiscrete)
        message = encode_message(self.text, space.size).to(observation.device)
        return ActionOutput(message.expand(*observation.shape[:2], -1), state)


class StatementWriter(Policy):
    """Person that writes the statement of the attitude nearest to the own value."""

    tags: ClassVar[Mapping[str, object]] = {"stochastic": False}

    statements: tuple[str, ...] = Field(
        default=Topic().statements,
        min_length=2,
        description="statement of each attitude, from the lowest value to the highest",
    )

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Role:
        """The role; its actions must be messages."""
        require_observation_parts("statement_writer", role, "values")
        require_message_actions("statement_writer", role, phases)
        return role

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Role,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """Write the statement."""
        space = phase.action_spaces[state.name]
        assert isinstance(space, MultiDiscrete)
        part = state.observation_space.parts["values"]
        value = state.observation_space.read(observation, "values")[..., 0]
        option = nearest_option(value, part.low, part.high, len(self.statements))
        encoded = [encode_message(text, space.size) for text in self.statements]
        return ActionOutput(torch.stack(encoded).to(observation.device)[option], state)
