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
from mores.experiments.scenario.base_models import ComponentSpec
from mores.experiments.scenario.cell import Cell, CellPurpose, cell_id
from mores.experiments.scenario.overrides import (
    Origin,
    role_of_path,
    set_at_path,
    without_role_overrides,
)
from mores.experiments.scenario.source_locations import (
    KeyPath,
    Problem,
    ScenarioError,
    SourceMap,
    describe_value,
    printable,
)
from mores.experiments.scenario.specification import Scenario

MAX_CELLS = 10_000
DEFAULT_ARM = "main"  # name of the arm where a scenario has none
OVERRIDABLE_SECTIONS = ("env", "population", "policies")  # what arms and sweeps may change


class Override(NamedTuple):
    """A value to be put at a path of the cell, and where in the file it stands."""

    path: tuple[str, ...]
    value: Any
    source_path: KeyPath


class Condition(NamedTuple):
    """An arm at a point, and what it changes."""

    arm: str
    point: dict[str, Any]
    overrides: list[Override]
    purpose: CellPurpose = "arm"
    point_index: int = 0


def expand_conditions(scenario: Scenario, source_map: SourceMap) -> Iterator[Condition]:
    """Every arm at every point, what they change in the order in which it is put in."""
    problems: list[Problem] = []
    change = functools.partial(_make_override, source_map, problems)
    arms = {arm: _arm_overrides(scenario, arm, change) for arm in scenario.arms}
    sweep = {
        path: [change(path, v, ("sweep", path, i), ("sweep", path)) for i, v in enumerate(values)]
        for path, values in scenario.sweep.items()
    }
    problems += _conflict_problems(scenario, source_map)
    cells = max(1, len(arms)) * math.prod(len(values) for values in sweep.values())
    if cells > MAX_CELLS:
        message = f"arms times sweep make {cells:,} cells; at most {MAX_CELLS:,} are run"
        problems.append(
            Problem(source_map.key_location(("sweep",)), ("sweep",), message, "too_large")
        )
    if problems:
        raise ScenarioError(problems)
    for arm, changes in (arms or {DEFAULT_ARM: []}).items():
        for chosen in itertools.product(*sweep.values()):
            point = {path: c.value for path, c in zip(sweep, chosen, strict=True)}
            # a whole part first, then what is changed in it
            ordered = [*sorted(changes, key=_depth), *sorted(chosen, key=_depth)]
            yield Condition(arm, point, ordered)


def condition_at_point(
    scenario: Scenario,
    source_map: SourceMap,
    arm: str,
    point: Mapping[str, float],
    section: str,
    purpose: CellPurpose = "arm",
    index: int = 0,
) -> Condition:
    """An arm with some parameters at given values, unless it sets them or the part they are in.

    Args:
        scenario: the scenario.
        source_map: where things stand in its file.
        arm: name of the arm.
        point: values by dotted path.
        section: under which their ranges stand: `uncertainty` or `calibration`.
        purpose, index: of the cell.

    Raises:
        ScenarioError: a path leads nowhere.
    """
    problems: list[Problem] = []
    change = functools.partial(_make_override, source_map, problems)
    changes, here = _arm_overrides(scenario, arm, change), {}
    for path, value in point.items():
        if not any(f"{path}.".startswith(f"{own}.") for own in scenario.arms.get(arm, {})):
            stands: KeyPath = (section, "parameters", path)
            changes.append(change(path, value, stands, stands))
            here[path] = value
    if problems:
        raise ScenarioError(problems)
    return Condition(arm, here, sorted(changes, key=_depth), purpose, index)


def range_end_conditions(
    scenario: Scenario, source_map: SourceMap, arms_by_section: Mapping[str, Iterable[str]]
) -> Iterator[Condition]:
    """Arms with all uncertain parameters at the low, and at the high end of their ranges.

    The same for parameters to be calibrated: where a path leads nowhere, it is found before a run.

    Args:
        scenario: the scenario.
        source_map: where things stand in its file.
        arms_by_section: by section, `uncertainty` or `calibration`, the arms that are played for it.
    """
    sections = {"uncertainty": scenario.uncertainty, "calibration": scenario.calibration}
    for section, given in sections.items():
        if given is not None:
            for end, arm in itertools.product((0, 1), arms_by_section[section]):
                point = {path: ends[end] for path, ends in given.parameters.items()}
                yield condition_at_point(scenario, source_map, arm, point, section, "design", end)


def _make_override(
    source_map: SourceMap,
    problems: list[Problem],
    path: str,
    value: Any,
    source_path: KeyPath,
    key_path: KeyPath,
) -> Override:
    """A change of what stands at a dotted path; a path that leads nowhere is a problem."""
    try:
        return Override(_parse_path(path), value, source_path)
    except ParameterError as error:
        problems.append(
            Problem(source_map.key_location(key_path), key_path, str(error), error.code)
        )
        return Override((), value, source_path)


def _arm_overrides(
    scenario: Scenario, arm: str, make_override: Callable[..., Override]
) -> list[Override]:
    """What an arm changes; `make_override` makes one and notes what is wrong with it."""
    changes = scenario.arms.get(arm, {}).items()
    return [
        make_override(path, value, ("arms", arm, path), ("arms", arm, path))
        for path, value in changes
    ]


def _depth(override: Override) -> int:
    return len(override.path)


def _parse_path(path: str) -> tuple[str, ...]:
    """The parts of a dotted path, if it leads into what arms and sweeps may change.

    Raises:
        ParameterError: it does not.
    """
    way = tuple(path.split("."))
    if way[0] in Scenario.model_fields and way[0] not in OVERRIDABLE_SECTIONS:
        raise ParameterError(
            message=f"{way[0]} cannot differ between arms, which share their draws; "
            "what can is env., people. and players."
        )
    if way[0] not in OVERRIDABLE_SECTIONS:
        near = did_you_mean(printable(way[0]), OVERRIDABLE_SECTIONS)
        message = f"a path begins with env, people or players{near}"
        raise ParameterError(message=message, code="unknown_name")
    if not all(way):
        raise ParameterError(message="the path has an empty part")
    if way == ("policies",):
        message = "name the role too, as in players.assistant"
        raise ParameterError(message=message, code="missing")
    return way


def _conflict_problems(scenario: Scenario, source_map: SourceMap) -> Iterator[Problem]:
    """Paths set twice, by an arm and the sweep or a stage and anything; values swept twice."""
    for number, stage in enumerate(scenario.stages):
        for section, changes in (("env", stage.env), ("policies", stage.policies)):
            for path in changes:
                stands: KeyPath = ("stages", number, section, path)
                for message in _ineffective_reasons(scenario, path):
                    yield Problem(source_map.key_location(stands), stands, message, "conflict")
    for path, values in scenario.sweep.items():
        for arm, changes in scenario.arms.items():
            if path in changes:
                stands = ("arms", arm, path)
                message = "is swept as well: leave one out"
                yield Problem(source_map.key_location(stands), stands, message, "conflict")
        texts: list[str] = []
        for i, value in enumerate(values):
            text = json.dumps(float(value) if type(value) is int else value, sort_keys=True)
            if text in texts:
                stands = ("sweep", path, i)
                message = f"{describe_value(value)} is listed twice"
                yield Problem(source_map.value_location(stands), stands, message, "duplicate")
            texts.append(text)


def _ineffective_reasons(scenario: Scenario, path: str) -> Iterator[str]:
    """Why a change by a stage, or what others set at or below its path, would do nothing."""
    role = role_of_path(path)
    whole = "env" if role is None else f"players.{role}"  # what an arm may name and so keep
    for who, others in _override_sources(scenario):
        kept = role is not None and others in scenario.arms.values()
        below = any(f"{o}.".startswith(f"{path}.") for o in others if not (kept and o == whole))
        sets = [stage.env if role is None else stage.policies for stage in scenario.stages]
        if not all(path in changes for changes in sets):
            below = False  # it counts in the stages that leave it as it is
        if below or (role is not None and not kept and whole in others):
            yield f"is set by {who} as well, in vain: leave one out"
    if role is not None and scenario.arms and all(whole in c for c in scenario.arms.values()):
        yield f"does nothing: every arm names {whole} whole, and keeps it"


def _override_sources(scenario: Scenario) -> Iterator[tuple[str, Collection[str]]]:
    """Who else sets parameters, in words, and their paths."""
    yield from ((f"the arm {arm}", changes) for arm, changes in scenario.arms.items())
    yield "the sweep", scenario.sweep
    for name, given in (("uncertainty", scenario.uncertainty), ("calibration", scenario.calibration)):
        if given is not None:
            yield name, given.parameters


def cell_for_condition(scenario: Scenario, source_map: SourceMap, condition: Condition) -> Cell:
    """The cell of a condition: what the file says, with the condition's changes put in."""
    whole: dict[str, Any] = {
        "env": _spec_dict(scenario.env),
        "population": scenario.population and _spec_dict(scenario.population),
        "policies": {role: _spec_dict(asked) for role, asked in scenario.policies.items()},
    }
    paths: dict[KeyPath, KeyPath] = {}
    problems: list[Problem] = []
    for change in condition.overrides:
        try:
            there = set_at_path(whole, change.path, change.value)
        except ParameterError as error:
            place = source_map.value_location(change.source_path)
            problems.append(Problem(place, change.source_path, str(error), error.code))
            continue
        for below in [path for path in paths if path[: len(there)] == there]:
            del paths[below]
        paths[there] = change.source_path
    if problems:
        raise ScenarioError(problems)
    own_id = cell_id(condition.arm, condition.point)
    named = [c.path[1] for c in condition.overrides if c.path[0] == "policies" and len(c.path) == 2]
    if condition.purpose != "arm":
        own_id = cell_id(f"{condition.arm}__{condition.purpose}-{condition.point_index:03d}", {})
    return Cell(
        id=own_id,
        arm=condition.arm,
        point=condition.point,
        env=whole["env"],
        population=whole["population"],
        policies=whole["policies"],
        stages=tuple(without_role_overrides(stage, named) for stage in scenario.stages_or_default),
        rounds=scenario.rounds,
        purpose=condition.purpose,
        index=condition.point_index,
        origin=Origin(source_map, paths),
    )


def _spec_dict(spec: ComponentSpec) -> dict[str, Any]:
    return {"kind": spec.kind, **copy.deepcopy(spec.parameters)}
