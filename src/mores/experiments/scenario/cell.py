"""A cell: one arm at one point of the sweep, with everything it takes to make its objects."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ValidationError

from mores.core.environment import Game, Player
from mores.core.errors import UserError, did_you_mean
from mores.experiments.scenario.overrides import Asked, Origin, in_stage
from mores.experiments.scenario.source_locations import Path, Problem, ScenarioError, shown
from mores.experiments.scenario.stages import Stage
from mores.experiments.scenario.validation_problems import problems_of
from mores.registry import Shelf, class_of
from mores.sim.policy_states import going_on
from mores.sim.simulator import Population

Purpose = Literal["arm", "draw", "design"]
LONGEST_ID = 80  # characters of a folder's name


class Staged(NamedTuple):
    """A stage of a cell: its environment, and who plays in it."""

    stage: Stage
    rounds: int
    game: Game[Any]
    players: dict[str, Player]


@dataclasses.dataclass(frozen=True)
class Built:
    """The objects of a cell: what is played stage by stage, where the people come from."""

    stages: tuple[Staged, ...]
    population: Population | None

    @property
    def game(self) -> Game[Any]:
        """The environment of the last stage."""
        return self.stages[-1].game

    @property
    def players(self) -> dict[str, Player]:
        """Who plays in the last stage."""
        return self.stages[-1].players

    def record_of(self, number: int) -> list[int]:
        """Numbers of the stages whose record is learned from in a stage of `fit`."""
        return _record_of(self.stages[:number], self.stages[number].stage)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One arm at one point of the sweep.

    Attributes:
        id: name of its folder.
        arm: name of the arm; `main` where there are none.
        point: dotted paths and their values here: of the sweep, or uncertain parameters drawn.
        env: `kind` and parameters of the environment.
        people: of the population, or `None` for the environment's own people.
        players: by role; roles not named get the environment's baseline.
        stages: what is played, one after another.
        rounds: of an episode, where a stage does not say.
        purpose: arm: what the scenario is about; draw: the same at a draw of uncertain
            parameters; design: at a point of a sensitivity analysis.
        number: of the draw or point.
    """

    id: str
    arm: str
    point: Mapping[str, Any]
    env: Mapping[str, Any]
    people: Mapping[str, Any] | None
    players: Mapping[str, Mapping[str, Any]]
    stages: tuple[Stage, ...]
    rounds: int
    origin: Origin = dataclasses.field(repr=False, compare=False)
    purpose: Purpose = "arm"
    number: int = 0

    def build(self) -> Built:
        """Make the environment and the players of every stage, and the population.

        What no stage changes is one object in all of them.

        Raises:
            ScenarioError: unknown names, wrong values, roles that the environment has not.
        """
        problems: list[Problem] = []

        def made(shelf: Shelf, asked: Mapping[str, Any], origin: Origin, *path: str) -> Any:
            try:
                return make_part(shelf, asked, path, origin)
            except ScenarioError as error:
                problems.extend(error.problems)

        people = None
        if self.people is not None:
            people = made("population", self.people, self.origin, "people")
        usual = {
            role: made("player", asked, self.origin, "players", role)
            for role, asked in self.players.items()
        }
        usual_game = made("environment", self.env, self.origin, "env")
        usual_baseline = {} if usual_game is None else usual_game.baseline()
        stages: list[Staged] = []
        taught: dict[str, Player] = {}  # who learned so far and was not asked for, by role
        for number, stage in enumerate(self.stages):
            try:
                asked = self.asked(number)
            except ScenarioError as error:
                problems.extend(error.problems)
                continue
            game = usual_game
            if stage.env:
                game = made("environment", asked.env, asked.origin, "env")
            elif stage.loop == "fit":
                game = _recorded(stages, stage) or usual_game
            players = {
                role: usual[role]
                if parameters == self.players.get(role)
                else made("player", parameters, asked.origin, "players", role)
                for role, parameters in asked.players.items()
            }
            if game is not None:
                problems.extend(self._unseated(game))
                seated = {r: p for r, p in players.items() if r in {x.name for x in game.roles}}
                rounds = self.rounds if stage.rounds is None else stage.rounds
                there = usual_baseline if game is usual_game else game.baseline()
                there = {**going_on(game, there, taught), **seated}
                stages.append(Staged(stage, rounds, game, there))
                unasked = there.keys() - seated.keys()
                taught |= {r: there[r] for r in unasked & set(stage.learn) if there[r].places}
        if problems:
            raise ScenarioError(list(dict.fromkeys(problems)))
        return Built(tuple(stages), people)

    def asked(self, number: int) -> Asked:
        """What is to be made for a stage: its environment and players by kind.

        Raises:
            ScenarioError: the stage changes something that is not there.
        """
        return in_stage(self.env, self.players, self.origin, self.stages[number], number)

    def environments(self) -> list[tuple[Mapping[str, Any], Origin]]:
        """The parameters of the environment where stages differ, and where they stand.

        Raises:
            ScenarioError: a stage changes something that is not there.
        """
        changed = [number for number, stage in enumerate(self.stages) if stage.env]
        usual = [(self.env, self.origin)] if len(changed) < len(self.stages) else []
        asked = [self.asked(number) for number in changed]
        return [*usual, *((one.env, one.origin) for one in asked)]

    def _unseated(self, game: Game[Any]) -> list[Problem]:
        """Players for roles that the environment does not have."""
        roles = [role.name for role in game.roles]
        if any(stage.env for stage in self.stages):
            return []  # another stage may have the role
        return [no_such_role(role, roles, self) for role in self.players if role not in roles]


def _record_of(before: Sequence[Staged], fit: Stage) -> list[int]:
    """Numbers of those stages before it whose record a stage of `fit` learns from."""
    return [
        number
        for number, (stage, *_) in enumerate(before)
        if stage.loop != "fit" and (not fit.record or stage.name in fit.record)
    ]


def _recorded(before: Sequence[Staged], fit: Stage) -> Game[Any] | None:
    """The environment of the record that a stage learns from: the last that has its roles."""
    for number in reversed(_record_of(before, fit)):
        game = before[number].game
        if set(fit.learn) <= {role.name for role in game.roles}:
            return game
    return None


def no_such_role(role: str, roles: list[str], cell: Cell, stands: Path = ()) -> Problem:
    """A player is named for a role that the environment has not; by a stage, where it stands."""
    near = did_you_mean(shown(role), roles)
    message = f"{cell.env['kind']} has no such role{near}"
    if stands:
        return Problem(cell.origin.places.key(stands), stands, message, "unknown_name")
    return cell.origin.problem(("players", role), message, True, code="unknown_name")


def make_part(shelf: Shelf, asked: Mapping[str, Any], path: Path, origin: Origin) -> Any:
    """The object that a `kind` and its parameters describe.

    Parameters are checked as JSON, where strictness is that of a file: see `mores.experiments.scenario.loading`.

    Raises:
        ScenarioError: an unknown kind or parameter, or a wrong value.
    """
    kind = asked["kind"]
    parameters = {name: value for name, value in asked.items() if name != "kind"}
    try:
        chosen = class_of(shelf, kind)
    except UserError as error:
        found = origin.problem((*path, "kind"), str(error), code=error.code)
        raise ScenarioError([found]) from None
    except ImportError as error:
        message = f"{shown(kind)} cannot be imported: {shown(error)}"
        found = origin.problem((*path, "kind"), message, code="not_installed")
        raise ScenarioError([found]) from None
    try:
        if issubclass(chosen, BaseModel):
            return chosen.model_validate_json(json.dumps(parameters), strict=True)
        return chosen(**parameters)  # a population need not be a pydantic class
    except ValidationError as error:
        found = problems_of(
            error,
            chosen,
            parameters,
            origin.places,
            below=path,
            place_of=origin.paths,
            unknown=f"{kind} has no such parameter",
        )
        raise ScenarioError(found) from None
    except (UserError, TypeError) as error:
        if isinstance(error, TypeError) and issubclass(chosen, BaseModel):
            raise  # a defect of the class
        code = error.code if isinstance(error, UserError) else "failed"
        raise ScenarioError([origin.problem(path, shown(error, 300), code=code)]) from None


def cell_id(arm: str, point: Mapping[str, Any], digest: bool = False) -> str:
    """A folder's name: readable, safe everywhere, with a digest where something had to go."""
    texts = [f"{path}={_word(value)}" for path, value in point.items()]
    name = f"{arm}__{','.join(texts)}" if point else arm
    digest = digest or any(isinstance(value, dict) and len(value) > 1 for value in point.values())
    safe = re.sub(r"[^A-Za-z0-9._=,+-]", "_", name)
    if safe == name and len(safe) <= LONGEST_ID and not digest:
        return safe
    mark = hashlib.blake2b(json.dumps([arm, point]).encode(), digest_size=4).hexdigest()
    return f"{safe[: LONGEST_ID - 9]}-{mark}"


def _word(value: Any) -> str:
    """A swept value in a folder's name; of a part with parameters its kind."""
    if isinstance(value, dict) and "kind" in value:
        return str(value["kind"])
    return value if isinstance(value, str) else json.dumps(value)
