"""A policy that does anything that is legal, evenly."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from mores.core.environment import ActionOutput, Discrete, MultiDiscrete, Phase, Policy, Role
from mores.core.random_streams import RandomStreams


@dataclasses.dataclass(frozen=True)
class UniformRandomState:
    """The name of one's role, to find one's space in a phase."""

    role: str


class UniformRandom(Policy):
    """Any legal option with equal probability; in a box, any point of it (unbounded: normal)."""

    tags: ClassVar[Mapping[str, object]] = {"learns": False, "stochastic": True}

    def initial_state(
        self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams
    ) -> UniformRandomState:
        """Remember the role."""
        return UniformRandomState(role.name)

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: UniformRandomState,
        streams: RandomStreams,
    ) -> ActionOutput:
        """Draw an action."""
        space, seats = phase.action_spaces[state.role], observation.shape[1]
        if isinstance(space, (Discrete, MultiDiscrete)):
            options = (space.num_options,) if isinstance(space, Discrete) else space.num_options
            chance = streams.uniform("option", seats, sum(options))
            if action_mask is not None:
                chance = torch.where(action_mask, chance, -1.0)
            chosen = torch.stack([one.argmax(-1) for one in chance.split(options, -1)], -1)
            return ActionOutput(chosen[..., 0] if isinstance(space, Discrete) else chosen, state)
        low = torch.tensor(space.low, device=observation.device)
        high = torch.tensor(space.high, device=observation.device)
        bounded = torch.isfinite(low) & torch.isfinite(high)
        inside = low + streams.uniform("point", seats, space.size) * (high - low)
        free = streams.normal("free point", seats, space.size)
        return ActionOutput(
            torch.where(bounded, inside, torch.maximum(low, torch.minimum(free, high))), state
        )
