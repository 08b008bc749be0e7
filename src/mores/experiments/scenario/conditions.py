"""Conditions: each arm at each point of the sweep, and the overrides that make its cell.

Arms share their random numbers. They may differ in the environment, the population and the
policies, but in nothing that random streams depend on: rounds, replicates, worlds, seed.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from mores.experiments.scenario.cell import Cell, CellPurpose, cell_id
from mores.experiments.scenario.overrides import (
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
)
from mores.experiments.scenario.specification import DEFAULT_ARM, Scenario
from mores.experiments.scenario.strict_yaml import MAX_DEPTH

MAX_CELLS = 10_000


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
        problems.append(source_map.problem(message, "sweep", code="too_large", at_key=True))
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
    """The arms of a section with all its parameters at the lower, then the upper end of their
    ranges. Checking these finds invalid paths before a run. A section that no claim uses has one.
    """
    sections = {"uncertainty": scenario.uncertainty, "calibration": scenario.calibration}
    for section, content in sections.items():
        arms = [*arms_by_section[section]] or [scenario.control or scenario.arm_names[0]]
        for end, arm in itertools.product((0, 1), arms if content else ()):
            point = {path: ends[end] for path, ends in content.parameters.items()}
            yield condition_at_point(scenario, arm, point, section, "design", end)


def _arm_overrides(scenario: Scenario, arm: str) -> list[Override]:
    overrides = scenario.arms.get(arm, {}).items()
    return [Override(path, value, ("arms", arm, path)) for path, value in overrides]


def _conflict_problems(scenario: Scenario, source_map: SourceMap) -> Iterator[Problem]:
    """Paths set twice, by an arm and the sweep or a stage and another source; repeated values."""
    elsewhere = _paths_and_parents(scenario)
    for index, stage in enumerate(scenario.stages):
        for section, overrides in (("env", stage.env), ("policies", stage.policies)):
            for path in overrides:
                if elsewhere.isdisjoint((path, f"policies.{role_of_path(path)}")):
                    continue
                for message in _ineffective_reasons(scenario, path):
                    key = ("stages", index, section, path)
                    yield source_map.problem(message, *key, code="conflict", at_key=True)
    for path, values in scenario.sweep.items():
        for arm, overrides in scenario.arms.items():
            if path in overrides:
                message = "the sweep sets it as well: remove one"
                yield source_map.problem(message, "arms", arm, path, code="conflict", at_key=True)
        texts: set[str] = set()
        for i, value in enumerate(values):
            text = json.dumps(float(value) if type(value) is int else value, sort_keys=True)
            if text in texts:
                message = f"{describe_value(value)} is listed twice"
                yield source_map.problem(message, "sweep", path, i, code="duplicate")
            texts.add(text)


def _paths_and_parents(scenario: Scenario) -> set[str]:
    """The paths that arms, the sweep, uncertainty and calibration set, and those above them."""
    sources: list[Mapping[str, Any]] = [*scenario.arms.values(), scenario.sweep]
    for section in (scenario.uncertainty, scenario.calibration):
        if section:
            sources.append(section.parameters)
    paths = {path for source in sources for path in source}
    return {
        path.rsplit(".", n)[0] for path in paths for n in range(min(path.count("."), MAX_DEPTH) + 1)
    }


def _ineffective_reasons(scenario: Scenario, path: str) -> Iterator[str]:
    """Reasons why an override of a stage, or others at or below its path, have no effect."""
    role = role_of_path(path)
    whole = "env" if role is None else f"policies.{role}"  # an arm that sets it fixes the policy
    stages = [stage.env if role is None else stage.policies for stage in scenario.stages]
    in_all_stages = all(path in overrides for overrides in stages)
    others = {f"the arm {arm}": overrides for arm, overrides in scenario.arms.items()}
    others["the sweep"] = scenario.sweep
    for name in ("uncertainty", "calibration"):
        if section := getattr(scenario, name):
            others[name] = section.parameters
    for source, paths in others.items():
        fixes_policy = whole in paths and role is not None
        is_arm = source.startswith("the arm ")
        below = [p for p in paths if f"{p}.".startswith(f"{path}.")]
        if is_arm and fixes_policy:
            below = [p for p in below if p != whole]
        if (below and in_all_stages) or (fixes_policy and not is_arm):
            yield f"{source} sets it as well, and one of the two has no effect: remove one"
    if role is not None and scenario.arms and all(whole in c for c in scenario.arms.values()):
        yield f"has no effect: every arm sets {whole} for all stages"


def cell_for_condition(scenario: Scenario, source_map: SourceMap, condition: Condition) -> Cell:
    """The cell of a condition: the scenario's components with the overrides applied."""
    cell_spec = scenario.model_dump(include={"env", "population", "policies"})
    cell_spec, source_map = apply_overrides(cell_spec, source_map, condition.overrides)
    paths = [override.path.split(".") for override in condition.overrides]
    fixed = [path[1] for path in paths if path[0] == "policies" and len(path) == 2]
    arm, point, is_arm = condition.arm, condition.point, condition.purpose == "arm"
    numbered = f"{arm}__{condition.purpose}-{condition.point_index:03d}"
    return Cell(
        id=cell_id(arm, point) if is_arm else cell_id(numbered, {}),
        arm=arm,
        point=point,
        **cell_spec,
        stages=tuple(without_role_overrides(s, fixed) for s in scenario.stages_or_default),
        rounds=scenario.rounds,
        purpose=condition.purpose,
        index=condition.point_index,
        source_map=source_map,
    )
