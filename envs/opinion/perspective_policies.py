"""A scripted writer of `perspectives`: the delegates' own texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from mores.core.environment import Phase, Role
from mores.core.policy import (
    ActionOutput,
    Policy,
    require_message_actions,
    require_observation_parts,
)
from mores.core.random_streams import RandomStreams
from mores.core.spaces import MultiDiscrete
from mores.core.turn_text import decode_message, encode_message
from mores.envs.opinion.perspective_lexicon import CULTURES


class JoinViews(Policy):
    """Writer that sends the delegates' texts one after the other, without a synthesis."""

    tags: ClassVar[Mapping[str, object]] = {"stochastic": False}

    num_views: int = Field(default=len(CULTURES), ge=1, description="number of delegates")

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Role:
        """The role, whose observation is read by name."""
        require_observation_parts("join_views", role, "question", "views")
        require_message_actions("join_views", role, phases)
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
        """The texts, each up to its end, on lines of their own."""
        space = phase.action_spaces[state.name]
        assert isinstance(space, MultiDiscrete)
        views = state.observation_space.read(observation, "views").flatten(0, 1).cpu()
        texts = []
        for row in views.unflatten(-1, (self.num_views, -1)):
            parts = [decode_message(codes).strip() for codes in row]
            texts.append(encode_message("\n".join(filter(None, parts)), space.size))
        action = torch.stack(texts).unflatten(0, observation.shape[:2])
        return ActionOutput(action.to(observation.device), state)
