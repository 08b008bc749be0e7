"""Scripted assistant of `reply_ratings`: different replies to compare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.core.environment import Phase, Role
from mores.core.errors import UserError
from mores.core.policy import ActionOutput, Policy
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Discrete


class DistinctReplies(Policy):
    """Agents 2i and 2i + 1 choose two different legal options, all ordered pairs equally often.

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
        """Two different options for each pair of agents; the same one if only one is legal."""
        legal = self._legal(phase, state, observation[:, ::2], action_mask)
        noise = streams.uniform("compared replies", legal.shape[1], legal.shape[2])
        first, second = torch.where(legal, noise, -1.0).topk(2, -1).indices.unbind(-1)
        is_legal = legal.gather(-1, second[..., None])[..., 0]
        second = torch.where(is_legal, second, first)
        return ActionOutput(torch.stack([first, second], -1).flatten(1), state)

    def expected_action(
        self,
        phase: Phase,
        observation: Float[Tensor, "world agent query size"],
        action_mask: Bool[Tensor, "world agent query option"] | None,
        state: str,
        search: bool = False,
    ) -> Float[Tensor, "world agent query option"]:
        """Equal probabilities of the legal options."""
        space = phase.action_spaces[state]
        assert isinstance(space, Discrete)
        if action_mask is None:
            shape = (*observation.shape[:3], space.num_options)
            return torch.full(shape, 1.0 / space.num_options, device=observation.device)
        legal = action_mask.to(torch.float32)
        return legal / legal.sum(-1, keepdim=True)

    def _legal(
        self,
        phase: Phase,
        role: str,
        observation: Float[Tensor, "world pair size"],
        action_mask: Bool[Tensor, "world agent option"] | None,
    ) -> Bool[Tensor, "world pair option"]:
        """Options that are legal for the first agent of each pair.

        Raises:
            UserError: there are others for the second one.
        """
        space = phase.action_spaces[role]
        assert isinstance(space, Discrete)
        if action_mask is None:
            shape = (*observation.shape[:2], space.num_options)
            return torch.ones(shape, dtype=torch.bool, device=observation.device)
        if not torch.equal(action_mask[:, ::2], action_mask[:, 1::2]):
            raise UserError(
                "distinct_replies needs pairs of agents with the same legal options",
                code="unsupported",
                path=f"policies.{role}",
            )
        return action_mask[:, ::2]
