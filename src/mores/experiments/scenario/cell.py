"""A cell: one arm at one point of the sweep, with everything it takes to make its objects."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ValidationError

from mores.core.environment import Environment, Policy
from mores.core.errors import UserError, did_you_mean
from mores.experiments.scenario.overrides import Origin, StageSpec, apply_stage_overrides
from mores.experiments.scenario.source_locations import KeyPath, Problem, ScenarioError, printable
from mores.experiments.scenario.stages import Stage
from mores.experiments.scenario.validation_problems import problems_from_error
from mores.registry import RegistryName, class_of
from mores.sim.policy_states import continuing_policies
from mores.sim.simulator import Population

CellPurpose = Literal["arm", "draw", "design"]
MAX_ID_LENGTH = 80  # characters of a folder's name


class BuiltStage(NamedTuple):
    """A stage of a cell: its environment, and who plays in it."""

    stage: Stage
    rounds: int
    environment: Environment[Any]
    policies: dict[str, Policy]


@dataclasses.dataclass(frozen=True)
class BuiltCell:
    """The objects of a cell: what is played stage by stage, where the people come from."""

    stages: tuple[BuiltStage, ...]
    population: Population | None

    @property
    def environment(self) -> Environment[Any]:
        """The environment of the last stage."""
        return self.stages[-1].environment

    @property
    def policies(self) -> dict[str, Policy]:
        """Who plays in the last stage."""
        return self.stages[-1].policies

    def dataset_stage_indices(self, stage_index: int) -> list[int]:
        """Numbers of the stages whose record is learned from in a stage of `fit`."""
        return _dataset_stage_indices(self.stages[:stage_index], self.stages[stage_index].stage)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One arm at one point of the sweep.

    Attributes:
        id: name of its folder.
        arm: name of the arm; `main` where there are none.
        point: dotted paths and their values here: of the sweep, or uncertain parameters drawn.
        env: `kind` and parameters of the environment.
        population: of the population, or `None` for the environment's own people.
        policies: by role; roles not named get the environment's baseline.
        stages: what is played, one after another.
        rounds: of an episode, where a stage does not say.
        purpose: arm: what the scenario is about; draw: the same at a draw of uncertain
            parameters; design: at a point of a sensitivity analysis.
        index: of the draw or point.
    """

    id: str
    arm: str
    point: Mapping[str, Any]
    env: Mapping[str, Any]
    population: Mapping[str, Any] | None
    policies: Mapping[str, Mapping[str, Any]]
    stages: tuple[Stage, ...]
    rounds: int
    origin: Origin = dataclasses.field(repr=False, compare=False)
    purpose: CellPurpose = "arm"
    index: int = 0

    def build(self) -> BuiltCell:
        """Make the environment and the players of every stage, and the population.

        What no stage changes is one object in all of them.

        Raises:
            ScenarioError: unknown names, wrong values, roles that the environment has not.
        """
        problems: list[Problem] = []

        def made(shelf: RegistryName, asked: Mapping[str, Any], origin: Origin, *path: str) -> Any:
            try:
                return make_component(shelf, asked, path, origin)
            except ScenarioError as error:
                problems.extend(error.problems)

        people = None
        if self.population is not None:
            people = made("population", self.population, self.origin, "population")
        usual = {
            role: made("policy", asked, self.origin, "policies", role)
            for role, asked in self.policies.items()
        }
        usual_game = made("environment", self.env, self.origin, "env")
        usual_baseline = {} if usual_game is None else usual_game.default_policies()
        stages: list[BuiltStage] = []
        taught: dict[str, Policy] = {}  # who learned so far and was not asked for, by role
        for number, stage in enumerate(self.stages):
            try:
                asked = self.stage_spec(number)
            except ScenarioError as error:
                problems.extend(error.problems)
                continue
            game = usual_game
            if stage.env:
                game = made("environment", asked.env, asked.origin, "env")
            elif stage.loop == "fit_offline":
                game = _dataset_environment(stages, stage) or usual_game
            players = {
                role: usual[role]
                if parameters == self.policies.get(role)
                else made("policy", parameters, asked.origin, "policies", role)
                for role, parameters in asked.policies.items()
            }
            if game is not None:
                problems.extend(self._unknown_role_problems(game))
                seated = {r: p for r, p in players.items() if r in {x.name for x in game.roles}}
                rounds = self.rounds if stage.rounds is None else stage.rounds
                there = usual_baseline if game is usual_game else game.default_policies()
                there = {**continuing_policies(game, there, taught), **seated}
                stages.append(BuiltStage(stage, rounds, game, there))
                unasked = there.keys() - seated.keys()
                taught |= {
                    r: there[r] for r in unasked & set(stage.roles_to_train) if there[r].places
                }
        if problems:
            raise ScenarioError(list(dict.fromkeys(problems)))
        return BuiltCell(tuple(stages), people)

    def stage_spec(self, stage_index: int) -> StageSpec:
        """What is to be made for a stage: its environment and players by kind.

        Raises:
            ScenarioError: the stage changes something that is not there.
        """
        return apply_stage_overrides(
            self.env, self.policies, self.origin, self.stages[stage_index], stage_index
        )

    def environment_specs(self) -> list[tuple[Mapping[str, Any], Origin]]:
        """The parameters of the environment where stages differ, and where they stand.

        Raises:
            ScenarioError: a stage changes something that is not there.
        """
        changed = [number for number, stage in enumerate(self.stages) if stage.env]
        usual = [(self.env, self.origin)] if len(changed) < len(self.stages) else []
        asked = [self.stage_spec(number) for number in changed]
        return [*usual, *((one.env, one.origin) for one in asked)]

    def _unknown_role_problems(self, environment: Environment[Any]) -> list[Problem]:
        """Players for roles that the environment does not have."""
        roles = [role.name for role in environment.roles]
        if any(stage.env for stage in self.stages):
            return []  # another stage may have the role
        return [
            unknown_role_problem(role, roles, self) for role in self.policies if role not in roles
        ]


def _dataset_stage_indices(earlier_stages: Sequence[BuiltStage], fit_stage: Stage) -> list[int]:
    """Numbers of those stages before it whose record a stage of `fit_stage` learns from."""
    return [
        number
        for number, (stage, *_) in enumerate(earlier_stages)
        if stage.loop != "fit_offline"
        and (not fit_stage.dataset_stages or stage.name in fit_stage.dataset_stages)
    ]


def _dataset_environment(
    earlier_stages: Sequence[BuiltStage], fit_stage: Stage
) -> Environment[Any] | None:
    """The environment of the record that a stage learns from: the last that has its roles."""
    for number in reversed(_dataset_stage_indices(earlier_stages, fit_stage)):
        game = earlier_stages[number].environment
        if set(fit_stage.roles_to_train) <= {role.name for role in game.roles}:
            return game
    return None


def unknown_role_problem(
    role: str, roles: list[str], cell: Cell, source_path: KeyPath = ()
) -> Problem:
    """A player is named for a role that the environment has not; by a stage, where it stands."""
    near = did_you_mean(printable(role), roles)
    message = f"{cell.env['kind']} has no such role{near}"
    if source_path:
        return Problem(
            cell.origin.source_map.key_location(source_path), source_path, message, "unknown_name"
        )
    return cell.origin.problem(("policies", role), message, True, code="unknown_name")


def make_component(
    registry: RegistryName, spec: Mapping[str, Any], path: KeyPath, origin: Origin
) -> Any:
    """The object that a `kind` and its parameters describe.

    Parameters are checked as JSON, where strictness is that of a file: see `mores.experiments.scenario.loading`.

    Raises:
        ScenarioError: an unknown kind or parameter, or a wrong value.
    """
    kind = spec["kind"]
    parameters = {name: value for name, value in spec.items() if name != "kind"}
    try:
        chosen = class_of(registry, kind)
    except UserError as error:
        found = origin.problem((*path, "kind"), str(error), code=error.code)
        raise ScenarioError([found]) from None
    except ImportError as error:
        message = f"{printable(kind)} cannot be imported: {printable(error)}"
        found = origin.problem((*path, "kind"), message, code="not_installed")
        raise ScenarioError([found]) from None
    try:
        if issubclass(chosen, BaseModel):
            return chosen.model_validate_json(json.dumps(parameters), strict=True)
        return chosen(**parameters)  # a population need not be a pydantic class
    except ValidationError as error:
        found = problems_from_error(
            error,
            chosen,
            parameters,
            origin.source_map,
            prefix=path,
            source_paths=origin.source_paths,
            unknown_key_message=f"{kind} has no such parameter",
        )
        raise ScenarioError(found) from None
    except (UserError, TypeError) as error:
        if isinstance(error, TypeError) and issubclass(chosen, BaseModel):
            raise  # a defect of the class
        code = error.code if isinstance(error, UserError) else "failed"
        raise ScenarioError([origin.problem(path, printable(error, 300), code=code)]) from None


def cell_id(arm: str, point: Mapping[str, Any], digest: bool = False) -> str:
    """A folder's name: readable, safe everywhere, with a digest where something had to go."""
    texts = [f"{path}={_value_label(value)}" for path, value in point.items()]
    name = f"{arm}__{','.join(texts)}" if point else arm
    digest = digest or any(isinstance(value, dict) and len(value) > 1 for value in point.values())
    safe = re.sub(r"[^A-Za-z0-9._=,+-]", "_", name)
    if safe == name and len(safe) <= MAX_ID_LENGTH and not digest:
        return safe
    mark = hashlib.blake2b(json.dumps([arm, point]).encode(), digest_size=4).hexdigest()
    return f"{safe[: MAX_ID_LENGTH - 9]}-{mark}"


def _value_label(value: Any) -> str:
    """A swept value in a folder's name; of a part with parameters its kind."""
    if isinstance(value, dict) and "kind" in value:
        return str(value["kind"])
    return value if isinstance(value, str) else json.dumps(value)
