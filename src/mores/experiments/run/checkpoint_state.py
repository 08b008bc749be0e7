"""Where play stands in a cell, as tensors and plain values; and to play on from there.

Players' memories are put together again on *blank* ones: what they would be at this moment had
nobody played. So whatever in them is no tensor or number is made by the players themselves.
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
from mores.sim.episode_dataset import EpisodeRecorder
from mores.sim.policy_states import PolicyStateStore, store_states, stored_states

RECORDER_ATTRIBUTES = ("_seen", "_acted", "_legal", "_reward", "_told", "_ended", "_over")


def restore_or_start(cell_runner: CellRunner, checkpoint_store: CheckpointStore | None) -> Cursor:
    """Where a cell begins, or goes on; from there on `checkpoint_store` is kept up to date, if given."""
    if checkpoint_store is None:
        return Cursor()
    blank = _TemplateStates(cell_runner)

    def passed(at: Cursor, stage_over: bool) -> None:
        if checkpoint_store.is_due(stage_over):
            checkpoint_store.write(lambda: _make_checkpoint(cell_runner, at, blank))

    cell_runner.on_episode_end = passed
    found = checkpoint_store.read()
    if found is None:
        return Cursor()
    try:
        _restore(cell_runner, found, blank)
    except (SerializationError, ValueError, KeyError, TypeError, IndexError, RuntimeError) as error:
        checkpoint_store.notes.append(f"where it stood before is of no use: {error}")
        cell_runner.reset()
        return Cursor()
    at = Cursor(*found.cursor)
    if at.first_world >= len(cell_runner.worlds):
        checkpoint_store.notes.append("was played to its end before")
        return at
    stage = cell_runner.built_cell.stages[at.stage_index].stage.name
    chunk = f" of the worlds from {at.first_world} on" if at.first_world else ""
    checkpoint_store.notes.append(f"goes on from episode {at.episode} of stage {stage}{chunk}")
    return at


def _make_checkpoint(
    cell_runner: CellRunner, cursor: Cursor, templates: _TemplateStates
) -> CellCheckpoint:
    """All that decides how play goes on from there, and what it has led to so far."""
    memories = (
        SerializedPytree({}, {})
        if cursor.is_chunk_start
        else serialize(cell_runner.policy_state_store, templates.at_cursor(cursor))
    )
    diary = _serialize_recorders({} if cursor.is_chunk_start else cell_runner.episode_recorders)
    playing = 0 if cursor.is_chunk_start else cell_runner.chunk_size
    unfinished = cursor.stage_index if cursor.episode and not cursor.first_world else None
    measured = cell_runner.metrics_recorder.state_dict(
        cursor.first_world + playing, unfinished, cursor.episode
    )
    learned, told = cell_runner.checkpoint_collector.state_dict()
    parts = {
        "memory": memories.tensors,
        "diary": diary.tensors,
        "measured": measured,
        "learned": learned,
    }
    tensors = {f"{part}:{p}": tensor for part, held in parts.items() for p, tensor in held.items()}
    about = {
        "size": cell_runner.chunk_size,
        "memory": memories.metadata,
        "diary": diary.entries,
        "measured": list(measured),  # files of tensors forget their order
        "learned": told,
    }
    return CellCheckpoint(cursor, tensors, about)


def _restore(
    cell_runner: CellRunner, checkpoint: CellCheckpoint, templates: _TemplateStates
) -> None:
    """Have a course stand where it stood."""
    at, about = Cursor(*checkpoint.cursor), checkpoint.metadata
    if about["size"] != cell_runner.chunk_size:
        raise ValueError("worlds were played in other chunks")

    def part(name: str) -> dict[str, Tensor]:
        start = f"{name}:"
        return {
            p.removeprefix(start): t for p, t in checkpoint.tensors.items() if p.startswith(start)
        }

    if not at.is_chunk_start:
        cell_runner.policy_state_store = deserialize(
            templates.at_cursor(at), SerializedPytree(part("memory"), about["memory"])
        )
        _restore_recorders(
            cell_runner.episode_recorders, _SerializedRecorders(part("diary"), about["diary"])
        )
    measured = part("measured")
    cell_runner.metrics_recorder.load_state_dict(
        {path: measured[path] for path in about["measured"]}
    )
    cell_runner.checkpoint_collector.load_state_dict(part("learned"), about["learned"])


class _TemplateStates:
    """What players' memories would be if stages began and nobody played."""

    def __init__(self, cell_runner: CellRunner) -> None:
        self._cell_runner = cell_runner
        self._first_world, self._last_started_stage = (
            -1,
            -1,
        )  # of which chunk, and up to which stage
        self._store: PolicyStateStore = {}

    def at_cursor(self, cursor: Cursor) -> PolicyStateStore:
        """What they would be at that moment."""
        if (
            self._first_world != cursor.first_world
            or self._last_started_stage > cursor.last_started_stage
        ):
            self._first_world, self._last_started_stage, self._store = cursor.first_world, -1, {}
        for number in range(self._last_started_stage + 1, cursor.last_started_stage + 1):
            players = self._cell_runner.built_cell.stages[number].policies
            table = self._cell_runner.make_simulator(cursor.first_world, number)
            table.reset(self._cell_runner.scenario.seed, stored_states(self._store, players))
            store_states(self._store, players, table.policy_states)
            self._last_started_stage = number
        return self._store


class _SerializedRecorders(NamedTuple):
    """What roles went through: a tensor for each kind, led by time, and which is which."""

    tensors: dict[str, Tensor]
    entries: list[list[Any]]


def _serialize_recorders(episode_recorders: Mapping[int, EpisodeRecorder]) -> _SerializedRecorders:
    went = _SerializedRecorders({}, [])
    for stage, diary in episode_recorders.items():
        for name in RECORDER_ATTRIBUTES:
            held = getattr(diary, name)
            for key, rows in (held if isinstance(held, Mapping) else {None: held}).items():
                if rows:
                    went.tensors[str(len(went.entries))] = torch.stack(rows)
                    went.entries.append([stage, name, list(key) if isinstance(key, tuple) else key])
    return went


def _restore_recorders(
    episode_recorders: Mapping[int, EpisodeRecorder], serialized: _SerializedRecorders
) -> None:
    for number, (stage, name, key) in enumerate(serialized.entries):
        if name not in RECORDER_ATTRIBUTES:
            raise ValueError(f"a diary has no {name}")
        rows, held = (
            list(serialized.tensors[str(number)].unbind(0)),
            getattr(episode_recorders[stage], name),
        )
        if key is None:
            held.extend(rows)
        else:
            held[tuple(key) if isinstance(key, list) else key] = rows
