"""Arms and sweeps: what each cell of a scenario changes in what the file says.

Arms share their random draws, so they may differ in the environment, the people and the players,
and in nothing that draws depend on: rounds, replicates, worlds, seed.
"""

from __future__ import annotations

import copy
import functools
import itertools
import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from mores.core.errors import ParameterError, did_you_mean
from mores.experiments.scenario.base_models import Kind
from mores.experiments.scenario.cell import Cell, Purpose, cell_id
from mores.experiments.scenario.overrides import Origin, keeping, put, role_in
from mores.experiments.scenario.source_locations import (
    Path,
    Places,
    Problem,
    ScenarioError,
    said,
    shown,
)
from mores.experiments.scenario.specification import Scenario

MOST_CELLS = 10_000
ONLY_ARM = "main"  # name of the arm where a scenario has none
VARIED = ("env", "people", "players")  # what arms and sweeps may change


class Change(NamedTuple):
    """A value to be put at a path of the cell, and where in the file it stands."""

    path: tuple[str, ...]
    value: Any
    stands: Path


class Condition(NamedTuple):
    """An arm at a point, and what it changes."""

    arm: str
    point: dict[str, Any]
    changes: list[Change]
    purpose: Purpose = "arm"
    number: int = 0


def conditions(scenario: Scenario, places: Places) -> Iterator[Condition]:
    """Every arm at every point, what they change in the order in which it is put in."""
    problems: list[Problem] = []
    change = functools.partial(_change, places, problems)
    arms = {arm: _of_arm(scenario, arm, change) for arm in scenario.arms}
    sweep = {
        path: [change(path, v, ("sweep", path, i), ("sweep", path)) for i, v in enumerate(values)]
        for path, values in scenario.sweep.items()
    }
    problems += _clashes(scenario, places)
    cells = max(1, len(arms)) * math.prod(len(values) for values in sweep.values())
    if cells > MOST_CELLS:
        message = f"arms times sweep make {cells:,} cells; at most {MOST_CELLS:,} are run"
        problems.append(Problem(places.key(("sweep",)), ("sweep",), message, "too_large"))
    if problems:
        raise ScenarioError(problems)
    for arm, changes in (arms or {ONLY_ARM: []}).items():
        for chosen in itertools.product(*sweep.values()):
            point = {path: c.value for path, c in zip(sweep, chosen, strict=True)}
            # a whole part first, then what is changed in it
            ordered = [*sorted(changes, key=_depth), *sorted(chosen, key=_depth)]
            yield Condition(arm, point, ordered)


def at_point(
    scenario: Scenario,
    places: Places,
    arm: str,
    point: Mapping[str, float],
    section: str,
    purpose: Purpose = "arm",
    number: int = 0,
) -> Condition:
    """An arm with some parameters at given values, unless it sets them or the part they are in.

    Args:
        scenario: the scenario.
        places: where things stand in its file.
        arm: name of the arm.
        point: values by dotted path.
        section: under which their ranges stand: `uncertain` or `calibration`.
        purpose, number: of the cell.

    Raises:
        ScenarioError: a path leads nowhere.
    """
    problems: list[Problem] = []
    change = functools.partial(_change, places, problems)
    changes, here = _of_arm(scenario, arm, change), {}
    for path, value in point.items():
        if not any(f"{path}.".startswith(f"{own}.") for own in scenario.arms.get(arm, {})):
            stands: Path = (section, "parameters", path)
            changes.append(change(path, value, stands, stands))
            here[path] = value
    if problems:
        raise ScenarioError(problems)
    return Condition(arm, here, sorted(changes, key=_depth), purpose, number)


def corners(
    scenario: Scenario, places: Places, arms: Mapping[str, Iterable[str]]
) -> Iterator[Condition]:
    """Arms with all uncertain parameters at the low, and at the high end of their ranges.

    The same for parameters to be calibrated: where a path leads nowhere, it is found before a run.

    Args:
        scenario: the scenario.
        places: where things stand in its file.
        arms: by section, `uncertain` or `calibration`, the arms that are played for it.
    """
    sections = {"uncertain": scenario.uncertain, "calibration": scenario.calibration}
    for section, given in sections.items():
        if given is not None:
            for end, arm in itertools.product((0, 1), arms[section]):
                point = {path: ends[end] for path, ends in given.parameters.items()}
                yield at_point(scenario, places, arm, point, section, "design", end)


def _change(
    places: Places, problems: list[Problem], path: str, value: Any, stands: Path, key: Path
) -> Change:
    """A change of what stands at a dotted path; a path that leads nowhere is a problem."""
    try:
        return Change(_way(path), value, stands)
    except ParameterError as error:
        problems.append(Problem(places.key(key), key, str(error), error.code))
        return Change((), value, stands)


def _of_arm(scenario: Scenario, arm: str, change: Callable[..., Change]) -> list[Change]:
    """What an arm changes; `change` makes one and notes what is wrong with it."""
    changes = scenario.arms.get(arm, {}).items()
    return [
        change(path, value, ("arms", arm, path), ("arms", arm, path)) for path, value in changes
    ]


def _depth(change: Change) -> int:
    return len(change.path)


def _way(path: str) -> tuple[str, ...]:
    """The parts of a dotted path, if it leads into what arms and sweeps may change.

    Raises:
        ParameterError: it does not.
    """
    way = tuple(path.split("."))
    if way[0] in Scenario.model_fields and way[0] not in VARIED:
        raise ParameterError(
            message=f"{way[0]} cannot differ between arms, which share their draws; "
            "what can is env., people. and players."
        )
    if way[0] not in VARIED:
        near = did_you_mean(shown(way[0]), VARIED)
        message = f"a path begins with env, people or players{near}"
        raise ParameterError(message=message, code="unknown_name")
    if not all(way):
        raise ParameterError(message="the path has an empty part")
    if way == ("players",):
        message = "name the role too, as in players.assistant"
        raise ParameterError(message=message, code="missing")
    return way


def _clashes(scenario: Scenario, places: Places) -> Iterator[Problem]:
    """Paths set twice, by an arm and the sweep or a stage and anything; values swept twice."""
    for number, stage in enumerate(scenario.stages):
        for section, changes in (("env", stage.env), ("players", stage.players)):
            for path in changes:
                stands: Path = ("stages", number, section, path)
                for message in _in_vain(scenario, path):
                    yield Problem(places.key(stands), stands, message, "conflict")
    for path, values in scenario.sweep.items():
        for arm, changes in scenario.arms.items():
            if path in changes:
                stands = ("arms", arm, path)
                message = "is swept as well: leave one out"
                yield Problem(places.key(stands), stands, message, "conflict")
        texts: list[str] = []
        for i, value in enumerate(values):
            text = json.dumps(float(value) if type(value) is int else value, sort_keys=True)
            if text in texts:
                stands = ("sweep", path, i)
                message = f"{said(value)} is listed twice"
                yield Problem(places.value(stands), stands, message, "duplicate")
            texts.append(text)


def _in_vain(scenario: Scenario, path: str) -> Iterator[str]:
    """Why a change by a stage, or what others set at or below its path, would do nothing."""
    role = role_in(path)
    whole = "env" if role is None else f"players.{role}"  # what an arm may name and so keep
    for who, others in _setters(scenario):
        kept = role is not None and others in scenario.arms.values()
        below = any(f"{o}.".startswith(f"{path}.") for o in others if not (kept and o == whole))
        sets = [stage.env if role is None else stage.players for stage in scenario.stages]
        if not all(path in changes for changes in sets):
            below = False  # it counts in the stages that leave it as it is
        if below or (role is not None and not kept and whole in others):
            yield f"is set by {who} as well, in vain: leave one out"
    if role is not None and scenario.arms and all(whole in c for c in scenario.arms.values()):
        yield f"does nothing: every arm names {whole} whole, and keeps it"


def _setters(scenario: Scenario) -> Iterator[tuple[str, Collection[str]]]:
    """Who else sets parameters, in words, and their paths."""
    yield from ((f"the arm {arm}", changes) for arm, changes in scenario.arms.items())
    yield "the sweep", scenario.sweep
    for name, given in (("uncertain", scenario.uncertain), ("calibration", scenario.calibration)):
        if given is not None:
            yield name, given.parameters


def changed(scenario: Scenario, places: Places, condition: Condition) -> Cell:
    """The cell of a condition: what the file says, with the condition's changes put in."""
    whole: dict[str, Any] = {
        "env": _plain(scenario.env),
        "people": scenario.people and _plain(scenario.people),
        "players": {role: _plain(asked) for role, asked in scenario.players.items()},
    }
    paths: dict[Path, Path] = {}
    problems: list[Problem] = []
    for change in condition.changes:
        try:
            there = put(whole, change.path, change.value)
        except ParameterError as error:
            place = places.value(change.stands)
            problems.append(Problem(place, change.stands, str(error), error.code))
            continue
        for below in [path for path in paths if path[: len(there)] == there]:
            del paths[below]
        paths[there] = change.stands
    if problems:
        raise ScenarioError(problems)
    own_id = cell_id(condition.arm, condition.point)
    named = [c.path[1] for c in condition.changes if c.path[0] == "players" and len(c.path) == 2]
    if condition.purpose != "arm":
        own_id = cell_id(f"{condition.arm}__{condition.purpose}-{condition.number:03d}", {})
    return Cell(
        id=own_id,
        arm=condition.arm,
        point=condition.point,
        env=whole["env"],
        people=whole["people"],
        players=whole["players"],
        stages=tuple(keeping(stage, named) for stage in scenario.played),
        rounds=scenario.rounds,
        purpose=condition.purpose,
        number=condition.number,
        origin=Origin(places, paths),
    )


def _plain(asked: Kind) -> dict[str, Any]:
    return {"kind": asked.kind, **copy.deepcopy(asked.parameters)}
