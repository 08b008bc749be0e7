"""Default policies of `Coevolution`: people and assistants that report what they observe."""

from __future__ import annotations

import torch
from torch import Tensor

from mores.core.environment import Phase, Role
from mores.core.policy import ActionOutput, Policy
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box


class Truthful(Policy):
    """Person that reports their exact values, within the limits of a report."""

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Role:
        """The role, whose observation is read by name."""
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
        """Report the values."""
        values = state.observation_space.read(observation, "values")
        space = phase.action_spaces[state.name]
        return ActionOutput(space.clamp(values) if isinstance(space, Box) else values, state)


class MeanEcho(Policy):
    """Assistant that advises the mean answer of the people at intensity 1."""

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Box:
        """Layout of the observation."""
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
        """Advise the mean answer."""
        answer = state.read(observation, "mean_answer")
        return ActionOutput(torch.cat([answer, torch.ones_like(answer[..., :1])], -1), state)
