"""Scripted assistant of `reply_ratings`: different replies to compare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mores.core.environment import Phase, Role
from mores.core.errors import UserError
from mores.core.policy import ActionOutput, Policy
from mores.core.random_streams import RandomStreams, uniform_index
from mores.core.spaces import Discrete


class DistinctReplies(Policy):
    """Agents 2i and 2i + 1 choose two different options, all ordered pairs equally often.

    It collects comparisons in which every pair tells something, equal in all arms of an experiment.
    """

    tags: ClassVar[Mapping[str, object]] = {"stochastic": True}

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> str:
        """Name of the role; requires an even number of agents and discrete actions.

        Raises:
            UserError: the role has another number of agents, or other actions.
        """
        spaces = [
            each.action_spaces[role.name] for each in phases if role.name in each.action_spaces
        ]
        if role.num_agents % 2 or not all(isinstance(space, Discrete) for space in spaces):
            raise UserError(
                "distinct_replies needs pairs of agents that choose one of several options",
                code="unsupported",
                path=f"policies.{role.name}",
            )
        return role.name

    def act(
        self,
        phase: Phase,
        observation: Float[Tensor, "world agent size"],
        action_mask: Tensor | None,
        state: str,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """Two different options for each pair of agents."""
        count = self._num_options(phase, state, action_mask)
        u = streams.uniform("compared replies", observation.shape[1] // 2, 2)
        first = uniform_index(count, u[..., 0])
        other = uniform_index(max(count - 1, 1), u[..., 1])
        second = (first + 1 + other) % count
        return ActionOutput(torch.stack([first, second], -1).flatten(1), state)

    def expected_action(
        self,
        phase: Phase,
        observation: Float[Tensor, "world agent query size"],
        action_mask: Tensor | None,
        state: str,
        search: bool = False,
    ) -> Float[Tensor, "world agent query option"]:
        """Equal probabilities."""
        count = self._num_options(phase, state, action_mask)
        return torch.full((*observation.shape[:3], count), 1.0 / count, device=observation.device)

    def _num_options(self, phase: Phase, role: str, action_mask: Tensor | None) -> int:
        space = phase.action_spaces[role]
        assert isinstance(space, Discrete)
        if action_mask is not None and not bool(action_mask.all()):
            raise UserError(
                "distinct_replies needs options that are all legal",
                code="unsupported",
                path=f"policies.{role}",
            )
        return space.num_options
