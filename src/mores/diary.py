"""What roles saw, did and earned, kept for players that learn from it afterwards."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import torch
from jaxtyping import Float
from torch import Tensor

from mores.game import Phase


@dataclasses.dataclass(frozen=True)
class Experience:
    """What one role's seats went through.

    A *decision* is one pass through a phase, in the order of play, over all rounds and episodes. In
    a world that had ended the last sights and acts repeat, and nothing is earned.

    Attributes:
        seen: by phase, `[world, decision, agent, size]`.
        acted: by phase, `[world, decision, agent]` or `[world, decision, agent, size]`.
        reward: `[world, payment, agent]`, a payment each time that the role was paid.
    """

    seen: dict[str, Tensor]
    acted: dict[str, Tensor]
    reward: Float[Tensor, "world payment agent"] | None


class Diary:
    """Keeps what the named roles see, do and earn, until `experience` is asked for."""

    def __init__(self, roles: Collection[str]) -> None:
        self.roles = frozenset(roles)
        self._seen: dict[tuple[str, str], list[Tensor]] = {}
        self._acted: dict[tuple[str, str], list[Tensor]] = {}
        self._reward: dict[str, list[Tensor]] = {}

    def acted(self, role: str, phase: Phase, seen: Tensor, action: Tensor) -> None:
        """The seats of a role have acted."""
        if role in self.roles:
            self._seen.setdefault((role, phase.name), []).append(seen)
            self._acted.setdefault((role, phase.name), []).append(action)

    def paid(self, role: str, reward: Tensor) -> None:
        """The seats of a role have earned something."""
        if role in self.roles:
            self._reward.setdefault(role, []).append(reward)

    def experience(self, role: str) -> Experience:
        """All that the role went through so far."""
        paid = self._reward.get(role)
        return Experience(
            {
                phase: torch.stack(rows, 1)
                for (who, phase), rows in self._seen.items()
                if who == role
            },
            {
                phase: torch.stack(rows, 1)
                for (who, phase), rows in self._acted.items()
                if who == role
            },
            None if paid is None else torch.stack(paid, 1),
        )
