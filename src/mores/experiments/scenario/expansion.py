"""Expansion of a scenario into cells, one per arm and point of the sweep, and their checks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mores.core.errors import UserError, did_you_mean
from mores.core.names import resolve_value_names
from mores.core.threads import single_threaded
from mores.experiments.scenario.cell import BuiltCell, Cell, Components, cell_id
from mores.experiments.scenario.claim_inputs import arms_by_section
from mores.experiments.scenario.conditions import (
    Condition,
    cell_for_condition,
    expand_conditions,
    range_end_conditions,
)
from mores.experiments.scenario.loading import LoadedScenario
from mores.experiments.scenario.overrides import role_of_path, without_role_overrides
from mores.experiments.scenario.source_locations import (
    KeyPath,
    Problem,
    ScenarioError,
    SourceMap,
    printable,
    problems_into,
)
from mores.experiments.scenario.specification import Scenario
from mores.experiments.scenario.strict_yaml import dump
from mores.registry import class_of, kind_of

MAX_PROBLEMS = 100  # further cells are not checked


@single_threaded()
def build_and_verify(loaded_or_scenario: LoadedScenario | Scenario) -> tuple[BuiltCell, ...]:
    """The cells of a scenario, after a check of one world of each, of metrics and of claims.

    Raises:
        ScenarioError: all problems that can be found before a simulation.
    """
    from mores.experiments.scenario import verify, verify_training
    from mores.experiments.scenario.figure_check import FigureCheck
    from mores.experiments.scenario.first_round_check import FirstRoundCheck
    from mores.experiments.scenario.verify_controls import control_problems

    scenario, source_map = _scenario_and_source_map(loaded_or_scenario)
    problems = verify.claim_problems(scenario, source_map)
    first_rounds, figures = FirstRoundCheck(scenario.seed), FigureCheck(scenario, source_map)
    problems += figures.problems
    built_cells: list[BuiltCell] = []
    with problems_into(problems):
        for built in build_cells(loaded_or_scenario):
            built_cells.append(built)
            if len(problems) < MAX_PROBLEMS:
                problems += verify.cell_problems(scenario, built, first_rounds, figures)
        problems += verify_training.training_problems(scenario, source_map, built_cells)
        problems += control_problems(scenario, source_map, built_cells)
        if not problems:  # the ends of the ranges; all points between are equally possible
            ends = range_end_conditions(scenario, arms_by_section(scenario))
            for built in build_cells(loaded_or_scenario, ends):
                for index in range(len(built.stages)):
                    first_rounds.check_start(built, index, problems)
                if problems:  # of the lower end; those of the upper one are mostly the same
                    break
    if problems:
        raise ScenarioError(problems)
    return tuple(built_cells)


def build_cells(
    loaded_or_scenario: LoadedScenario | Scenario, conditions: Iterable[Condition] | None = None
) -> Iterator[BuiltCell]:
    """The cells of some conditions (default: the arms) in order, with their objects.

    Raises:
        ScenarioError: all problems of all cells, at the end.
    """
    scenario, source_map = _scenario_and_source_map(loaded_or_scenario)
    problems: list[Problem] = []
    known_roles: set[str] = set()
    unknown: dict[tuple[str, KeyPath], Problem] = {}  # by role, and path of its key
    ids: set[str] = set()
    for condition in expand_conditions(scenario, source_map) if conditions is None else conditions:
        if len(problems) >= MAX_PROBLEMS:
            break
        with problems_into(problems):
            components = Components()
            cell = cell_for_condition(scenario, source_map, condition)
            cell = _with_population_parameters(cell, components)
            roles = _role_names(cell, components)
            known_roles |= roles
            if roles:
                cell, absent = _without_unknown_roles(cell, roles)
                unknown = absent | unknown
            if cell.id.lower() in ids:  # some file systems ignore case
                cell = dataclasses.replace(cell, id=cell_id(cell.arm, cell.point, digest=True))
            ids.add(cell.id.lower())
            built = cell.build(components)
            yield built
    if not problems:  # an environment that could not be constructed might have the role
        problems += [p for (role, _), p in unknown.items() if role not in known_roles]
    if problems:
        raise ScenarioError(problems)


def resolved_yaml(scenario: Scenario, built_cells: Iterable[BuiltCell]) -> str:
    """The scenario as YAML with every parameter, including those at their defaults."""
    by_cell = {"env", "population", "policies"}
    by_cell |= set() if scenario.figures else {"figures"}
    document = scenario.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=by_cell)
    document["cells"] = {built.cell.id: _resolved_cell(built) for built in built_cells}
    return dump(document)


def _resolved_cell(built: BuiltCell) -> dict[str, Any]:
    """A cell with every parameter. Stages list only what differs from the cell."""
    cell = built.cell
    shared_policies: dict[str, Any] = {}
    stages: dict[str, Any] = {}
    for stage, _, environment, policies, spec in built.stages:
        changed_policies: dict[str, Any] = {}
        for role, policy in policies.items():
            changed = spec.policies.get(role) != cell.policies.get(role)
            target = changed_policies if changed else shared_policies
            target[role] = full_spec(spec.policies.get(role), policy)
        changes = {"env": full_spec(spec.env, environment)} if stage.env else {}
        changes |= {"policies": changed_policies} if changed_policies else {}
        stages |= {stage.name: changes} if changes else {}
    return {
        "arm": cell.arm,
        "point": dict(cell.point),
        **({"draws": [draw.index for draw in cell.draws]} if cell.draws else {}),
        "env": full_spec(cell.env, built.shared_environment),
        "population": cell.population and full_spec(cell.population, built.population),
        "policies": shared_policies,
        **({"stages": stages} if stages else {}),
        "rounds": {staged.stage.name: staged.rounds for staged in built.stages},
    }


def full_spec(spec: Mapping[str, Any] | None, component: Any) -> dict[str, Any]:
    """`kind` and all parameters of an object.

    Without `spec` it is a default policy: its registered name, or its class if it has none.
    """
    default_kind = kind_of("policy", component) or type(component).__name__
    kind = default_kind if spec is None else spec["kind"]
    parameters = spec or {}
    if hasattr(component, "model_dump"):
        parameters = component.model_dump(mode="json", by_alias=True)
    return {"kind": kind, **{n: v for n, v in parameters.items() if n != "kind"}}


def _scenario_and_source_map(
    loaded_or_scenario: LoadedScenario | Scenario,
) -> tuple[Scenario, SourceMap]:
    if isinstance(loaded_or_scenario, Scenario):
        return loaded_or_scenario, SourceMap(f"scenario {loaded_or_scenario.name}")
    return loaded_or_scenario.scenario, loaded_or_scenario.source_map


def _without_unknown_roles(
    cell: Cell, roles: set[str]
) -> tuple[Cell, dict[tuple[str, KeyPath], Problem]]:
    """The cell without policies of roles that its environments lack, and a problem for each."""
    named: dict[KeyPath, str | None] = {("policies", role): role for role in cell.policies}
    for index, stage in enumerate(cell.stages):
        named |= {("stages", index, "policies", p): role_of_path(p) for p in stage.policies}
    problems: dict[tuple[str, KeyPath], Problem] = {}
    for path, role in named.items():
        if role is not None and role not in roles:
            near = did_you_mean(role, roles)
            message = f"{cell.env['kind']} has no role {printable(role, 40)!r}{near}"
            problem = cell.source_map.problem(message, *path, code="unknown_name", at_key=True)
            problems[role, path] = problem
    absent = {role for role, _ in problems}
    policies = {role: spec for role, spec in cell.policies.items() if role not in absent}
    stages = tuple(without_role_overrides(stage, absent) for stage in cell.stages)
    return dataclasses.replace(cell, policies=policies, stages=stages), problems


def _role_names(cell: Cell, components: Components) -> set[str]:
    """Roles of a cell's environments. Empty if one cannot be constructed (`build` reports why)."""
    roles: set[str] = set()
    try:
        for index, stage in enumerate(cell.stages):
            env, source_map = cell.env, cell.source_map
            if stage.env:
                env, _, source_map = cell.stage_spec(index)
            environment = components.make("environment", env, ("env",), source_map)
            roles |= {role.name for role in environment.roles}
    except ScenarioError:
        return set()
    return roles


def _with_population_parameters(cell: Cell, components: Components) -> Cell:
    """The cell with the environment parameters that its population sets (number of people ...)."""
    if cell.population is None:
        return cell
    path = ("population",)
    try:
        population = components.make("population", cell.population, path, cell.source_map)
        fields = class_of("environment", cell.env["kind"]).model_fields
    except UserError:
        return cell  # `build` reports it
    env, overrides, problems = dict(cell.env), dict(cell.source_map.overrides), []
    parameters = dict(population.environment_parameters())
    if "value_names" in env and population.value_names:
        parameters["value_names"] = list(population.value_names)
        env["value_names"] = resolve_value_names(env["value_names"])
    for name, value in parameters.items():
        if name in env and env[name] != value:
            message = (
                f"is {printable(env[name], 40)}, but the population {cell.population['kind']} has "
                f"{value}: remove {name} here, or change the population"
            )
            problems.append(cell.source_map.problem(message, "env", name, code="conflict"))
        if name in fields:
            env[name] = value
            overrides.setdefault(("env", name), cell.source_map.file_path(path))
    if problems:
        raise ScenarioError(problems)
    if population.value_std is not None and "population_std" in fields:
        env.setdefault("population_std", population.value_std)
    source_map = dataclasses.replace(cell.source_map, overrides=overrides)
    return dataclasses.replace(cell, env=env, source_map=source_map)
