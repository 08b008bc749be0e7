"""Numbers of models that were updated in a stage, from the diagnostics of their learners."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mores.core.check_metrics import INTEGER_DTYPES
from mores.core.environment import Environment
from mores.core.errors import UserError
from mores.core.learner import Learner, TrainingDiagnostics


@dataclasses.dataclass(frozen=True)
class TrainingStatus:
    """Whether the models of a policy were updated in a stage.

    Attributes:
        stage, role: name of the stage and role, with the member of a composite policy.
        num_models: number of models; 0 if the policy does not count updates.
        num_updated: models with at least one update.
        num_not_updated: models without update that were neither frozen nor stopped.
        reason: condition for an update that was not met, if known.
        draw: draw of uncertain parameters of the models.
    """

    stage: str
    role: str
    num_models: int
    num_updated: int
    num_not_updated: int
    reason: str = ""
    draw: int = 0

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
        draw = f"draw {self.draw}, " if self.draw else ""
        return f"{draw}{self.role}: {count}{reason}"

    def __str__(self) -> str:
        return f"stage {self.stage}: {self.message}"


def copy_state_dict(role: str, learner: Learner, state: Any) -> dict[str, Tensor]:
    """Copies on the CPU of a learner's parameters, which learners change in place.

    Raises:
        UserError: as in `checked_state_dict`.
    """
    tensors = checked_state_dict(role, learner, state)
    return {n: tensor.detach().cpu().contiguous().clone() for n, tensor in tensors.items()}


def checked_state_dict(role: str, learner: Learner, state: Any) -> Mapping[str, Tensor]:
    """`Learner.state_dict` of a role's learner, checked.

    Raises:
        UserError: wrong types or shapes.
    """
    tensors, path = learner.state_dict(state), f"policies.{role}"
    source = f"policy of {role}: {type(learner).__name__}.state_dict"
    named = isinstance(tensors, Mapping) and all(isinstance(name, str) for name in tensors)
    if not named or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        message = f"{source} must return tensors by name, not {tensors!r:.60}"
        raise UserError(message, code="failed", path=path)
    sizes = {len(tensor) if tensor.dim() else None for tensor in tensors.values()}
    if len(sizes) > 1 or None in sizes:
        shapes = ", ".join(f"{name} {list(t.shape)}" for name, t in tensors.items())
        message = f"{source}: all tensors must have the model dimension first, not {shapes}"
        raise UserError(message, code="failed", path=path)
    return tensors


def checked_diagnostics(role: str, learner: Learner, state: Any) -> Sequence[TrainingDiagnostics]:
    """`Learner.diagnostics` of a role's learner, checked.

    Raises:
        UserError: wrong types or shapes.
    """
    diagnostics, path = learner.diagnostics(state), f"policies.{role}"
    source = f"policy of {role}: {type(learner).__name__}.diagnostics"
    if not isinstance(diagnostics, Sequence) or not all(
        isinstance(entry, TrainingDiagnostics) for entry in diagnostics
    ):
        message = f"{source} must return a list of TrainingDiagnostics, not {diagnostics!r:.60}"
        raise UserError(message, code="failed", path=path)
    for entry in diagnostics:
        counts = {"num_updates": entry.num_updates, "stopped_at": entry.stopped_at}
        counts["draw"] = entry.draw
        given = {name: x for name, x in counts.items() if x is not None}
        lengths = {tuple(x.shape) if isinstance(x, Tensor) else None for x in given.values()}
        if len(lengths) > 1 or not all(
            isinstance(x, Tensor) and x.dim() == 1 and x.dtype in INTEGER_DTYPES[1:]
            for x in given.values()
        ):
            message = f"{source}: {', '.join(given)} must be [model], integer"
            raise UserError(message, code="failed", path=path)
    return diagnostics


def checked_learning_metrics(
    role: str, learner: Learner, state: Any, num_replicates: int
) -> Mapping[str, Tensor]:
    """`Learner.learning_metrics` of a role's learner, checked.

    Raises:
        UserError: wrong types or shapes, or another number of models in some replicates.
    """
    values, path = learner.learning_metrics(state), f"policies.{role}"
    source = f"policy of {role}: {type(learner).__name__}.learning_metrics"
    named = isinstance(values, Mapping) and all(isinstance(name, str) for name in values)
    if not named or not all(isinstance(value, Tensor) for value in values.values()):
        message = f"{source} must return tensors by name, not {values!r:.60}"
        raise UserError(message, code="failed", path=path)
    lengths: dict[str, int] = {}  # by learner; members of a policy stand before a slash
    for name, value in values.items():
        length = len(value) if value.dim() == 1 else 0
        expected = lengths.setdefault(name.rpartition("/")[0], length)
        if not length or length % num_replicates or length != expected:
            raise UserError(
                f"{source}: {name} must be [model], as many models in each of {num_replicates} "
                f"replicates and in every quantity, not {list(value.shape)}",
                code="failed",
                path=path,
            )
    return values


def too_few_rounds(environment: Environment[Any], rounds: int) -> str:
    """Reason why no policy can learn in episodes of so many rounds. Empty: none."""
    needed = environment.min_rounds
    return f"{rounds} are too few to learn from: {needed} needed" if rounds < needed else ""


def no_update_reason(role: str, learner: Learner, state: Any, rounds: int) -> str:
    """Reason why models can have no online update in so many rounds from here. Empty: none."""
    reasons = (e.no_update_reason(rounds) for e in checked_diagnostics(role, learner, state))
    return "; ".join(reason for reason in reasons if reason)


def training_statuses(
    stage: str, role: str, diagnostics: Sequence[TrainingDiagnostics]
) -> Iterator[TrainingStatus]:
    """Status of a role's learner, or of its members, at each draw, from `checked_diagnostics`."""
    if all(entry.num_updates is None for entry in diagnostics):
        yield TrainingStatus(stage, role, 0, 0, 0)
    for entry in diagnostics:
        if entry.num_updates is None:
            continue
        updated = (entry.num_updates > 0) & (not entry.frozen)
        idle = ~updated & (not entry.frozen)
        if entry.stopped_at is not None:
            idle &= entry.stopped_at < 0
        label = f"{role}, {entry.member}" if entry.member else role
        draws = torch.zeros_like(entry.num_updates) if entry.draw is None else entry.draw
        for draw in draws.unique().tolist():
            own = draws == draw
            num_idle, num_updated = int((idle & own).sum()), int((updated & own).sum())
            reason = entry.obstacle if num_idle else ""
            yield TrainingStatus(stage, label, int(own.sum()), num_updated, num_idle, reason, draw)
