"""Uniform random policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from mores.core.environment import Phase, Role
from mores.core.policy import ActionOutput, Policy
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Discrete, MultiDiscrete
from mores.core.stream_addresses import BOUNDED_ACTION, UNBOUNDED_ACTION


@dataclasses.dataclass(frozen=True)
class UniformRandomState:
    """Name of the role, to find its action space in a phase."""

    role: str


class UniformRandom(Policy):
    """Uniform random policy (normal for unbounded boxes)."""

    tags: ClassVar[Mapping[str, object]] = {"stochastic": True}

    def initial_state(
        self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams
    ) -> UniformRandomState:
        """The role's name."""
        return UniformRandomState(role.name)

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: UniformRandomState,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """A random legal action for every agent."""
        space, num_agents = phase.action_spaces[state.role], observation.shape[1]
        if isinstance(space, (Discrete, MultiDiscrete)):
            options = (space.num_options,) if isinstance(space, Discrete) else space.num_options
            noise = streams.uniform("option", num_agents, sum(options))
            if action_mask is not None:
                noise = torch.where(action_mask, noise, -1.0)
            action = torch.stack([part.argmax(-1) for part in noise.split(options, -1)], -1)
            return ActionOutput(action[..., 0] if isinstance(space, Discrete) else action, state)
        low = torch.tensor(space.low, device=observation.device)
        high = torch.tensor(space.high, device=observation.device)
        bounded = torch.isfinite(low) & torch.isfinite(high)
        inside = low + streams.uniform(BOUNDED_ACTION, num_agents, space.size) * (high - low)
        free = streams.normal(UNBOUNDED_ACTION, num_agents, space.size)
        return ActionOutput(
            torch.where(bounded, inside, torch.maximum(low, torch.minimum(free, high))), state
        )

    def expected_action(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: UniformRandomState,
        search: bool = False,
    ) -> Tensor:
        """Equal probabilities of the legal options; the mean action of a box."""
        space, leading = phase.action_spaces[state.role], observation.shape[:-1]
        if isinstance(space, (Discrete, MultiDiscrete)):
            options = (space.num_options,) if isinstance(space, Discrete) else space.num_options
            legal = torch.ones(*leading, sum(options), device=observation.device)
            if action_mask is not None:
                legal = action_mask.to(legal.dtype)
            parts = legal.split(options, -1)
            return torch.cat([part / part.sum(-1, keepdim=True) for part in parts], -1)
        low, high = (limit.to(observation.device) for limit in space.limits)
        bounded = torch.isfinite(low) & torch.isfinite(high)
        mean = torch.where(bounded, (low + high) / 2, _clipped_normal_mean(low, high))
        return mean.expand(*leading, -1)


def _clipped_normal_mean(low: Tensor, high: Tensor) -> Tensor:
    """Mean of a standard normal number that is set to the nearest bound outside `[low, high]`."""
    normal = torch.distributions.Normal(torch.zeros_like(low), torch.ones_like(low))
    mean = torch.exp(normal.log_prob(low)) - torch.exp(normal.log_prob(high))
    at_low = torch.where(torch.isfinite(low), low * normal.cdf(low), 0.0)
    return mean + at_low + torch.where(torch.isfinite(high), high * normal.cdf(-high), 0.0)
