"""Players that an environment seats where nobody else sits: they say what they see."""

from __future__ import annotations

import torch
from torch import Tensor

from mores.core.environment import ActionOutput, Box, Phase, Policy, Role
from mores.core.random_streams import RandomStreams


class Truthful(Policy):
    """A person who says exactly where they stand."""

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Box:
        """How its sight is laid out."""
        return role.observation_space

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Box,
        streams: RandomStreams,
    ) -> ActionOutput:
        """Say one's own values."""
        return ActionOutput(state.read(observation, "values"), state)


class MeanEcho(Policy):
    """An assistant that says what people answered on average."""

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Box:
        """How its sight is laid out."""
        return role.observation_space

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Box,
        streams: RandomStreams,
    ) -> ActionOutput:
        """Say the answers back, at full voice."""
        answers = state.read(observation, "mean_answer")
        return ActionOutput(torch.cat([answers, torch.ones_like(answers[..., :1])], -1), state)
