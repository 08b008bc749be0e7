"""A cell's position and state as tensors and JSON, and the continuation from there.

Policy states are rebuilt on *templates*: the states at this moment if no episode was simulated. The
policies make anew all that is neither tensor nor number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mores.experiments.results.pytree_serialization import (
    SerializationError,
    SerializedPytree,
    deserialize,
    serialize,
)
from mores.experiments.run.cell_runner import CellRunner, Cursor
from mores.experiments.run.checkpoint_store import CellCheckpoint, CheckpointStore
from mores.sim.episode_recorder import EpisodeRecorder
from mores.sim.policy_states import PolicyStateStore, store_states, stored_states

RECORDER_ATTRIBUTES = ("_observation", "_action", "_action_mask", "_reward", "_feedback",
                       "_done", "_finished")  # fmt: skip


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
        _restore(cell_runner, checkpoint, templates)
    except (SerializationError, ValueError, KeyError, TypeError, IndexError, RuntimeError) as error:
        checkpoint_store.notes.append(f"checkpoint ignored: {error}")
        cell_runner.reset()
        return Cursor()
    cursor = Cursor(*checkpoint.cursor)
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
    policy_states = (
        SerializedPytree({}, {})
        if cursor.is_chunk_start
        else serialize(cell_runner.policy_state_store, templates.at_cursor(cursor))
    )
    recorders = _serialize_recorders({} if cursor.is_chunk_start else cell_runner.episode_recorders)
    num_started = 0 if cursor.is_chunk_start else cell_runner.chunk_size
    unfinished = cursor.stage_index if cursor.episode and not cursor.first_world else None
    metrics = cell_runner.metrics_recorder.state_dict(
        cursor.first_world + num_started, unfinished, cursor.episode
    )
    checkpoints, checkpoint_metadata = cell_runner.checkpoint_collector.state_dict()
    parts = {
        "policy_states": policy_states.tensors,
        "episode_recorders": recorders.tensors,
        "metrics": metrics,
        "checkpoints": checkpoints,
    }
    tensors = {f"{part}:{p}": t for part, by_path in parts.items() for p, t in by_path.items()}
    metadata = {
        "chunk_size": cell_runner.chunk_size,
        "policy_states": policy_states.metadata,
        "episode_recorders": recorders.entries,
        "metrics": list(metrics),  # safetensors files do not keep the order
        "checkpoints": checkpoint_metadata,
    }
    return CellCheckpoint(cursor, tensors, metadata)


def _restore(
    cell_runner: CellRunner, checkpoint: CellCheckpoint, templates: _TemplateStates
) -> None:
    """Restore the state of a cell runner."""
    cursor, metadata = Cursor(*checkpoint.cursor), checkpoint.metadata
    if metadata["chunk_size"] != cell_runner.chunk_size:
        raise ValueError("it has chunks of another size")

    def tensors_of(part: str) -> dict[str, Tensor]:
        start = f"{part}:"
        return {
            p.removeprefix(start): t for p, t in checkpoint.tensors.items() if p.startswith(start)
        }

    if not cursor.is_chunk_start:
        cell_runner.policy_state_store = deserialize(
            templates.at_cursor(cursor),
            SerializedPytree(tensors_of("policy_states"), metadata["policy_states"]),
        )
        _restore_recorders(
            cell_runner.episode_recorders,
            _SerializedRecorders(tensors_of("episode_recorders"), metadata["episode_recorders"]),
        )
    metrics = tensors_of("metrics")
    cell_runner.metrics_recorder.load_state_dict({p: metrics[p] for p in metadata["metrics"]})
    cell_runner.checkpoint_collector.load_state_dict(
        tensors_of("checkpoints"), metadata["checkpoints"]
    )


class _TemplateStates:
    """Policy states if stages started and no episode was simulated."""

    def __init__(self, cell_runner: CellRunner) -> None:
        self._cell_runner = cell_runner
        self._first_world, self._last_started_stage = -1, -1  # chunk and stage of the stored states
        self._store: PolicyStateStore = {}

    def at_cursor(self, cursor: Cursor) -> PolicyStateStore:
        """The states at a position."""
        if (
            self._first_world != cursor.first_world
            or self._last_started_stage > cursor.last_started_stage
        ):
            self._first_world, self._last_started_stage, self._store = cursor.first_world, -1, {}
        for index in range(self._last_started_stage + 1, cursor.last_started_stage + 1):
            policies = self._cell_runner.built_cell.stages[index].policies
            simulator = self._cell_runner.make_simulator(cursor.first_world, index)
            simulator.reset(self._cell_runner.scenario.seed, stored_states(self._store, policies))
            store_states(self._store, policies, simulator.policy_states)
            self._last_started_stage = index
        return self._store


class _SerializedRecorders(NamedTuple):
    """Recorded episodes: tensors that lead with time; entries of stage, attribute and key."""

    tensors: dict[str, Tensor]
    entries: list[list[Any]]


def _serialize_recorders(episode_recorders: Mapping[int, EpisodeRecorder]) -> _SerializedRecorders:
    output = _SerializedRecorders({}, [])
    for stage, recorder in episode_recorders.items():
        for name in RECORDER_ATTRIBUTES:
            buffers = getattr(recorder, name)
            by_key = buffers if isinstance(buffers, Mapping) else {None: buffers}
            for key, rows in by_key.items():
                if rows:
                    output.tensors[str(len(output.entries))] = torch.stack(rows)
                    plain_key = list(key) if isinstance(key, tuple) else key
                    output.entries.append([stage, name, plain_key])
    return output


def _restore_recorders(
    episode_recorders: Mapping[int, EpisodeRecorder], serialized: _SerializedRecorders
) -> None:
    for index, (stage, name, key) in enumerate(serialized.entries):
        if name not in RECORDER_ATTRIBUTES:
            raise ValueError(f"an episode recorder has no {name}")
        rows = list(serialized.tensors[str(index)].unbind(0))
        buffers = getattr(episode_recorders[stage], name)
        if key is None:
            buffers.extend(rows)
        else:
            buffers[tuple(key) if isinstance(key, list) else key] = rows
