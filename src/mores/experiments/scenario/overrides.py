"""Putting values at dotted paths into what a cell is made of: by arms and sweeps, and by stages.

A stage changes what the cell has once arms and sweeps were put in, with one exception: a player
that an arm names whole (`players.assistant: {kind: silent}`) stays that arm's in every stage.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from mores.core.errors import ParameterError
from mores.experiments.scenario.source_locations import (
    Path,
    Places,
    Problem,
    ScenarioError,
    dotted,
    said,
    shown,
)
from mores.experiments.scenario.stages import Stage
from mores.experiments.scenario.validation_problems import in_file


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where the parameters of a cell stand in the file.

    Attributes:
        places: of the file.
        paths: by path in the cell, the path in the file, where arms and sweeps changed it.
    """

    places: Places
    paths: Mapping[Path, Path]

    def problem(self, path: Path, message: str, key: bool = False, *, code: str) -> Problem:
        """A problem with what stands at a path of the cell."""
        where = in_file(path, self.paths)
        place = self.places.key(where) if key else self.places.value(where)
        return Problem(place, where, message, code)

    def part(self, path: Path, message: str, *, code: str) -> Problem:
        """A problem with a part: where an arm, the sweep or a stage changed it last, if they did.

        Else where the part itself stands.
        """
        changed = [where for put, where in self.paths.items() if put[: len(path)] == path]
        if not changed:
            return self.problem(path, message, code=code)
        return Problem(self.places.value(changed[-1]), changed[-1], message, code)


class Asked(NamedTuple):
    """What is to be made for a stage: environment and players by kind, where they stand."""

    env: dict[str, Any]
    players: dict[str, Any]
    origin: Origin


def put(whole: dict[str, Any], path: tuple[str, ...], value: Any) -> Path:
    """Put a value at a path; a part with a `kind` may be replaced whole, or left out by null.

    Returns:
        The path, with the entries of lists as numbers.

    Raises:
        ParameterError: the path leads nowhere, or something else must stand there.
    """
    value = copy.deepcopy(value)
    start = 2 if path[0] == "players" else 1
    if len(path) == start:
        holder = whole["players"] if path[0] == "players" else whole
        if value is None and path[0] != "env":
            if path[0] == "players":
                holder.pop(path[1], None)
            else:
                holder["people"] = None
            return path
        if not (isinstance(value, dict) and isinstance(value.get("kind"), str)):
            message = f"must be a mapping with a kind, {{kind: ...}}, not {said(value)}"
            raise ParameterError(message=message, code="wrong_type")
        holder[path[-1]] = value
        return path
    node = whole[path[0]].get(path[1]) if path[0] == "players" else whole[path[0]]
    if node is None:
        part = dotted(path[:start])
        message = f"there is no {part} to change: give {part} a kind first"
        raise ParameterError(message=message, code="missing")
    if path[start:] == ("kind",) and not isinstance(value, str):
        raise ParameterError(message=f"must be a name, not {said(value)}", code="wrong_type")
    return (*path[:start], *_put_below(node, path[start:], value))


def _put_below(node: Any, path: tuple[str, ...], value: Any) -> tuple[str | int, ...]:
    """Put a value somewhere below a mapping or a list."""
    part: Any = path[0]
    if isinstance(node, list):
        if part not in map(str, range(len(node))):
            many = f"a list with the entries 0 to {len(node) - 1}" if node else "an empty list"
            message = f"{many} has no {shown(part, 40)!r}"
            raise ParameterError(message=message, code="unknown_name")
        part = int(part)
    if len(path) == 1:
        node[part] = value
        return (part,)
    below = node.setdefault(part, {}) if isinstance(node, dict) else node[part]
    if not isinstance(below, (dict, list)):
        message = f"{shown(part)} is {said(below)}: it has no parts"
        raise ParameterError(message=message, code="wrong_type")
    return (part, *_put_below(below, path[1:], value))


def in_stage(
    env: Mapping[str, Any],
    players: Mapping[str, Any],
    origin: Origin,
    stage: Stage,
    number: int,
) -> Asked:
    """What a cell has in a stage.

    Args:
        env, players: what it has where a stage changes nothing.
        origin: where that stands.
        stage: the stage.
        number: of it.

    Raises:
        ScenarioError: the stage changes something that is not there.
    """
    whole = {"env": copy.deepcopy(dict(env)), "players": copy.deepcopy(dict(players))}
    paths, problems = dict(origin.paths), []
    for section, changes in (("env", stage.env), ("players", stage.players)):
        # a whole part first, then what is changed in it
        for path, value in sorted(changes.items(), key=lambda change: change[0].count(".")):
            stands: Path = ("stages", number, section, path)
            way = tuple(path.split("."))
            if way[0] != section or len(way) < 2 or not all(way):
                message = _WRONG_WAY[section].format(_without(path, section))
                place = origin.places.key(stands)
                problems.append(Problem(place, stands, message, "invalid_value"))
                continue
            try:
                there = put(whole, way, value)
            except ParameterError as error:
                place = origin.places.key(stands)
                problems.append(Problem(place, stands, str(error), error.code))
                continue
            for below in [known for known in paths if known[: len(there)] == there]:
                del paths[below]
            paths[there] = stands
    if problems:
        raise ScenarioError(problems)
    return Asked(whole["env"], whole["players"], Origin(origin.places, paths))


_WRONG_WAY = {
    "env": "a stage changes parameters of the environment: write env.{}",
    "players": "a stage changes players, or parameters of one: write players.{}",
}


def _without(path: str, section: str) -> str:
    """What may have been meant by a path that does not begin as it should."""
    rest = path.removeprefix(section).strip(".")
    return shown(rest, 60) or {"env": "NAME", "players": "ROLE"}[section]


def role_in(path: str) -> str | None:
    """The role whose player a path of a stage changes; None where it names none."""
    way = path.split(".")
    return way[1] if way[0] == "players" and len(way) > 1 else None


def keeping(stage: Stage, roles: Collection[str]) -> Stage:
    """The stage where the players of these roles stay who they are."""
    left = {path: value for path, value in stage.players.items() if role_in(path) not in roles}
    return stage if len(left) == len(stage.players) else stage.model_copy(update={"players": left})
