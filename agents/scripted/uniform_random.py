"""A policy that does anything that is legal, evenly."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from mores.core.environment import Act, Discrete, MultiDiscrete, Phase, Player, Role
from mores.core.random_streams import Draws


@dataclasses.dataclass(frozen=True)
class Memory:
    """The name of one's role, to find one's space in a phase."""

    role: str


class Anyhow(Player):
    """Any legal option with equal probability; in a box, any point of it (unbounded: normal)."""

    traits: ClassVar[Mapping[str, object]] = {"learns": False, "stochastic": True}

    def start(self, role: Role, phases: tuple[Phase, ...], draws: Draws) -> Memory:
        """Remember the role."""
        return Memory(role.name)

    def act(
        self, phase: Phase, seen: Tensor, legal: Tensor | None, memory: Memory, draws: Draws
    ) -> Act:
        """Draw an action."""
        space, seats = phase.acts[memory.role], seen.shape[1]
        if isinstance(space, (Discrete, MultiDiscrete)):
            options = (space.options,) if isinstance(space, Discrete) else space.options
            chance = draws.uniform("option", seats, sum(options))
            if legal is not None:
                chance = torch.where(legal, chance, -1.0)
            chosen = torch.stack([one.argmax(-1) for one in chance.split(options, -1)], -1)
            return Act(chosen[..., 0] if isinstance(space, Discrete) else chosen, memory)
        low = torch.tensor(space.low, device=seen.device)
        high = torch.tensor(space.high, device=seen.device)
        bounded = torch.isfinite(low) & torch.isfinite(high)
        inside = low + draws.uniform("point", seats, space.size) * (high - low)
        free = draws.normal("free point", seats, space.size)
        return Act(
            torch.where(bounded, inside, torch.maximum(low, torch.minimum(free, high))), memory
        )
