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
    KeyPath,
    Problem,
    ScenarioError,
    SourceMap,
    describe_value,
    format_path,
    printable,
)
from mores.experiments.scenario.stages import Stage
from mores.experiments.scenario.validation_problems import to_source_path


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where the parameters of a cell stand in the file.

    Attributes:
        source_map: of the file.
        source_paths: by path in the cell, the path in the file, where arms and sweeps changed it.
    """

    source_map: SourceMap
    source_paths: Mapping[KeyPath, KeyPath]

    def problem(self, path: KeyPath, message: str, at_key: bool = False, *, code: str) -> Problem:
        """A problem with what stands at a path of the cell."""
        where = to_source_path(path, self.source_paths)
        place = (
            self.source_map.key_location(where) if at_key else self.source_map.value_location(where)
        )
        return Problem(place, where, message, code)

    def component_problem(self, path: KeyPath, message: str, *, code: str) -> Problem:
        """A problem with a part: where an arm, the sweep or a stage changed it last, if they did.

        Else where the part itself stands.
        """
        changed = [where for put, where in self.source_paths.items() if put[: len(path)] == path]
        if not changed:
            return self.problem(path, message, code=code)
        return Problem(self.source_map.value_location(changed[-1]), changed[-1], message, code)


class StageSpec(NamedTuple):
    """What is to be made for a stage: environment and players by kind, where they stand."""

    env: dict[str, Any]
    policies: dict[str, Any]
    origin: Origin


def set_at_path(cell_spec: dict[str, Any], path: tuple[str, ...], value: Any) -> KeyPath:
    """Put a value at a path; a part with a `kind` may be replaced whole, or left out by null.

    Returns:
        The path, with the entries of lists as numbers.

    Raises:
        ParameterError: the path leads nowhere, or something else must stand there.
    """
    value = copy.deepcopy(value)
    start = 2 if path[0] == "policies" else 1
    if len(path) == start:
        holder = cell_spec["policies"] if path[0] == "policies" else cell_spec
        if value is None and path[0] != "env":
            if path[0] == "policies":
                holder.pop(path[1], None)
            else:
                holder["population"] = None
            return path
        if not (isinstance(value, dict) and isinstance(value.get("kind"), str)):
            message = f"must be a mapping with a kind, {{kind: ...}}, not {describe_value(value)}"
            raise ParameterError(message=message, code="wrong_type")
        holder[path[-1]] = value
        return path
    node = cell_spec[path[0]].get(path[1]) if path[0] == "policies" else cell_spec[path[0]]
    if node is None:
        part = format_path(path[:start])
        message = f"there is no {part} to change: give {part} a kind first"
        raise ParameterError(message=message, code="missing")
    if path[start:] == ("kind",) and not isinstance(value, str):
        raise ParameterError(
            message=f"must be a name, not {describe_value(value)}", code="wrong_type"
        )
    return (*path[:start], *_set_below(node, path[start:], value))


def _set_below(node: Any, path: tuple[str, ...], value: Any) -> tuple[str | int, ...]:
    """Put a value somewhere below a mapping or a list."""
    part: Any = path[0]
    if isinstance(node, list):
        if part not in map(str, range(len(node))):
            many = f"a list with the entries 0 to {len(node) - 1}" if node else "an empty list"
            message = f"{many} has no {printable(part, 40)!r}"
            raise ParameterError(message=message, code="unknown_name")
        part = int(part)
    if len(path) == 1:
        node[part] = value
        return (part,)
    below = node.setdefault(part, {}) if isinstance(node, dict) else node[part]
    if not isinstance(below, (dict, list)):
        message = f"{printable(part)} is {describe_value(below)}: it has no parts"
        raise ParameterError(message=message, code="wrong_type")
    return (part, *_set_below(below, path[1:], value))


def apply_stage_overrides(
    env: Mapping[str, Any],
    policies: Mapping[str, Any],
    origin: Origin,
    stage: Stage,
    stage_index: int,
) -> StageSpec:
    """What a cell has in a stage.

    Args:
        env, policies: what it has where a stage changes nothing.
        origin: where that stands.
        stage: the stage.
        stage_index: of it.

    Raises:
        ScenarioError: the stage changes something that is not there.
    """
    whole = {"env": copy.deepcopy(dict(env)), "policies": copy.deepcopy(dict(policies))}
    paths, problems = dict(origin.source_paths), []
    for section, changes in (("env", stage.env), ("policies", stage.policies)):
        # a whole part first, then what is changed in it
        for path, value in sorted(changes.items(), key=lambda change: change[0].count(".")):
            stands: KeyPath = ("stages", stage_index, section, path)
            way = tuple(path.split("."))
            if way[0] != section or len(way) < 2 or not all(way):
                message = _WRONG_PREFIX_MESSAGES[section].format(_suggested_path(path, section))
                place = origin.source_map.key_location(stands)
                problems.append(Problem(place, stands, message, "invalid_value"))
                continue
            try:
                there = set_at_path(whole, way, value)
            except ParameterError as error:
                place = origin.source_map.key_location(stands)
                problems.append(Problem(place, stands, str(error), error.code))
                continue
            for below in [known for known in paths if known[: len(there)] == there]:
                del paths[below]
            paths[there] = stands
    if problems:
        raise ScenarioError(problems)
    return StageSpec(whole["env"], whole["policies"], Origin(origin.source_map, paths))


_WRONG_PREFIX_MESSAGES = {
    "env": "a stage changes parameters of the environment: write env.{}",
    "policies": "a stage changes players, or parameters of one: write players.{}",
}


def _suggested_path(path: str, section: str) -> str:
    """What may have been meant by a path that does not begin as it should."""
    rest = path.removeprefix(section).strip(".")
    return printable(rest, 60) or {"env": "NAME", "policies": "ROLE"}[section]


def role_of_path(path: str) -> str | None:
    """The role whose player a path of a stage changes; None where it names none."""
    way = path.split(".")
    return way[1] if way[0] == "policies" and len(way) > 1 else None


def without_role_overrides(stage: Stage, roles: Collection[str]) -> Stage:
    """The stage where the players of these roles stay who they are."""
    left = {
        path: value for path, value in stage.policies.items() if role_of_path(path) not in roles
    }
    return (
        stage if len(left) == len(stage.policies) else stage.model_copy(update={"policies": left})
    )
