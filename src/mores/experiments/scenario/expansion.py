"""What a scenario leads to: a cell for each arm at each point of the sweep, checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mores.core.errors import UserError
from mores.experiments.scenario.cell import (
    BuiltCell,
    Cell,
    CellPurpose,
    cell_id,
    make_component,
    unknown_role_problem,
)
from mores.experiments.scenario.claim_inputs import arms_by_section
from mores.experiments.scenario.conditions import (
    Condition,
    cell_for_condition,
    expand_conditions,
    range_end_conditions,
)
from mores.experiments.scenario.loading import LoadedScenario
from mores.experiments.scenario.overrides import Origin, role_of_path, without_role_overrides
from mores.experiments.scenario.source_locations import (
    KeyPath,
    Problem,
    ScenarioError,
    SourceMap,
    printable,
)
from mores.experiments.scenario.specification import Scenario
from mores.experiments.scenario.stages import Stage
from mores.experiments.scenario.strict_yaml import dump
from mores.experiments.scenario.validation_problems import to_source_path
from mores.registry import class_of

__all__ = ["BuiltCell", "Cell", "expand_and_verify", "expand", "recorded_rounds", "resolved_yaml"]

MAX_PROBLEMS = 100  # problems: more cells would only say the same


def expand(loaded_or_scenario: LoadedScenario | Scenario) -> tuple[Cell, ...]:
    """The cells of a scenario, arm by arm, their parameters checked.

    Raises:
        ScenarioError: paths that lead nowhere, wrong parameters, too many cells.
    """
    scenario, places = _scenario_and_source_map(loaded_or_scenario)
    asked = expand_conditions(scenario, places)
    return tuple(resolution.cell for resolution in _resolve_cells(scenario, places, asked))


def cells_for_conditions(
    loaded_or_scenario: LoadedScenario | Scenario, conditions: Iterable[Condition]
) -> tuple[Cell, ...]:
    """The cells of some conditions, such as arms at draws of uncertain parameters.

    Raises:
        ScenarioError: a parameter is wrong there.
    """
    scenario, places = _scenario_and_source_map(loaded_or_scenario)
    return tuple(resolution.cell for resolution in _resolve_cells(scenario, places, conditions))


def expand_and_verify(loaded_or_scenario: LoadedScenario | Scenario) -> tuple[Cell, ...]:
    """Expand a scenario, begin one world of every cell, and verify measures and claims.

    Raises:
        ScenarioError: everything that would go wrong later, found before anything is played.
    """
    from mores.experiments.scenario import verify, verify_training

    scenario, places = _scenario_and_source_map(loaded_or_scenario)
    problems = verify.claim_problems(scenario, places)
    cells: list[Cell] = []
    made: list[tuple[Cell, BuiltCell]] = []
    try:
        for cell, built in _resolve_cells(scenario, places, expand_conditions(scenario, places)):
            cells.append(cell)
            made.append((cell, built))
            if len(problems) < MAX_PROBLEMS:
                problems += verify.cell_problems(scenario, places, cell, built)
        problems += verify_training.training_problems(scenario, places, made)
        if not problems:  # the ends of the ranges; whatever lies between is as possible
            ends = range_end_conditions(scenario, places, arms_by_section(scenario))
            for _ in _resolve_cells(scenario, places, ends):
                pass
    except ScenarioError as error:
        problems += error.problems
    if problems:
        raise ScenarioError(problems)
    return tuple(cells)


def recorded_rounds(
    scenario: Scenario, stage: Stage, purpose: CellPurpose = "arm"
) -> tuple[int, ...]:
    """The rounds of a stage's episodes after which measures are taken.

    The first, every so many, the last, and those that claims and targets look at; at draws of
    uncertain parameters only the latter.
    """
    last = scenario.rounds_per_episode(stage)
    asked = {
        claim.at_round
        for claim in scenario.claims
        if claim.at_round is not None and scenario.stage(claim.stage).name == stage.name
    }
    if scenario.calibration is not None:
        asked |= {
            target.at_round
            for target in scenario.calibration.targets
            if target.at_round is not None
        }
    sensitivity = scenario.uncertainty and scenario.uncertainty.sensitivity
    if sensitivity and sensitivity.at_round is not None:
        asked.add(sensitivity.at_round)
    regular = range(0, last + 1, scenario.record_every) if purpose == "arm" else ()
    return tuple(sorted(at for at in {*regular, last, *asked} if at <= last))


def resolved_yaml(scenario: Scenario, cells: Sequence[Cell]) -> str:
    """The scenario as YAML with every parameter written out, those left at defaults included."""
    given_by_cell = {"env", "population", "policies"}
    told = scenario.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=given_by_cell)
    told["cells"] = {}
    for cell in cells:
        told["cells"][cell.id] = _resolved_cell(cell)
    return dump(told)


def _resolved_cell(cell: Cell) -> dict[str, Any]:
    """A cell with every parameter written out; of stages what they have in place of that."""
    built = cell.build()
    usual: dict[str, Any] = {}
    stages: dict[str, Any] = {}
    for number, staged in enumerate(built.stages):
        asked, changed = cell.stage_spec(number), {}
        for role, player in staged.policies.items():
            own = asked.policies.get(role) != cell.policies.get(role)
            (changed if own else usual)[role] = full_spec(asked.policies.get(role), player)
        here = {"env": full_spec(asked.env, staged.environment)} if staged.stage.env else {}
        here |= {"policies": changed} if changed else {}
        stages |= {staged.stage.name: here} if here else {}
    return {
        "arm": cell.arm,
        "point": dict(cell.point),
        "env": full_spec(cell.env, make_component("environment", cell.env, ("env",), cell.origin)),
        "population": None if cell.population is None else full_spec(cell.population, built.population),
        "policies": usual,
        **({"stages": stages} if stages else {}),
        "rounds": {staged.stage.name: staged.rounds for staged in built.stages},
    }


def full_spec(spec: Mapping[str, Any] | None, component: Any) -> dict[str, Any]:
    """`kind`, and the parameters as the object has them; of a baseline player its class."""
    kind = type(component).__name__ if spec is None else spec["kind"]
    parameters = spec or {}
    if hasattr(component, "model_dump"):
        parameters = component.model_dump(mode="json", by_alias=True)
    return {"kind": kind, **{n: v for n, v in parameters.items() if n != "kind"}}


class _ResolvedCell(NamedTuple):
    """A cell and what it is made of."""

    cell: Cell
    built: BuiltCell


def _scenario_and_source_map(
    loaded_or_scenario: LoadedScenario | Scenario,
) -> tuple[Scenario, SourceMap]:
    if isinstance(loaded_or_scenario, Scenario):
        return loaded_or_scenario, SourceMap(f"scenario {loaded_or_scenario.name}")
    return loaded_or_scenario.scenario, loaded_or_scenario.source_map


def _resolve_cells(
    scenario: Scenario, source_map: SourceMap, conditions: Iterable[Condition]
) -> Iterator[_ResolvedCell]:
    """Cells one after another; their problems together, once all were seen."""
    problems: list[Problem] = []
    roles: set[str] = set()
    unseated: dict[tuple[str, KeyPath], Problem] = {}  # by role, and where it is named
    ids: set[str] = set()
    for condition in conditions:
        if len(problems) >= MAX_PROBLEMS:
            break
        try:
            cell = _with_population_parameters(cell_for_condition(scenario, source_map, condition))
            here = _role_names(cell)
            unseated = _unknown_role_problems(cell, here) | unseated
            roles |= here
            if here:
                cell = _without_unknown_roles(cell, here)
            if cell.id.lower() in ids:  # some file systems do not tell A from a
                cell = dataclasses.replace(cell, id=cell_id(cell.arm, cell.point, digest=True))
            ids.add(cell.id.lower())
            yield _ResolvedCell(cell, cell.build())
        except ScenarioError as error:
            problems += error.problems
    if not problems:  # an environment that could not be made might have had the role
        problems += [wrong for (role, _), wrong in unseated.items() if role not in roles]
    if problems:
        raise ScenarioError(problems)


def _unknown_role_problems(cell: Cell, roles: set[str]) -> dict[tuple[str, KeyPath], Problem]:
    """Players for roles that a cell's environment has not, named by the cell or by a stage."""
    named: list[tuple[str, KeyPath]] = [(role, ()) for role in cell.policies]
    for number, stage in enumerate(cell.stages):
        for path in stage.policies:
            role = role_of_path(path)
            named += [] if role is None else [(role, ("stages", number, "policies", path))]
    known = sorted(roles)
    return {
        (role, stands): unknown_role_problem(role, known, cell, stands)
        for role, stands in named
        if role not in roles
    }


def _without_unknown_roles(cell: Cell, roles: set[str]) -> Cell:
    """The cell without players for roles that it does not have."""
    players = {role: asked for role, asked in cell.policies.items() if role in roles}
    named = {role_of_path(path) for stage in cell.stages for path in stage.policies}
    absent = [role for role in named if role is not None and role not in roles]
    stages = tuple(without_role_overrides(stage, absent) for stage in cell.stages)
    return dataclasses.replace(cell, policies=players, stages=stages)


def _role_names(cell: Cell) -> set[str]:
    """The roles of a cell's environment, in any stage; none where it cannot be made.

    `build` will tell why.
    """
    try:
        return {
            role.name
            for env, origin in cell.environment_specs()
            for role in make_component("environment", env, ("env",), origin).roles
        }
    except ScenarioError:
        return set()


def _with_population_parameters(cell: Cell) -> Cell:
    """The cell with what its population supplies (how many people, say) as parameters of `env`."""
    if cell.population is None:
        return cell
    try:
        population = make_component("population", cell.population, ("population",), cell.origin)
        fields = class_of("environment", cell.env["kind"]).model_fields
    except (UserError, ImportError):
        return cell  # `build` will tell
    supplies: Any = getattr(population, "environment_parameters", {})
    supplied: Any = supplies() if callable(supplies) else supplies
    env, paths, problems = dict(cell.env), dict(cell.origin.source_paths), []
    for name, number in supplied.items():
        if name in env and env[name] != number:
            message = (
                f"is {printable(env[name], 40)}, but the population {cell.population['kind']} has "
                f"{number}: leave {name} out here, or change it in people"
            )
            problems.append(cell.origin.problem(("env", name), message, code="conflict"))
        if name in fields:
            env[name] = number
            paths.setdefault(("env", name), to_source_path(("population",), cell.origin.source_paths))
    if problems:
        raise ScenarioError(problems)
    return dataclasses.replace(cell, env=env, origin=Origin(cell.origin.source_map, paths))
