"""The checkpoint of a cell that is being simulated, on disk, so that hours of work are not lost.

`cells/.<cell>.checkpoint` is one file of tensors and JSON (`results/tensor_file`), replaced
atomically: the position in the cell, the results so far, and the policy states. These are rebuilt
on *templates*, the states at this moment if no episode was simulated: the policies make anew all
that is neither tensor nor number. A checkpoint that is damaged, of other code or of another
experiment is ignored: the cell is simulated from its start.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from mores.core.errors import UserError
from mores.core.file_formats import RUN_FORMAT
from mores.experiments.results import tensor_file
from mores.experiments.results.checked_files import CheckedFolder
from mores.experiments.results.provenance import system_info
from mores.experiments.results.pytree_serialization import (
    SerializationError,
    SerializedPytree,
    deserialize,
    serialize,
)
from mores.experiments.run.cell_runner import CellRunner, Cursor
from mores.experiments.run.run_folder import CellTask, checkpoint_path, file_digest
from mores.sim.policy_states import PolicyStateStore, store_states, stored_states

EPISODE_INTERVAL = 60.0  # seconds between checkpoints within a stage
STAGE_INTERVAL = 5.0  # seconds between checkpoints at the ends of stages, and before the first
MAX_WRITE_FRACTION = 0.05  # of the time may be spent on writing them
MAX_BYTES = 2**30  # largest checkpoint: a cell that needs more is simulated from its start
MAX_FILE_BYTES = 2 * MAX_BYTES  # with its metadata


class CellCheckpoint:
    """Restores a cell from its checkpoint, and writes the checkpoint while the cell is simulated.

    Checkpoints of any other task are ignored. `notes` are lines for the log.
    """

    def __init__(self, task: CellTask) -> None:
        self.path = checkpoint_path(task.folder)
        self.notes: list[str] = []
        self._task = task
        self._disabled, self._last_write, self._write_seconds = False, time.monotonic(), 0.0
        self._templates: dict[tuple[int, int], PolicyStateStore] = {}

    def attach(self, cell_runner: CellRunner) -> Cursor:
        """Restore a new cell runner, and write checkpoints of it from now on; its position."""
        cell_runner.on_episode_end = functools.partial(self._write_if_due, cell_runner)
        if not os.path.lexists(self.path):
            return Cursor()
        try:
            cursor = self._restore(cell_runner)
        except (SerializationError, UserError, ValueError, KeyError, TypeError, IndexError,
                RuntimeError) as error:  # fmt: skip
            self.notes.append(f"checkpoint ignored: {error}")
            cell_runner.reset()
            return Cursor()
        if cursor.first_world >= len(cell_runner.worlds):
            self.notes.append("was simulated to its end before")
        else:
            stage = cell_runner.built_cell.stages[cursor.stage_index].stage.name
            chunk = f" of the worlds from {cursor.first_world} on" if cursor.first_world else ""
            self.notes.append(f"continues at episode {cursor.episode} of stage {stage}{chunk}")
        return cursor

    def remove(self) -> None:
        """Remove the checkpoint, if there is one."""
        _remove(self.path)

    def is_due(self, stage_ended: bool) -> bool:
        """Whether it is time for a checkpoint."""
        interval = STAGE_INTERVAL if stage_ended else EPISODE_INTERVAL
        wait = max(interval, self._write_seconds / MAX_WRITE_FRACTION)
        return not self._disabled and time.monotonic() - self._last_write >= wait

    def _write_if_due(self, cell_runner: CellRunner, cursor: Cursor, stage_ended: bool) -> None:
        """Write a checkpoint. After a failure, add a note and write no more of them."""
        if not self.is_due(stage_ended):
            return
        start = time.monotonic()
        try:
            self._write(cell_runner, cursor)
        except (SerializationError, UserError, RuntimeError, ValueError, KeyError) as error:
            self._disabled = True
            self.remove()
            self.notes.append(f"no checkpoints, a stopped cell starts again: {error}")
        self._last_write = time.monotonic()
        self._write_seconds = self._last_write - start

    def _write(self, cell_runner: CellRunner, cursor: Cursor) -> None:
        """Write the state on which the continuation depends, and the results so far."""
        num_started = 0 if cursor.is_chunk_start else cell_runner.chunk_size
        unfinished = cursor.stage_index if cursor.episode and not cursor.first_world else None
        state: dict[str, Any] = {
            "chunk_size": cell_runner.chunk_size,
            "draws": cell_runner.draws.count,
            "metrics": cell_runner.metrics_recorder.state_dict(
                cursor.first_world + num_started, unfinished, cursor.episode
            ),
            "checkpoints": cell_runner.checkpoint_collector.state_dict(),
        }
        if not cursor.is_chunk_start:
            recorders = cell_runner.episode_recorders.items()
            state["episode_recorders"] = {str(n): each.state_dict() for n, each in recorders}
            state["policy_states"] = cell_runner.policy_state_store
        tensors, metadata = serialize(state, self._template(cell_runner, cursor))
        size = sum(tensor.nbytes for tensor in tensors.values())
        if size > MAX_BYTES:
            raise SerializationError(f"{size:,} bytes exceed {MAX_BYTES:,}")
        content = {"fingerprint": self._fingerprint, "cursor": cursor, "metadata": metadata}
        tensor_file.write(self.path, tensors, content)

    def _restore(self, cell_runner: CellRunner) -> Cursor:
        """Restore the state of a cell runner; return its position."""
        files = CheckedFolder(self.path.parent)
        tensors, content = tensor_file.decode(files.read(self.path.name, MAX_FILE_BYTES))
        if content["fingerprint"] != self._fingerprint:
            raise ValueError("it is of other code or of another experiment")
        cursor = Cursor(*content["cursor"])
        serialized = SerializedPytree(tensors, content["metadata"])
        state = deserialize(self._template(cell_runner, cursor), serialized)
        if state["chunk_size"] != cell_runner.chunk_size:
            raise ValueError("it has chunks of another size")
        cell_runner.draws.count = state["draws"]
        if not cursor.is_chunk_start:
            cell_runner.policy_state_store = state["policy_states"]
            for index, records in state["episode_recorders"].items():
                cell_runner.episode_recorders[int(index)].load_state_dict(records)
        cell_runner.metrics_recorder.load_state_dict(state["metrics"])
        cell_runner.checkpoint_collector.load_state_dict(state["checkpoints"])
        return cursor

    def _template(self, cell_runner: CellRunner, cursor: Cursor) -> dict[str, PolicyStateStore]:
        """Template of the state at a position."""
        if cursor.is_chunk_start:
            return {}
        states = self._initial_states(cell_runner, cursor.first_world, cursor.last_started_stage)
        return {"policy_states": states}

    def _initial_states(
        self, cell_runner: CellRunner, first_world: int, stage_index: int
    ) -> PolicyStateStore:
        """Policy states after the starts of all stages up to this one, without any episode."""
        if stage_index < 0:
            return {}
        key = (first_world, stage_index)
        if key not in self._templates:
            store = dict(self._initial_states(cell_runner, first_world, stage_index - 1))
            policies = cell_runner.built_cell.stages[stage_index].policies
            simulator = cell_runner.make_simulator(first_world, stage_index)
            simulator.reset(self._task.scenario.seed, stored_states(store, policies))
            store_states(store, policies, simulator.policy_states)
            self._templates = {key: store}  # the last one only
        return self._templates[key]

    @functools.cached_property
    def _fingerprint(self) -> str:
        """Hash of the cell, its replicates and the code."""
        system, task, cell = system_info(), self._task, self._task.cell
        fields = {
            "format": RUN_FORMAT,
            "scenario": task.scenario.model_dump(mode="json", exclude={"figures"}),
            "cell": [cell.id, cell.env, cell.population, cell.policies, cell.purpose],
            "draws": [draw.index for draw in cell.separate_draws],
            "stages": [stage.model_dump(mode="json") for stage in cell.stages],
            "replicates": list(task.replicates),
            "modules": [file_digest(Path(file)) for file in task.plugin_files],
            "versions": system["versions"],
            "source": system["source"].get("digest"),
        }
        return hashlib.blake2b(json.dumps(fields).encode(), digest_size=16).hexdigest()


def remove_checkpoints(cells_folder: Path, cells: Collection[str]) -> None:
    """Remove the checkpoints of cells."""
    for cell in cells:
        _remove(checkpoint_path(cells_folder / cell))


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
