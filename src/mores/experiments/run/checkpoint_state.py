"""A cell's position and state as tensors and JSON, and the continuation from there.

Policy states are rebuilt on *templates*: the states at this moment if no episode was simulated. The
policies make anew all that is neither tensor nor number.
"""

from __future__ import annotations

from typing import Any

from mores.experiments.results.pytree_serialization import (
    SerializationError,
    SerializedPytree,
    deserialize,
    serialize,
)
from mores.experiments.run.cell_runner import CellRunner, Cursor
from mores.experiments.run.checkpoint_store import CellCheckpoint, CheckpointStore
from mores.sim.policy_states import PolicyStateStore, store_states, stored_states


def restore_or_start(cell_runner: CellRunner, checkpoint_store: CheckpointStore | None) -> Cursor:
    """Position from which a cell is simulated; the store is updated from there on."""
    if checkpoint_store is None:
        return Cursor()
    templates = _TemplateStates(cell_runner)

    def write_if_due(cursor: Cursor, stage_ended: bool) -> None:
        if checkpoint_store.is_due(stage_ended):
            checkpoint_store.write(lambda: _make_checkpoint(cell_runner, cursor, templates))

    cell_runner.on_episode_end = write_if_due
    checkpoint = checkpoint_store.read()
    if checkpoint is None:
        return Cursor()
    try:
        cursor = _restore(cell_runner, checkpoint, templates)
    except (SerializationError, ValueError, KeyError, TypeError, IndexError, RuntimeError) as error:
        checkpoint_store.notes.append(f"checkpoint ignored: {error}")
        cell_runner.reset()
        return Cursor()
    if cursor.first_world >= len(cell_runner.worlds):
        checkpoint_store.notes.append("was simulated to its end before")
        return cursor
    stage = cell_runner.built_cell.stages[cursor.stage_index].stage.name
    chunk = f" of the worlds from {cursor.first_world} on" if cursor.first_world else ""
    checkpoint_store.notes.append(f"continues at episode {cursor.episode} of stage {stage}{chunk}")
    return cursor


def _make_checkpoint(
    cell_runner: CellRunner, cursor: Cursor, templates: _TemplateStates
) -> CellCheckpoint:
    """The state on which the continuation depends, and the results so far."""
    num_started = 0 if cursor.is_chunk_start else cell_runner.chunk_size
    unfinished = cursor.stage_index if cursor.episode and not cursor.first_world else None
    state: dict[str, Any] = {
        "chunk_size": cell_runner.chunk_size,
        "metrics": cell_runner.metrics_recorder.state_dict(
            cursor.first_world + num_started, unfinished, cursor.episode
        ),
        "checkpoints": cell_runner.checkpoint_collector.state_dict(),
    }
    if not cursor.is_chunk_start:
        recorders = cell_runner.episode_recorders.items()
        state["episode_recorders"] = {str(n): each.state_dict() for n, each in recorders}
        state["policy_states"] = cell_runner.policy_state_store
    template = {"policy_states": templates.at_cursor(cursor)} if num_started else {}
    return CellCheckpoint(cursor, *serialize(state, template))


def _restore(
    cell_runner: CellRunner, checkpoint: CellCheckpoint, templates: _TemplateStates
) -> Cursor:
    """Restore the state of a cell runner; return its position."""
    cursor = Cursor(*checkpoint.cursor)
    template = {} if cursor.is_chunk_start else {"policy_states": templates.at_cursor(cursor)}
    serialized = SerializedPytree(dict(checkpoint.tensors), dict(checkpoint.metadata))
    state = deserialize(template, serialized)
    if state["chunk_size"] != cell_runner.chunk_size:
        raise ValueError("it has chunks of another size")
    if not cursor.is_chunk_start:
        cell_runner.policy_state_store = state["policy_states"]
        for index, records in state["episode_recorders"].items():
            cell_runner.episode_recorders[int(index)].load_state_dict(records)
    cell_runner.metrics_recorder.load_state_dict(state["metrics"])
    cell_runner.checkpoint_collector.load_state_dict(state["checkpoints"])
    return cursor


class _TemplateStates:
    """Policy states if stages started and no episode was simulated."""

    def __init__(self, cell_runner: CellRunner) -> None:
        self._cell_runner = cell_runner
        self._first_world, self._last_started_stage = -1, -1  # chunk and stage of the stored states
        self._store: PolicyStateStore = {}

    def at_cursor(self, cursor: Cursor) -> PolicyStateStore:
        """The states at a position."""
        last = cursor.last_started_stage
        if self._first_world != cursor.first_world or self._last_started_stage > last:
            self._first_world, self._last_started_stage, self._store = cursor.first_world, -1, {}
        for index in range(self._last_started_stage + 1, last + 1):
            policies = self._cell_runner.built_cell.stages[index].policies
            simulator = self._cell_runner.make_simulator(cursor.first_world, index)
            simulator.reset(self._cell_runner.scenario.seed, stored_states(self._store, policies))
            store_states(self._store, policies, simulator.policy_states)
            self._last_started_stage = index
        return self._store
