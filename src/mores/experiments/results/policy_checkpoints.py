"""What was learned in a cell, who stopped, and who never began: taken at the end of every stage.

checkpoints/<stage>.<role>.safetensors   what `Policy.state_dict` names, each led by the policies
checkpoints/<stage>.<role>.json          whose they are: kind, parameters, names, shapes
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from torch import Tensor

from mores.core.environment import Capability, Policy, get_role
from mores.experiments.results.cell_result import PolicyCheckpoint, StoppedTraining
from mores.experiments.scenario.cell import BuiltStage, Cell
from mores.experiments.scenario.expansion import full_spec
from mores.sim.policy_states import PolicyStateStore, state_key
from mores.sim.training_status import TrainingStatus, copy_state_dict, training_statuses

CHECKPOINTS = "checkpoints"
FORMAT_VERSION = 1


class CheckpointCollector:
    """Collects what the learners of a cell have learned, chunk after chunk.

    Args:
        cell: which.
        replicates: that are played in it, in order.
    """

    def __init__(self, cell: Cell, replicates: Sequence[int]) -> None:
        self._cell, self._replicates = cell, list(replicates)
        self._tensors: dict[tuple[str, str], dict[str, Tensor]] = {}  # by stage and role
        self._metadata: dict[tuple[str, str], dict[str, Any]] = {}
        self._stage_by_message: dict[
            tuple[str, str], str
        ] = {}  # by role and line the stage that told it
        self._training_statuses: dict[tuple[str, str], TrainingStatus] = {}  # by stage and role

    def collect(self, stage_index: int, built_stage: BuiltStage, store: PolicyStateStore) -> None:
        """Look at what the learners of a stage know at its end.

        Raises:
            UserError: what a player says it learned does not fit together.
        """
        for role in built_stage.stage.roles_to_train:
            player = built_stage.policies.get(role)
            key = None if player is None else state_key(role, player)
            able: Capability = "update" if built_stage.stage.loop == "train" else "fit_offline"
            if player is None or key not in store or not player.supports(able):
                continue  # an arm in which nobody learns
            memory, place = store[key], (built_stage.stage.name, role)
            for line in player.stop_reasons(memory):
                self._stage_by_message.setdefault((role, line), built_stage.stage.name)
            found = copy_state_dict(role, player, memory)
            for one in training_statuses(built_stage.stage.name, role, player, memory, found):
                self._add_status(one)
            if not found:
                continue
            before = self._tensors.get(place)
            if before is not None:
                found = {name: torch.cat([before[name], part]) for name, part in found.items()}
            self._tensors[place] = found
            self._metadata[place] = self._make_metadata(
                stage_index, built_stage, role, player, found
            )

    def _add_status(self, status: TrainingStatus) -> None:
        """Count the policies of one more chunk."""
        place = (status.stage, status.role)
        if place in self._training_statuses:
            before = self._training_statuses[place]
            sums = {
                n: getattr(status, n) + getattr(before, n) for n in ("policies", "taught", "idle")
            }
            status = dataclasses.replace(status, **sums, reason=before.reason or status.reason)
        self._training_statuses[place] = status

    def _make_metadata(
        self,
        stage_index: int,
        built_stage: BuiltStage,
        role: str,
        policy: Policy,
        tensors: Mapping[str, Tensor],
    ) -> dict[str, Any]:
        asked = self._cell.stage_spec(stage_index).policies.get(role)
        return {
            "format": FORMAT_VERSION,
            "cell": self._cell.id,
            "stage": built_stage.stage.name,
            "number": stage_index,
            "loop": built_stage.stage.loop,
            "role": role,
            "seats": get_role(built_stage.environment, role).num_agents,
            "replicates": self._replicates,
            "policies": _num_models(tensors),
            "policy": full_spec(asked, policy),
            "tensors": {
                name: {"shape": list(tensor.shape), "dtype": str(tensor.dtype).split(".")[-1]}
                for name, tensor in tensors.items()
            },
            "mores": metadata.version("mores"),
        }

    @property
    def checkpoints(self) -> tuple[PolicyCheckpoint, ...]:
        """What was learned, stage by stage."""
        return tuple(
            PolicyCheckpoint(*place, tensors, self._metadata[place])
            for place, tensors in self._tensors.items()
        )

    @property
    def num_models(self) -> int:
        """How many policies learned, of all roles."""
        most: dict[str, int] = {}
        for (_, role), tensors in self._tensors.items():
            most[role] = max(most.get(role, 0), _num_models(tensors))
        return sum(most.values())

    @property
    def stopped_trainings(self) -> tuple[StoppedTraining, ...]:
        """Learners that stopped early."""
        return tuple(
            StoppedTraining(stage, role, line)
            for (role, line), stage in self._stage_by_message.items()
        )

    @property
    def training_statuses(self) -> tuple[TrainingStatus, ...]:
        """Who learned anything."""
        return tuple(self._training_statuses.values())

    # --- to stop, and go on later --------------------------------------------------------------

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What was collected so far: tensors by path, and the rest as JSON."""
        places = list(self._tensors)
        tensors = {
            f"{n}/{name}": tensor
            for n, place in enumerate(places)
            for name, tensor in self._tensors[place].items()
        }
        stopped = [[role, line, stage] for (role, line), stage in self._stage_by_message.items()]
        about = [[*place, self._metadata[place]] for place in places]
        taught = [list(dataclasses.astuple(one)) for one in self._training_statuses.values()]
        return tensors, {"places": about, "stopped": stopped, "taught": taught}

    def load_state_dict(self, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Have what was collected before."""
        for number, (stage, role, told) in enumerate(metadata["places"]):
            names = list(told["tensors"])
            found = {name: tensors[f"{number}/{name}"].clone() for name in names}
            self._tensors[stage, role], self._metadata[stage, role] = found, told
        self._stage_by_message = {(role, line): stage for role, line, stage in metadata["stopped"]}
        self._training_statuses = {
            (one[0], one[1]): TrainingStatus(*one) for one in metadata["taught"]
        }


def write_checkpoints(folder: Path, checkpoints: Sequence[PolicyCheckpoint]) -> None:
    """Write what was learned into a cell's folder."""
    from safetensors.torch import save_file

    if not checkpoints:
        return
    (folder / CHECKPOINTS).mkdir()
    for one in checkpoints:
        name = f"{one.stage}.{quote(one.role, safe='')}"
        save_file(dict(one.tensors), folder / CHECKPOINTS / f"{name}.safetensors")
        text = json.dumps(one.metadata, indent=1, ensure_ascii=False)
        (folder / CHECKPOINTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def _num_models(tensors: Mapping[str, Tensor]) -> int:
    return len(next(iter(tensors.values())))
