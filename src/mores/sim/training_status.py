"""Who of those who were to learn did, and who never began: told from what their players count."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from mores.core.check_metrics import INTEGER_DTYPES
from mores.core.environment import Policy
from mores.core.errors import UserError

# What is known by these names among what was learned: see `Policy.state_dict`.
NUM_UPDATES_KEY = "num_updates"
COUNTER_DTYPES = {
    NUM_UPDATES_KEY: "whole numbers",
    "stopped_at": "whole numbers",
    "frozen": "true or false",
}


@dataclasses.dataclass(frozen=True)
class TrainingStatus:
    """Whether those who were to learn in a stage did.

    Attributes:
        stage, role: where; of several players who share a role, which of them.
        num_models: how many there are; 0 where nobody counts.
        num_updated: how many made an update.
        num_not_updated: how many made none, although they were to learn and had not stopped.
        reason: what they were waiting for, if that is known.
    """

    stage: str
    role: str
    num_models: int
    num_updated: int
    num_not_updated: int
    reason: str = ""

    @property
    def none_updated(self) -> bool:
        """Nobody learned anything."""
        return self.num_models > 0 and self.num_updated == 0

    @property
    def message(self) -> str:
        """Who did not learn, and why, in words."""
        who = (
            "nobody"
            if self.none_updated
            else f"{self.num_not_updated} of {self.num_models} policies never"
        )
        why = f": {self.reason}" if self.reason else ""
        return f"{self.role}, {who} learned anything{why}"

    def __str__(self) -> str:
        return f"stage {self.stage}: {self.message}"


def copy_state_dict(role: str, policy: Policy, state: Any) -> dict[str, Tensor]:
    """Copies of what a role's player learned, on the host: players change theirs in place.

    Raises:
        UserError: what it says does not fit together.
    """
    found = checked_state_dict(role, policy, state)
    return {n: tensor.detach().cpu().contiguous().clone() for n, tensor in found.items()}


def checked_state_dict(role: str, policy: Policy, state: Any) -> Mapping[str, Tensor]:
    """What a role's player learned, as it says.

    Raises:
        UserError: that does not fit together.
    """
    who, found = f"{role}'s player, {type(policy).__name__}", policy.state_dict(state)
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
        if wanted := COUNTER_DTYPES.get(last):
            kind = "true or false" if tensor.dtype == torch.bool else "whole numbers"
            if tensor.dim() != 1 or tensor.dtype not in INTEGER_DTYPES or kind != wanted:
                raise UserError(
                    f"{who}: {last!r} in what `learned` gives is [policy], {wanted}",
                    code="failed",
                    path=path,
                )
    return found


def training_statuses(
    stage: str, role: str, policy: Policy, state: Any, state_dict: Mapping[str, Tensor]
) -> Iterator[TrainingStatus]:
    """Whether the policies of a role, or of each player who shares it, made any update.

    Args:
        stage, role: what they are told under.
        policy, state: who sits there.
        state_dict: what `checked_state_dict` or `copy_state_dict` gives.
    """
    counts = {name: t for name, t in state_dict.items() if name.split("/")[-1] == NUM_UPDATES_KEY}
    if not counts:  # a player that does not say
        yield TrainingStatus(stage, role, 0, 0, 0)
    for name, updates in counts.items():
        who = name[: -len(NUM_UPDATES_KEY)]
        never = torch.zeros_like(updates, dtype=torch.bool)
        stopped, still = state_dict.get(f"{who}stopped_at"), state_dict.get(f"{who}frozen", never)
        made = (updates > 0) & ~still
        going = ~never if stopped is None else stopped < 0
        idle = int((going & ~made & ~still).sum())
        member = who.rstrip("/")
        why = policy.no_update_reason(state, member) if idle else ""
        called = f"{role}, {member}" if member else role
        yield TrainingStatus(stage, called, len(updates), int(made.sum()), idle, why)
