"""A cell: one arm at one point of the sweep, with everything it takes to make its objects."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ValidationError

from mores.errors import UserError, did_you_mean
from mores.game import Game, Player
from mores.registry import Shelf, class_of
from mores.scenario.complaints import in_file, problems_of
from mores.scenario.design import Stage
from mores.scenario.places import Path, Places, Problem, ScenarioError, shown
from mores.table import Population

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


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where the parameters of a cell stand in the file.

    Attributes:
        places: of the file.
        paths: by path in the cell, the path in the file, where arms and sweeps changed it.
    """

    places: Places
    paths: Mapping[Path, Path]

    def problem(self, path: Path, message: str, key: bool = False) -> Problem:
        """A problem with what stands at a path of the cell."""
        where = in_file(path, self.paths)
        place = self.places.key(where) if key else self.places.value(where)
        return Problem(place, where, message)


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
        """Make the environment of every stage, the players and the population.

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
        players = {
            role: made("player", asked, self.origin, "players", role)
            for role, asked in self.players.items()
        }
        stages = []
        usual = made("environment", self.env, self.origin, "env")
        for number, stage in enumerate(self.stages):
            game = usual
            if stage.env:
                try:
                    game = made("environment", *self._env_in(number), "env")
                except ScenarioError as error:
                    problems.extend(error.problems)
            if game is not None:
                problems.extend(self._unseated(game))
                seated = {r: p for r, p in players.items() if r in {x.name for x in game.roles}}
                rounds = self.rounds if stage.rounds is None else stage.rounds
                stages.append(Staged(stage, rounds, game, {**game.baseline(), **seated}))
        if problems:
            raise ScenarioError(list(dict.fromkeys(problems)))
        return Built(tuple(stages), people)

    def environments(self) -> list[tuple[Mapping[str, Any], Origin]]:
        """The parameters of the environment where stages differ, and where they stand.

        Raises:
            ScenarioError: a stage changes something that is not there.
        """
        changed = [number for number, stage in enumerate(self.stages) if stage.env]
        usual = [(self.env, self.origin)] if len(changed) < len(self.stages) else []
        return [*usual, *(self._env_in(number) for number in changed)]

    def _unseated(self, game: Game[Any]) -> list[Problem]:
        """Players for roles that the environment does not have."""
        roles = [role.name for role in game.roles]
        if any(stage.env for stage in self.stages):
            return []  # another stage may have the role
        return [no_such_role(role, roles, self) for role in self.players if role not in roles]

    def _env_in(self, number: int) -> tuple[Mapping[str, Any], Origin]:
        """The environment's parameters in a stage, and where they stand in the file."""
        env, paths, problems = copy.deepcopy(dict(self.env)), dict(self.origin.paths), []
        for path, value in sorted(self.stages[number].env.items(), key=lambda p: p[0].count(".")):
            stands: Path = ("stages", number, "env", path)
            way = tuple(path.split("."))
            if way[0] != "env" or len(way) < 2 or not all(way):
                message = (
                    f"a stage changes parameters of the environment: write env.{shown(path, 60)}"
                )
                problems.append(Problem(self.origin.places.key(stands), stands, message))
                continue
            node: Any = env
            for part in way[1:-1]:
                node = node.setdefault(part, {}) if isinstance(node, dict) else node
            if not isinstance(node, dict):
                message = f"{shown(way[-2])} has no parts"
                problems.append(Problem(self.origin.places.key(stands), stands, message))
                continue
            node[way[-1]] = copy.deepcopy(value)
            paths[way] = stands
        if problems:
            raise ScenarioError(problems)
        return env, Origin(self.origin.places, paths)


def no_such_role(role: str, roles: list[str], cell: Cell) -> Problem:
    """A player is named for a role that the environment has not."""
    near = did_you_mean(shown(role), roles)
    return cell.origin.problem(
        ("players", role), f"{cell.env['kind']} has no such role{near}", True
    )


def make_part(shelf: Shelf, asked: Mapping[str, Any], path: Path, origin: Origin) -> Any:
    """The object that a `kind` and its parameters describe.

    Parameters are checked as JSON, where strictness is that of a file: see `mores.scenario.load`.

    Raises:
        ScenarioError: an unknown kind or parameter, or a wrong value.
    """
    kind = asked["kind"]
    parameters = {name: value for name, value in asked.items() if name != "kind"}
    try:
        chosen = class_of(shelf, kind)
    except UserError as error:
        raise ScenarioError([origin.problem((*path, "kind"), str(error))]) from None
    except ImportError as error:
        message = f"{shown(kind)} cannot be imported: {shown(error)}"
        raise ScenarioError([origin.problem((*path, "kind"), message)]) from None
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
        raise ScenarioError([origin.problem(path, shown(error, 300))]) from None


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
