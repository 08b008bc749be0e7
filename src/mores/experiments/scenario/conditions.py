"""Conditions: each arm at each point of the sweep, and the overrides that make its cell.

Arms share their random numbers. They may differ in the environment, the population and the
policies, but in nothing that random streams depend on: rounds, replicates, worlds, seed.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from mores.core.errors import ParameterError, did_you_mean
from mores.experiments.scenario.base_models import ComponentSpec
from mores.experiments.scenario.cell import Cell, CellPurpose, cell_id
from mores.experiments.scenario.overrides import (
    Origin,
    Override,
    apply_overrides,
    by_depth,
    role_of_path,
    without_role_overrides,
)
from mores.experiments.scenario.source_locations import (
    Problem,
    ScenarioError,
    SourceMap,
    describe_value,
    printable,
    problem_at_path,
)
from mores.experiments.scenario.specification import Scenario

MAX_CELLS = 10_000
DEFAULT_ARM = "main"  # name of the arm in a scenario without arms
OVERRIDABLE_SECTIONS = ("env", "population", "policies")  # what arms and sweeps may change


class Condition(NamedTuple):
    """An arm at a point, and its overrides in order of application."""

    arm: str
    point: dict[str, Any]
    overrides: list[Override]
    purpose: CellPurpose = "arm"
    point_index: int = 0


def expand_conditions(scenario: Scenario, source_map: SourceMap) -> Iterator[Condition]:
    """Each arm at each point of the sweep."""
    arms = {arm: _arm_overrides(scenario, arm) for arm in scenario.arms}
    sweep = {
        path: [Override(path, value, ("sweep", path, i)) for i, value in enumerate(values)]
        for path, values in scenario.sweep.items()
    }
    problems = list(_conflict_problems(scenario, source_map))
    cells = max(1, len(arms)) * math.prod(len(values) for values in sweep.values())
    if cells > MAX_CELLS:
        message = f"arms times sweep give {cells:,} cells; at most {MAX_CELLS:,} are allowed"
        problem = problem_at_path(source_map, message, "sweep", code="too_large", at_key=True)
        problems.append(problem)
    if problems:
        raise ScenarioError(problems)
    for arm, overrides in (arms or {DEFAULT_ARM: []}).items():
        for swept in itertools.product(*sweep.values()):
            point = {override.path: override.value for override in swept}
            yield Condition(arm, point, [*by_depth(overrides), *by_depth(swept)])


def condition_at_point(
    scenario: Scenario,
    arm: str,
    point: Mapping[str, float],
    section: str,
    purpose: CellPurpose = "arm",
    index: int = 0,
) -> Condition:
    """An arm at given parameter values. Parameters that the arm itself sets are left out.

    Args:
        scenario: the scenario.
        arm: name of the arm.
        point: values by dotted path.
        section: section that states their ranges: `uncertainty` or `calibration`.
        purpose, index: purpose and index of the cell.
    """
    own = scenario.arms.get(arm, {})
    arm_point = {
        path: value
        for path, value in point.items()
        if not any(f"{path}.".startswith(f"{other}.") for other in own)
    }
    ranged = [Override(p, value, (section, "parameters", p)) for p, value in arm_point.items()]
    overrides = by_depth([*_arm_overrides(scenario, arm), *ranged])
    return Condition(arm, arm_point, overrides, purpose, index)


def range_end_conditions(
    scenario: Scenario, arms_by_section: Mapping[str, Iterable[str]]
) -> Iterator[Condition]:
    """Arms with all uncertain parameters at the lower, then at the upper end of their ranges.

    Likewise for parameters to be calibrated. Checking these finds invalid paths before a run.

    Args:
        scenario: the scenario.
        arms_by_section: arms that `uncertainty` and `calibration` simulate.
    """
    sections = {"uncertainty": scenario.uncertainty, "calibration": scenario.calibration}
    for section, content in sections.items():
        if content is not None:
            for end, arm in itertools.product((0, 1), arms_by_section[section]):
                point = {path: ends[end] for path, ends in content.parameters.items()}
                yield condition_at_point(scenario, arm, point, section, "design", end)


def _arm_overrides(scenario: Scenario, arm: str) -> list[Override]:
    overrides = scenario.arms.get(arm, {}).items()
    return [Override(path, value, ("arms", arm, path)) for path, value in overrides]


def _parse_path(path: str) -> tuple[str, ...]:
    """The parts of a dotted path that arms and sweeps may override.

    Raises:
        ParameterError: the path is not such a path.
    """
    parts = tuple(path.split("."))
    if parts[0] in Scenario.model_fields and parts[0] not in OVERRIDABLE_SECTIONS:
        message = f"{parts[0]} cannot differ between arms; env, population and policies can"
        raise ParameterError(message=message)
    if parts[0] not in OVERRIDABLE_SECTIONS:
        near = did_you_mean(printable(parts[0]), OVERRIDABLE_SECTIONS)
        message = f"a path begins with env, population or policies{near}"
        raise ParameterError(message=message, code="unknown_name")
    if not all(parts):
        raise ParameterError(message="the path has an empty part")
    if parts == ("policies",):
        message = "name the role too, as in policies.assistant"
        raise ParameterError(message=message, code="missing")
    return parts


def _conflict_problems(scenario: Scenario, source_map: SourceMap) -> Iterator[Problem]:
    """Paths set twice, by an arm and the sweep or a stage and another source; repeated values."""

    def conflict(message: str, *path: str | int) -> Problem:
        return problem_at_path(source_map, message, *path, code="conflict", at_key=True)

    for index, stage in enumerate(scenario.stages):
        for section, overrides in (("env", stage.env), ("policies", stage.policies)):
            for path in overrides:
                for message in _ineffective_reasons(scenario, path):
                    yield conflict(message, "stages", index, section, path)
    for path, values in scenario.sweep.items():
        for arm, overrides in scenario.arms.items():
            if path in overrides:
                yield conflict("the sweep sets it as well: remove one", "arms", arm, path)
        texts: list[str] = []
        for i, value in enumerate(values):
            text = json.dumps(float(value) if type(value) is int else value, sort_keys=True)
            if text in texts:
                message = f"{describe_value(value)} is listed twice"
                yield problem_at_path(source_map, message, "sweep", path, i, code="duplicate")
            texts.append(text)


def _ineffective_reasons(scenario: Scenario, path: str) -> Iterator[str]:
    """Reasons why an override of a stage, or others at or below its path, have no effect."""
    role = role_of_path(path)
    whole = "env" if role is None else f"policies.{role}"  # an arm that sets it fixes the policy
    for source, others in _override_sources(scenario):
        is_arm = role is not None and others in scenario.arms.values()
        below = any(f"{o}.".startswith(f"{path}.") for o in others if not (is_arm and o == whole))
        overrides = [stage.env if role is None else stage.policies for stage in scenario.stages]
        if not all(path in changes for changes in overrides):
            below = False  # the other source applies in the stages without this override
        if below or (role is not None and not is_arm and whole in others):
            yield f"{source} sets it as well, and one of the two has no effect: remove one"
    if role is not None and scenario.arms and all(whole in c for c in scenario.arms.values()):
        yield f"has no effect: every arm sets {whole} for all stages"


def _override_sources(scenario: Scenario) -> Iterator[tuple[str, Collection[str]]]:
    """Other sources of overrides, as named in messages, and their paths."""
    yield from ((f"the arm {arm}", overrides) for arm, overrides in scenario.arms.items())
    yield "the sweep", scenario.sweep
    if scenario.uncertainty is not None:
        yield "uncertainty", scenario.uncertainty.parameters
    if scenario.calibration is not None:
        yield "calibration", scenario.calibration.parameters


def cell_for_condition(scenario: Scenario, source_map: SourceMap, condition: Condition) -> Cell:
    """The cell of a condition: the scenario's components with the overrides applied."""
    cell_spec: dict[str, Any] = {
        "env": _spec_dict(scenario.env),
        "population": scenario.population and _spec_dict(scenario.population),
        "policies": {role: _spec_dict(spec) for role, spec in scenario.policies.items()},
    }
    cell_spec, origin = apply_overrides(
        cell_spec, Origin(source_map, {}), condition.overrides, _parse_path
    )
    paths = [override.path.split(".") for override in condition.overrides]
    fixed = [path[1] for path in paths if path[0] == "policies" and len(path) == 2]
    own_id = cell_id(condition.arm, condition.point)
    if condition.purpose != "arm":
        own_id = cell_id(f"{condition.arm}__{condition.purpose}-{condition.point_index:03d}", {})
    return Cell(
        id=own_id,
        arm=condition.arm,
        point=condition.point,
        env=cell_spec["env"],
        population=cell_spec["population"],
        policies=cell_spec["policies"],
        stages=tuple(without_role_overrides(s, fixed) for s in scenario.stages_or_default),
        rounds=scenario.rounds,
        purpose=condition.purpose,
        index=condition.point_index,
        origin=origin,
    )


def _spec_dict(spec: ComponentSpec) -> dict[str, Any]:
    return {"kind": spec.kind, **spec.parameters}
