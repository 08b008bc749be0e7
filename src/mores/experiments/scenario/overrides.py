"""Overrides: values at dotted paths of a cell's components, set by arms, sweeps and stages.

The overrides of a stage apply after those of arms and sweeps, with one exception: a policy that
an arm sets whole (`policies.assistant: {kind: silent}`) applies to all stages of that arm.
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
    """Source locations of the parameters of a cell.

    Attributes:
        source_map: source map of the file.
        source_paths: path in the file by path in the cell, for values set by overrides.
    """

    source_map: SourceMap
    source_paths: Mapping[KeyPath, KeyPath]

    def problem(self, path: KeyPath, message: str, at_key: bool = False, *, code: str) -> Problem:
        """A problem with the value, or with the key, at a path of the cell."""
        source_path = to_source_path(path, self.source_paths)
        locate = self.source_map.key_location if at_key else self.source_map.value_location
        return Problem(locate(source_path), source_path, message, code)

    def component_problem(self, path: KeyPath, message: str, *, code: str) -> Problem:
        """A problem with a component, at its last override if it has one, else at its value."""
        changed = [source for key, source in self.source_paths.items() if key[: len(path)] == path]
        if not changed:
            return self.problem(path, message, code=code)
        return Problem(self.source_map.value_location(changed[-1]), changed[-1], message, code)


class StageSpec(NamedTuple):
    """Environment and policies of a stage, as `kind` and parameters, and their origin."""

    env: dict[str, Any]
    policies: dict[str, Any]
    origin: Origin


def set_at_path(cell_spec: dict[str, Any], path: tuple[str, ...], value: Any) -> KeyPath:
    """Set a value at a path. A component may be replaced whole; null removes it.

    Returns:
        The path, with list indices as numbers.

    Raises:
        ParameterError: the path does not exist, or the value has the wrong type.
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
        message = f"there is no {part} to change: set the kind of {part} first"
        raise ParameterError(message=message, code="missing")
    if path[start:] == ("kind",) and not isinstance(value, str):
        raise ParameterError(
            message=f"must be a name, not {describe_value(value)}", code="wrong_type"
        )
    return (*path[:start], *_set_below(node, path[start:], value))


def _set_below(node: Any, path: tuple[str, ...], value: Any) -> tuple[str | int, ...]:
    """Set a value below a mapping or a list, and return its path."""
    part: Any = path[0]
    if isinstance(node, list):
        if part not in map(str, range(len(node))):
            kind = f"a list with entries 0 to {len(node) - 1}" if node else "an empty list"
            message = f"{kind} has no entry {printable(part, 40)!r}"
            raise ParameterError(message=message, code="unknown_name")
        part = int(part)
    if len(path) == 1:
        node[part] = value
        return (part,)
    below = node.setdefault(part, {}) if isinstance(node, dict) else node[part]
    if not isinstance(below, (dict, list)):
        message = f"{printable(part)} is {describe_value(below)}, which has no parts"
        raise ParameterError(message=message, code="wrong_type")
    return (part, *_set_below(below, path[1:], value))


def apply_stage_overrides(
    env: Mapping[str, Any],
    policies: Mapping[str, Any],
    origin: Origin,
    stage: Stage,
    stage_index: int,
) -> StageSpec:
    """Specification of a stage of a cell.

    Args:
        env, policies: specification of the cell.
        origin: its origin.
        stage: the stage.
        stage_index: index of the stage.

    Raises:
        ScenarioError: the stage overrides a parameter that does not exist.
    """
    cell_spec = {"env": copy.deepcopy(dict(env)), "policies": copy.deepcopy(dict(policies))}
    source_paths, problems = dict(origin.source_paths), []
    for section, overrides in (("env", stage.env), ("policies", stage.policies)):
        # a whole component before the parameters in it
        for dotted, value in sorted(overrides.items(), key=lambda item: item[0].count(".")):
            source_path: KeyPath = ("stages", stage_index, section, dotted)
            parts = tuple(dotted.split("."))
            location = origin.source_map.key_location(source_path)
            if parts[0] != section or len(parts) < 2 or not all(parts):
                message = _WRONG_PREFIX_MESSAGES[section].format(_suggested_path(dotted, section))
                problems.append(Problem(location, source_path, message, "invalid_value"))
                continue
            try:
                path = set_at_path(cell_spec, parts, value)
            except ParameterError as error:
                problems.append(Problem(location, source_path, str(error), error.code))
                continue
            for below in [known for known in source_paths if known[: len(path)] == path]:
                del source_paths[below]
            source_paths[path] = source_path
    if problems:
        raise ScenarioError(problems)
    stage_origin = Origin(origin.source_map, source_paths)
    return StageSpec(cell_spec["env"], cell_spec["policies"], stage_origin)


_WRONG_PREFIX_MESSAGES = {
    "env": "a stage changes parameters of the environment: write env.{}",
    "policies": "a stage changes policies or their parameters: write policies.{}",
}


def _suggested_path(path: str, section: str) -> str:
    """The intended rest of a path without the right first part."""
    rest = path.removeprefix(section).strip(".")
    return printable(rest, 60) or {"env": "NAME", "policies": "ROLE"}[section]


def role_of_path(path: str) -> str | None:
    """The role whose policy a path of a stage overrides. None for other paths."""
    parts = path.split(".")
    return parts[1] if parts[0] == "policies" and len(parts) > 1 else None


def without_role_overrides(stage: Stage, roles: Collection[str]) -> Stage:
    """The stage without overrides of the policies of these roles."""
    policies = {
        path: value for path, value in stage.policies.items() if role_of_path(path) not in roles
    }
    changed = len(policies) < len(stage.policies)
    return stage.model_copy(update={"policies": policies}) if changed else stage
