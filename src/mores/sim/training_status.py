"""Who of those who were to learn did, and who never began: told from what their players count."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from mores.core.check_metrics import WHOLE
from mores.core.environment import Player
from mores.core.errors import UserError

# What is known by these names among what was learned: see `Player.learned`.
UPDATES = "updates"
COUNTS = {UPDATES: "whole numbers", "stopped": "whole numbers", "still": "true or false"}


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


def learned_by(role: str, player: Player, memory: Any) -> dict[str, Tensor]:
    """Copies of what a role's player learned, on the host: players change theirs in place.

    Raises:
        UserError: what it says does not fit together.
    """
    found = check_learned(role, player, memory)
    return {n: tensor.detach().cpu().contiguous().clone() for n, tensor in found.items()}


def check_learned(role: str, player: Player, memory: Any) -> Mapping[str, Tensor]:
    """What a role's player learned, as it says.

    Raises:
        UserError: that does not fit together.
    """
    who, found = f"{role}'s player, {type(player).__name__}", player.learned(memory)
    path = f"players.{role}"
    whole = isinstance(found, Mapping) and all(isinstance(name, str) for name in found)
    if not whole or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise UserError(
            f"{who}: `learned` gives tensors by name, not {found!r:.60}", code="failed", path=path
        )
    sizes = {len(tensor) if tensor.dim() else None for tensor in found.values()}
    if len(sizes) > 1 or None in sizes:
        shapes = ", ".join(f"{name} {list(t.shape)}" for name, t in found.items())
        raise UserError(
            f"{who}: all that `learned` gives leads with its policies, as many in each; here it "
            f"is {shapes}",
            code="failed",
            path=path,
        )
    for name, tensor in found.items():
        last = name.split("/")[-1]
        if wanted := COUNTS.get(last):
            kind = "true or false" if tensor.dtype == torch.bool else "whole numbers"
            if tensor.dim() != 1 or tensor.dtype not in WHOLE or kind != wanted:
                raise UserError(
                    f"{who}: {last!r} in what `learned` gives is [policy], {wanted}",
                    code="failed",
                    path=path,
                )
    return found


def taught(
    stage: str, role: str, player: Player, memory: Any, learned: Mapping[str, Tensor]
) -> Iterator[Taught]:
    """Whether the policies of a role, or of each player who shares it, made any update.

    Args:
        stage, role: what they are told under.
        player, memory: who sits there.
        learned: what `check_learned` or `learned_by` gives.
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
        yield Taught(stage, called, len(updates), int(made.sum()), idle, why)
