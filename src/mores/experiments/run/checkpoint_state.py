"""Where play stands in a cell, as tensors and plain values; and to play on from there.

Players' memories are put together again on *blank* ones: what they would be at this moment had
nobody played. So whatever in them is no tensor or number is made by the players themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mores.experiments.results.pytree_serialization import CannotPack, Packed, packed, unpacked
from mores.experiments.run.cell_runner import At, Course
from mores.experiments.run.checkpoint_store import State, Working
from mores.sim.episode_dataset import Diary
from mores.sim.policy_states import Memories, brought, keep

DIARY = ("_seen", "_acted", "_legal", "_reward", "_told", "_ended", "_over")


def begin(course: Course, working: Working | None) -> At:
    """Where a cell begins, or goes on; from there on `working` is kept up to date, if given."""
    if working is None:
        return At()
    blank = _Blank(course)

    def passed(at: At, stage_over: bool) -> None:
        if working.due(stage_over):
            working.write(lambda: _state(course, at, blank))

    course.passed = passed
    found = working.read()
    if found is None:
        return At()
    try:
        _restore(course, found, blank)
    except (CannotPack, ValueError, KeyError, TypeError, IndexError, RuntimeError) as error:
        working.notes.append(f"where it stood before is of no use: {error}")
        course.open()
        return At()
    at = At(*found.at)
    if at.first >= len(course.worlds):
        working.notes.append("was played to its end before")
        return at
    stage = course.built.stages[at.stage].stage.name
    chunk = f" of the worlds from {at.first} on" if at.first else ""
    working.notes.append(f"goes on from episode {at.episode} of stage {stage}{chunk}")
    return at


def _state(course: Course, at: At, blank: _Blank) -> State:
    """All that decides how play goes on from there, and what it has led to so far."""
    memories = Packed({}, {}) if at.begins else packed(course.memories, blank.at(at))
    diary = _taken({} if at.begins else course.diaries)
    playing = 0 if at.begins else course.size
    unfinished = at.stage if at.episode and not at.first else None
    measured = course.recorder.taken(at.first + playing, unfinished, at.episode)
    learned, told = course.learned.taken()
    parts = {
        "memory": memories.tensors,
        "diary": diary.tensors,
        "measured": measured,
        "learned": learned,
    }
    tensors = {f"{part}:{p}": tensor for part, held in parts.items() for p, tensor in held.items()}
    about = {
        "size": course.size,
        "memory": memories.about,
        "diary": diary.about,
        "measured": list(measured),  # files of tensors forget their order
        "learned": told,
    }
    return State(at, tensors, about)


def _restore(course: Course, state: State, blank: _Blank) -> None:
    """Have a course stand where it stood."""
    at, about = At(*state.at), state.about
    if about["size"] != course.size:
        raise ValueError("worlds were played in other chunks")

    def part(name: str) -> dict[str, Tensor]:
        start = f"{name}:"
        return {p.removeprefix(start): t for p, t in state.tensors.items() if p.startswith(start)}

    if not at.begins:
        course.memories = unpacked(blank.at(at), Packed(part("memory"), about["memory"]))
        _put_back(course.diaries, _Went(part("diary"), about["diary"]))
    measured = part("measured")
    course.recorder.put_back({path: measured[path] for path in about["measured"]})
    course.learned.put_back(part("learned"), about["learned"])


class _Blank:
    """What players' memories would be if stages began and nobody played."""

    def __init__(self, course: Course) -> None:
        self._course = course
        self._first, self._known = -1, -1  # of which chunk, and up to which stage
        self._memories: Memories = {}

    def at(self, at: At) -> Memories:
        """What they would be at that moment."""
        if self._first != at.first or self._known > at.known:
            self._first, self._known, self._memories = at.first, -1, {}
        for number in range(self._known + 1, at.known + 1):
            players = self._course.built.stages[number].players
            table = self._course.table(at.first, number)
            table.reset(self._course.scenario.seed, brought(self._memories, players))
            keep(self._memories, players, table.memory)
            self._known = number
        return self._memories


class _Went(NamedTuple):
    """What roles went through: a tensor for each kind, led by time, and which is which."""

    tensors: dict[str, Tensor]
    about: list[list[Any]]


def _taken(diaries: Mapping[int, Diary]) -> _Went:
    went = _Went({}, [])
    for stage, diary in diaries.items():
        for name in DIARY:
            held = getattr(diary, name)
            for key, rows in (held if isinstance(held, Mapping) else {None: held}).items():
                if rows:
                    went.tensors[str(len(went.about))] = torch.stack(rows)
                    went.about.append([stage, name, list(key) if isinstance(key, tuple) else key])
    return went


def _put_back(diaries: Mapping[int, Diary], went: _Went) -> None:
    for number, (stage, name, key) in enumerate(went.about):
        if name not in DIARY:
            raise ValueError(f"a diary has no {name}")
        rows, held = list(went.tensors[str(number)].unbind(0)), getattr(diaries[stage], name)
        if key is None:
            held.extend(rows)
        else:
            held[tuple(key) if isinstance(key, list) else key] = rows
