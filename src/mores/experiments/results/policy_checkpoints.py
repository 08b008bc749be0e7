"""Learned parameters and training diagnostics of a cell, collected at the end of every stage.

checkpoints/<stage>.<role>.safetensors   `Learner.state_dict`: tensors that lead with the models
checkpoints/<stage>.<role>.json          policy kind and parameters, replicates, shapes
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from torch import Tensor

from mores.core.environment import get_role
from mores.core.file_formats import RUN_FORMAT, mores_version
from mores.core.learner import TrainingMode, can_train
from mores.experiments.results.cell_result import PolicyCheckpoint, StoppedTraining
from mores.experiments.results.stored_cell import StoredCell
from mores.experiments.scenario.cell import BuiltStage, Cell
from mores.experiments.scenario.expansion import full_spec
from mores.sim.policy_states import PolicyStateStore, state_key
from mores.sim.training_status import (
    TrainingStatus,
    checked_diagnostics,
    copy_state_dict,
    training_statuses,
)

CHECKPOINTS = "checkpoints"


class CheckpointCollector:
    """Collects the learned parameters of a cell's learners, chunk after chunk of worlds."""

    def __init__(self, cell: Cell, replicates: Sequence[int]) -> None:
        self._cell, self._replicates = cell, list(replicates)
        self.checkpoints: dict[tuple[str, str], PolicyCheckpoint] = {}  # by stage and role
        self.stopped: dict[tuple[str, str], StoppedTraining] = {}  # by role and message
        self.training_statuses: dict[tuple[str, str, int], TrainingStatus] = {}  # stage, role, draw

    def collect(self, stage_index: int, built_stage: BuiltStage, store: PolicyStateStore) -> None:
        """Copy the parameters of a stage's learners at its end.

        Raises:
            UserError: the tensors that a policy returns do not fit together.
        """
        stage = built_stage.stage
        for role in stage.roles_to_train:
            policy = built_stage.policies.get(role)
            state_name = None if policy is None else state_key(role, policy)
            mode: TrainingMode = "online" if stage.loop == "train" else "offline"
            if policy is None or state_name not in store or not can_train(policy, mode):
                continue  # an arm in which no policy trains
            state, key = store[state_name], (stage.name, role)
            tensors = copy_state_dict(role, policy, state)
            diagnostics = checked_diagnostics(role, policy, state)
            for message in (line for entry in diagnostics for line in entry.messages):
                stopped = StoppedTraining(stage.name, role, message)
                self.stopped.setdefault((role, message), stopped)
            for status in training_statuses(stage.name, role, diagnostics):
                self._add_status(status)
            if not tensors:
                continue
            if key in self.checkpoints:
                before = self.checkpoints[key].tensors
                tensors = {name: torch.cat([before[name], t]) for name, t in tensors.items()}
            metadata = self._make_metadata(stage_index, built_stage, role, tensors)
            self.checkpoints[key] = PolicyCheckpoint(*key, tensors, metadata)

    def _add_status(self, status: TrainingStatus) -> None:
        """Add the counts of one more chunk."""
        statuses = sum_statuses([*self.training_statuses.values(), status])
        self.training_statuses = {(each.stage, each.role, each.draw): each for each in statuses}

    def _make_metadata(
        self, stage_index: int, built_stage: BuiltStage, role: str, tensors: Mapping[str, Tensor]
    ) -> dict[str, Any]:
        return {
            "format": RUN_FORMAT,
            "cell": self._cell.id,
            "stage": built_stage.stage.name,
            "stage_index": stage_index,
            "loop": built_stage.stage.loop,
            "role": role,
            "num_agents": get_role(built_stage.environment, role).num_agents,
            "replicates": self._replicates,
            "num_models": len(next(iter(tensors.values()))),
            "policy": full_spec(built_stage.spec.policies.get(role), built_stage.policies[role]),
            "tensors": _describe_tensors(tensors),
            "mores_version": mores_version(),
        }

    @property
    def num_models(self) -> int:
        """Number of trained models of all roles."""
        return num_models(self.checkpoints.values())

    def state_dict(self) -> dict[str, Any]:
        """State of the collector, for `mores.experiments.results.pytree_serialization`."""
        return {
            "checkpoints": [vars(each) for each in self.checkpoints.values()],
            "stopped": [vars(each) for each in self.stopped.values()],
            "training_statuses": [vars(each) for each in self.training_statuses.values()],
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the state of a collector."""
        for fields in state_dict["checkpoints"]:
            self.checkpoints[fields["stage"], fields["role"]] = PolicyCheckpoint(**fields)
        for fields in state_dict["stopped"]:
            self.stopped[fields["role"], fields["message"]] = StoppedTraining(**fields)
        for fields in state_dict["training_statuses"]:
            self._add_status(TrainingStatus(**fields))


def num_models(checkpoints: Iterable[PolicyCheckpoint]) -> int:
    """Number of trained models of all roles: of each, the largest of its stages."""
    most: dict[str, int] = {}
    for each in checkpoints:
        most[each.role] = max(most.get(each.role, 0), each.metadata["num_models"])
    return sum(most.values())


def sum_statuses(statuses: Iterable[TrainingStatus]) -> tuple[TrainingStatus, ...]:
    """One status for each stage, role and draw: the sums of its counts, and its first reason."""
    sums: dict[tuple[str, str, int], TrainingStatus] = {}
    for status in statuses:
        key = (status.stage, status.role, status.draw)
        if before := sums.get(key):
            counts = ("num_models", "num_updated", "num_not_updated")
            added = {name: getattr(status, name) + getattr(before, name) for name in counts}
            status = dataclasses.replace(status, **added, reason=before.reason or status.reason)
        sums[key] = status
    return tuple(sums.values())


def order_stopped(
    stopped: Iterable[StoppedTraining], roles_by_stage: Sequence[tuple[str, Sequence[str]]]
) -> tuple[StoppedTraining, ...]:
    """Stopped trainings by stage and role, so that their order does not depend on chunks.

    Args:
        stopped: the trainings, in the order of their replicates.
        roles_by_stage: name of each stage and its roles that train, in order.
    """
    pairs = [(name, role) for name, roles in roles_by_stage for role in roles]
    positions = {pair: index for index, pair in enumerate(pairs)}
    key = lambda each: positions.get((each.stage, each.role), len(pairs))  # noqa: E731
    return tuple(sorted(stopped, key=key))


def append_checkpoints(earlier: PolicyCheckpoint, added: PolicyCheckpoint) -> PolicyCheckpoint:
    """The parameters of a role in further replicates, after those of the first ones.

    Raises:
        ValueError: the two have other tensors.
    """
    if earlier.tensors.keys() != added.tensors.keys():
        raise ValueError("the earlier replicates have other parameters")
    tensors = {
        name: torch.cat([earlier.tensors[name], tensor]) for name, tensor in added.tensors.items()
    }
    metadata = {
        **added.metadata,
        "replicates": [*earlier.metadata["replicates"], *added.metadata["replicates"]],
        "num_models": len(next(iter(tensors.values()))),
        "tensors": _describe_tensors(tensors),
    }
    return PolicyCheckpoint(added.stage, added.role, tensors, metadata)


def _describe_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    return {
        name: {"shape": list(tensor.shape), "dtype": str(tensor.dtype).split(".")[-1]}
        for name, tensor in tensors.items()
    }


def read_checkpoints(cell: StoredCell) -> tuple[PolicyCheckpoint, ...]:
    """The learned parameters in a cell's folder.

    Raises:
        UserError: a file was changed.
        KeyError, TypeError: it is not such a checkpoint as mores writes.
    """
    checkpoints = []
    for name in cell.files:
        if name.startswith(f"{CHECKPOINTS}/") and name.endswith(".json"):
            metadata = cell.read_json(name)
            tensors = cell.read_tensors(f"{name.removesuffix('.json')}.safetensors")
            each = PolicyCheckpoint(metadata["stage"], metadata["role"], tensors, metadata)
            checkpoints.append(each)
    return tuple(checkpoints)


def write_checkpoints(folder: Path, checkpoints: Sequence[PolicyCheckpoint]) -> None:
    """Write learned parameters into a cell's folder."""
    from safetensors.torch import save_file

    if not checkpoints:
        return
    (folder / CHECKPOINTS).mkdir()
    for checkpoint in checkpoints:
        name = f"{checkpoint.stage}.{quote(checkpoint.role, safe='')}"
        save_file(dict(checkpoint.tensors), folder / CHECKPOINTS / f"{name}.safetensors")
        text = json.dumps(checkpoint.metadata, indent=1, ensure_ascii=False)
        (folder / CHECKPOINTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
