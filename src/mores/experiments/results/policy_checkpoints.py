"""Learned parameters and training diagnostics of a cell, collected at the end of every stage.

checkpoints/<stage>.<role>.safetensors   `Learner.state_dict`: tensors that lead with the models
checkpoints/<stage>.<role>.json          policy kind and parameters, replicates, shapes
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from torch import Tensor

from mores.core.environment import get_role
from mores.core.file_formats import RUN_FORMAT, mores_version
from mores.core.learner import TrainingMode, can_train
from mores.experiments.results.cell_result import PolicyCheckpoint, StoppedTraining
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
        key = (status.stage, status.role, status.draw)
        if before := self.training_statuses.get(key):
            counts = ("num_models", "num_updated", "num_not_updated")
            sums = {name: getattr(status, name) + getattr(before, name) for name in counts}
            status = dataclasses.replace(status, **sums, reason=before.reason or status.reason)
        self.training_statuses[key] = status

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
            "tensors": {
                name: {"shape": list(tensor.shape), "dtype": str(tensor.dtype).split(".")[-1]}
                for name, tensor in tensors.items()
            },
            "mores_version": mores_version(),
        }

    @property
    def num_models(self) -> int:
        """Number of trained models of all roles."""
        most: dict[str, int] = {}
        for (_, role), checkpoint in self.checkpoints.items():
            most[role] = max(most.get(role, 0), checkpoint.metadata["num_models"])
        return sum(most.values())

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
