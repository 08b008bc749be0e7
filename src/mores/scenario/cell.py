"""A cell: one arm at one point of the sweep, with everything it takes to make its objects."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from mores.errors import UserError, did_you_mean
from mores.game import Game, Player
from mores.registry import Shelf, class_of
from mores.scenario.complaints import in_file, problems_of
from mores.scenario.places import Path, Places, Problem, ScenarioError, shown
from mores.table import Population

LONGEST_ID = 80  # characters of a folder's name


class Built(NamedTuple):
    """The objects of a cell: an environment, who plays in it, where the people come from."""

    game: Game[Any]
    players: dict[str, Player]
    population: Population | None


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
        point: the sweep's dotted paths and their values here.
        env: `kind` and parameters of the environment.
        people: of the population, or `None` for the environment's own people.
        players: by role; roles not named get the environment's baseline.
        rounds: of an episode.
    """

    id: str
    arm: str
    point: Mapping[str, Any]
    env: Mapping[str, Any]
    people: Mapping[str, Any] | None
    players: Mapping[str, Mapping[str, Any]]
    rounds: int
    origin: Origin = dataclasses.field(repr=False, compare=False)

    def build(self) -> Built:
        """Make the environment, its players and its population.

        Raises:
            ScenarioError: unknown names, wrong values, roles that the environment has not.
        """
        problems: list[Problem] = []

        def made(shelf: Shelf, asked: Mapping[str, Any], *path: str) -> Any:
            try:
                return make_part(shelf, asked, path, self.origin)
            except ScenarioError as error:
                problems.extend(error.problems)

        game = made("environment", self.env, "env")
        people = None if self.people is None else made("population", self.people, "people")
        players = {r: made("player", asked, "players", r) for r, asked in self.players.items()}
        if game is not None:
            roles = [role.name for role in game.roles]
            for role in players.keys() - set(roles):
                problems.append(no_such_role(role, roles, self))
        if problems or game is None:
            raise ScenarioError(problems)
        return Built(game, {**game.baseline(), **players}, people)


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
