"""Who of those who were to learn did, and who never began: told from what their players count."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from mores.game import Player

UPDATES = "updates"  # the name of their number among what was learned: see `Player.learned`


@dataclasses.dataclass(frozen=True)
class Taught:
    """Whether those who were to learn in a stage did.

    Attributes:
        stage, role: where; of several players who share a role, which of them.
        policies: how many there are; 0 where nobody counts.
        taught: how many made an update.
        idle: how many made none, although they were to learn and had not stopped.
        why: what they were waiting for, if that is known.
    """

    stage: str
    role: str
    policies: int
    taught: int
    idle: int
    why: str = ""

    @property
    def nothing(self) -> bool:
        """Nobody learned anything."""
        return self.policies > 0 and self.taught == 0

    @property
    def line(self) -> str:
        """Who did not learn, and why, in words."""
        who = "nobody" if self.nothing else f"{self.idle} of {self.policies} policies never"
        why = f": {self.why}" if self.why else ""
        return f"{self.role}, {who} learned anything{why}"

    def __str__(self) -> str:
        return f"stage {self.stage}: {self.line}"


def taught(
    stage: str, role: str, player: Player, memory: Any, learned: Mapping[str, Tensor]
) -> Iterator[Taught]:
    """Whether the policies of a role, or of each player who shares it, made any update.

    Args:
        stage, role: what they are told under.
        player, memory: who sits there.
        learned: what `Player.learned` gives.
    """
    counts = {name: t for name, t in learned.items() if name.split("/")[-1] == UPDATES}
    if not counts:  # a player that does not say
        yield Taught(stage, role, 0, 0, 0)
    for name, updates in counts.items():
        who = name[: -len(UPDATES)]
        never = torch.zeros_like(updates, dtype=torch.bool)
        stopped, still = learned.get(f"{who}stopped"), learned.get(f"{who}still", never)
        made = (updates > 0) & ~still
        going = ~never if stopped is None else stopped < 0
        idle = int((going & ~made & ~still).sum())
        member = who.rstrip("/")
        why = player.waits(memory, member) if idle else ""
        called = f"{role}, {member}" if member else role
        yield Taught(stage, called, updates.numel(), int(made.sum()), idle, why)
