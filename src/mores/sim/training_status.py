"""Numbers of models that were updated in a stage, from the counters of their policies."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from mores.core.check_metrics import INTEGER_DTYPES
from mores.core.errors import UserError
from mores.core.policy import Policy

# Reserved names in `Policy.state_dict`.
NUM_UPDATES_KEY = "num_updates"
COUNTER_DTYPES = {
    NUM_UPDATES_KEY: "integer",
    "stopped_at": "integer",
    "frozen": "bool",
}


@dataclasses.dataclass(frozen=True)
class TrainingStatus:
    """Whether the models of a policy were updated in a stage.

    Attributes:
        stage, role: name of the stage and role, with the member of a composite policy.
        num_models: number of models; 0 if the policy does not count updates.
        num_updated: models with at least one update.
        num_not_updated: models without update that were neither frozen nor stopped.
        reason: condition for an update that was not met, if known.
    """

    stage: str
    role: str
    num_models: int
    num_updated: int
    num_not_updated: int
    reason: str = ""

    @property
    def none_updated(self) -> bool:
        """Whether the policy has models and none was updated."""
        return self.num_models > 0 and self.num_updated == 0

    @property
    def message(self) -> str:
        """Number of models without update, and the reason."""
        never = f"{self.num_not_updated} of {self.num_models} models were never updated"
        count = "no model was updated" if self.none_updated else never
        reason = f": {self.reason}" if self.reason else ""
        return f"{self.role}: {count}{reason}"

    def __str__(self) -> str:
        return f"stage {self.stage}: {self.message}"


def copy_state_dict(role: str, policy: Policy, state: Any) -> dict[str, Tensor]:
    """Copies on the CPU of a policy's parameters, which policies change in place.

    Raises:
        UserError: as in `checked_state_dict`.
    """
    tensors = checked_state_dict(role, policy, state)
    return {n: tensor.detach().cpu().contiguous().clone() for n, tensor in tensors.items()}


def checked_state_dict(role: str, policy: Policy, state: Any) -> Mapping[str, Tensor]:
    """`Policy.state_dict` of a role's policy, checked.

    Raises:
        UserError: wrong types, shapes or counters.
    """
    tensors, path = policy.state_dict(state), f"policies.{role}"
    source = f"policy of {role}: {type(policy).__name__}.state_dict"
    named = isinstance(tensors, Mapping) and all(isinstance(name, str) for name in tensors)
    if not named or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        message = f"{source} must return tensors by name, not {tensors!r:.60}"
        raise UserError(message, code="failed", path=path)
    sizes = {len(tensor) if tensor.dim() else None for tensor in tensors.values()}
    if len(sizes) > 1 or None in sizes:
        shapes = ", ".join(f"{name} {list(t.shape)}" for name, t in tensors.items())
        message = f"{source}: all tensors must have the model dimension first, not {shapes}"
        raise UserError(message, code="failed", path=path)
    for name, tensor in tensors.items():
        counter = name.split("/")[-1]
        if expected := COUNTER_DTYPES.get(counter):
            dtype = "bool" if tensor.dtype == torch.bool else "integer"
            if tensor.dim() != 1 or tensor.dtype not in INTEGER_DTYPES or dtype != expected:
                message = f"{source}: {counter!r} must be [model], {expected}"
                raise UserError(message, code="failed", path=path)
    return tensors


def training_statuses(
    stage: str, role: str, policy: Policy, state: Any, state_dict: Mapping[str, Tensor]
) -> Iterator[TrainingStatus]:
    """Status of a role's policy, or of each member of a composite policy.

    Args:
        stage, role: names for the status.
        policy, state: the policy and its state.
        state_dict: result of `checked_state_dict` or `copy_state_dict`.
    """
    counts = {name: t for name, t in state_dict.items() if name.split("/")[-1] == NUM_UPDATES_KEY}
    if not counts:
        yield TrainingStatus(stage, role, 0, 0, 0)
    for name, updates in counts.items():
        prefix = name[: -len(NUM_UPDATES_KEY)]
        none = torch.zeros_like(updates, dtype=torch.bool)
        stopped_at, frozen = (state_dict.get(f"{prefix}{key}") for key in ("stopped_at", "frozen"))
        frozen = none if frozen is None else frozen
        updated = (updates > 0) & ~frozen
        running = ~none if stopped_at is None else stopped_at < 0
        idle = int((running & ~updated & ~frozen).sum())
        member = prefix.rstrip("/")
        reason = policy.no_update_reason(state, member) if idle else ""
        label = f"{role}, {member}" if member else role
        yield TrainingStatus(stage, label, len(updates), int(updated.sum()), idle, reason)
