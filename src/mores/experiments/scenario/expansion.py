"""What a scenario leads to: a cell for each arm at each point of the sweep, checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mores.core.errors import UserError
from mores.experiments.scenario.cell import Built, Cell, Purpose, cell_id, make_part, no_such_role
from mores.experiments.scenario.claim_inputs import arms_played
from mores.experiments.scenario.conditions import Condition, changed, conditions, corners
from mores.experiments.scenario.loading import Loaded
from mores.experiments.scenario.overrides import Origin, keeping, role_in
from mores.experiments.scenario.source_locations import Path, Places, Problem, ScenarioError, shown
from mores.experiments.scenario.specification import Scenario
from mores.experiments.scenario.stages import Stage
from mores.experiments.scenario.strict_yaml import dump
from mores.experiments.scenario.validation_problems import in_file
from mores.registry import class_of

__all__ = ["Built", "Cell", "check", "expand", "recorded_rounds", "resolved"]

ENOUGH = 100  # problems: more cells would only say the same


def expand(given: Loaded | Scenario) -> tuple[Cell, ...]:
    """The cells of a scenario, arm by arm, their parameters checked.

    Raises:
        ScenarioError: paths that lead nowhere, wrong parameters, too many cells.
    """
    scenario, places = _parts(given)
    asked = conditions(scenario, places)
    return tuple(resolution.cell for resolution in _resolve(scenario, places, asked))


def cells_of(given: Loaded | Scenario, asked: Iterable[Condition]) -> tuple[Cell, ...]:
    """The cells of some conditions, such as arms at draws of uncertain parameters.

    Raises:
        ScenarioError: a parameter is wrong there.
    """
    scenario, places = _parts(given)
    return tuple(resolution.cell for resolution in _resolve(scenario, places, asked))


def check(given: Loaded | Scenario) -> tuple[Cell, ...]:
    """Expand a scenario, begin one world of every cell, and verify measures and claims.

    Raises:
        ScenarioError: everything that would go wrong later, found before anything is played.
    """
    from mores.experiments.scenario import verify, verify_training

    scenario, places = _parts(given)
    problems = verify.claims(scenario, places)
    cells: list[Cell] = []
    made: list[tuple[Cell, Built]] = []
    try:
        for cell, built in _resolve(scenario, places, conditions(scenario, places)):
            cells.append(cell)
            made.append((cell, built))
            if len(problems) < ENOUGH:
                problems += verify.cell(scenario, places, cell, built)
        problems += verify_training.learners(scenario, places, made)
        if not problems:  # the ends of the ranges; whatever lies between is as possible
            ends = corners(scenario, places, arms_played(scenario))
            for _ in _resolve(scenario, places, ends):
                pass
    except ScenarioError as error:
        problems += error.problems
    if problems:
        raise ScenarioError(problems)
    return tuple(cells)


def recorded_rounds(scenario: Scenario, stage: Stage, purpose: Purpose = "arm") -> tuple[int, ...]:
    """The rounds of a stage's episodes after which measures are taken.

    The first, every so many, the last, and those that claims and targets look at; at draws of
    uncertain parameters only the latter.
    """
    last = scenario.rounds_in(stage)
    asked = {
        claim.at
        for claim in scenario.claims
        if claim.at is not None and scenario.stage(claim.stage).name == stage.name
    }
    if scenario.calibration is not None:
        asked |= {target.at for target in scenario.calibration.targets if target.at is not None}
    sensitivity = scenario.uncertain and scenario.uncertain.sensitivity
    if sensitivity and sensitivity.at is not None:
        asked.add(sensitivity.at)
    regular = range(0, last + 1, scenario.every) if purpose == "arm" else ()
    return tuple(sorted(at for at in {*regular, last, *asked} if at <= last))


def resolved(scenario: Scenario, cells: Sequence[Cell]) -> str:
    """The scenario as YAML with every parameter written out, those left at defaults included."""
    given_by_cell = {"env", "people", "players"}
    told = scenario.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=given_by_cell)
    told["cells"] = {}
    for cell in cells:
        told["cells"][cell.id] = _told(cell)
    return dump(told)


def _told(cell: Cell) -> dict[str, Any]:
    """A cell with every parameter written out; of stages what they have in place of that."""
    built = cell.build()
    usual: dict[str, Any] = {}
    stages: dict[str, Any] = {}
    for number, staged in enumerate(built.stages):
        asked, changed = cell.asked(number), {}
        for role, player in staged.players.items():
            own = asked.players.get(role) != cell.players.get(role)
            (changed if own else usual)[role] = whole_part(asked.players.get(role), player)
        here = {"env": whole_part(asked.env, staged.game)} if staged.stage.env else {}
        here |= {"players": changed} if changed else {}
        stages |= {staged.stage.name: here} if here else {}
    return {
        "arm": cell.arm,
        "point": dict(cell.point),
        "env": whole_part(cell.env, make_part("environment", cell.env, ("env",), cell.origin)),
        "people": None if cell.people is None else whole_part(cell.people, built.population),
        "players": usual,
        **({"stages": stages} if stages else {}),
        "rounds": {staged.stage.name: staged.rounds for staged in built.stages},
    }


def whole_part(asked: Mapping[str, Any] | None, made: Any) -> dict[str, Any]:
    """`kind`, and the parameters as the object has them; of a baseline player its class."""
    kind = type(made).__name__ if asked is None else asked["kind"]
    parameters = asked or {}
    if hasattr(made, "model_dump"):
        parameters = made.model_dump(mode="json", by_alias=True)
    return {"kind": kind, **{n: v for n, v in parameters.items() if n != "kind"}}


class _Resolved(NamedTuple):
    """A cell and what it is made of."""

    cell: Cell
    built: Built


def _parts(given: Loaded | Scenario) -> tuple[Scenario, Places]:
    if isinstance(given, Scenario):
        return given, Places(f"scenario {given.name}")
    return given.scenario, given.places


def _resolve(scenario: Scenario, places: Places, asked: Iterable[Condition]) -> Iterator[_Resolved]:
    """Cells one after another; their problems together, once all were seen."""
    problems: list[Problem] = []
    roles: set[str] = set()
    unseated: dict[tuple[str, Path], Problem] = {}  # by role, and where it is named
    ids: set[str] = set()
    for condition in asked:
        if len(problems) >= ENOUGH:
            break
        try:
            cell = _supplied(changed(scenario, places, condition))
            here = _roles(cell)
            unseated = _unseated(cell, here) | unseated
            roles |= here
            if here:
                cell = _seated(cell, here)
            if cell.id.lower() in ids:  # some file systems do not tell A from a
                cell = dataclasses.replace(cell, id=cell_id(cell.arm, cell.point, digest=True))
            ids.add(cell.id.lower())
            yield _Resolved(cell, cell.build())
        except ScenarioError as error:
            problems += error.problems
    if not problems:  # an environment that could not be made might have had the role
        problems += [wrong for (role, _), wrong in unseated.items() if role not in roles]
    if problems:
        raise ScenarioError(problems)


def _unseated(cell: Cell, roles: set[str]) -> dict[tuple[str, Path], Problem]:
    """Players for roles that a cell's environment has not, named by the cell or by a stage."""
    named: list[tuple[str, Path]] = [(role, ()) for role in cell.players]
    for number, stage in enumerate(cell.stages):
        for path in stage.players:
            role = role_in(path)
            named += [] if role is None else [(role, ("stages", number, "players", path))]
    known = sorted(roles)
    return {
        (role, stands): no_such_role(role, known, cell, stands)
        for role, stands in named
        if role not in roles
    }


def _seated(cell: Cell, roles: set[str]) -> Cell:
    """The cell without players for roles that it does not have."""
    players = {role: asked for role, asked in cell.players.items() if role in roles}
    named = {role_in(path) for stage in cell.stages for path in stage.players}
    absent = [role for role in named if role is not None and role not in roles]
    stages = tuple(keeping(stage, absent) for stage in cell.stages)
    return dataclasses.replace(cell, players=players, stages=stages)


def _roles(cell: Cell) -> set[str]:
    """The roles of a cell's environment, in any stage; none where it cannot be made.

    `build` will tell why.
    """
    try:
        return {
            role.name
            for env, origin in cell.environments()
            for role in make_part("environment", env, ("env",), origin).roles
        }
    except ScenarioError:
        return set()


def _supplied(cell: Cell) -> Cell:
    """The cell with what its population supplies (how many people, say) as parameters of `env`."""
    if cell.people is None:
        return cell
    try:
        population = make_part("population", cell.people, ("people",), cell.origin)
        fields = class_of("environment", cell.env["kind"]).model_fields
    except (UserError, ImportError):
        return cell  # `build` will tell
    supplies: Any = getattr(population, "supplies", {})
    supplied: Any = supplies() if callable(supplies) else supplies
    env, paths, problems = dict(cell.env), dict(cell.origin.paths), []
    for name, number in supplied.items():
        if name in env and env[name] != number:
            message = (
                f"is {shown(env[name], 40)}, but the population {cell.people['kind']} has "
                f"{number}: leave {name} out here, or change it in people"
            )
            problems.append(cell.origin.problem(("env", name), message, code="conflict"))
        if name in fields:
            env[name] = number
            paths.setdefault(("env", name), in_file(("people",), cell.origin.paths))
    if problems:
        raise ScenarioError(problems)
    return dataclasses.replace(cell, env=env, origin=Origin(cell.origin.places, paths))
