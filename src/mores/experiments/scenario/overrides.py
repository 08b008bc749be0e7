"""Overrides: values at dotted paths of a cell's components, set by arms, sweeps and stages.

The overrides of a stage apply after those of arms and sweeps, with one exception: a policy that
an arm sets whole (`policies.assistant: {kind: silent}`) applies to all stages of that arm.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable, Mapping
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
    problem_at_path,
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
        return problem_at_path(self.source_map, message, *source_path, code=code, at_key=at_key)

    def component_problem(self, path: KeyPath, message: str, *, code: str) -> Problem:
        """A problem with a component, at its last override if it has one, else at its value."""
        changed = [source for key, source in self.source_paths.items() if key[: len(path)] == path]
        if not changed:
            return self.problem(path, message, code=code)
        return problem_at_path(self.source_map, message, *changed[-1], code=code)


class Override(NamedTuple):
    """A value for a dotted path of the cell, and the path of its key or list entry in the file."""

    path: str
    value: Any
    source_path: KeyPath


class StageSpec(NamedTuple):
    """Environment and policies of a stage, as `kind` and parameters, and their origin."""

    env: dict[str, Any]
    policies: dict[str, Any]
    origin: Origin


def apply_overrides(
    cell_spec: Mapping[str, Any],
    origin: Origin,
    overrides: Iterable[Override],
    parse_path: Callable[[str], tuple[str, ...]],
) -> tuple[dict[str, Any], Origin]:
    """The specification and origin of a cell after overrides.

    Args:
        cell_spec: `env`, `policies` and perhaps `population`, as `kind` and parameters.
        origin: its origin.
        overrides: in order of application.
        parse_path: the parts of a dotted path; raises `ParameterError`.

    Raises:
        ScenarioError: a path is invalid or does not exist, or a value has the wrong type.
    """
    changed, source_paths = copy.deepcopy(dict(cell_spec)), dict(origin.source_paths)
    problems: list[Problem] = []
    for dotted, value, source_path in overrides:
        place = source_path[:-1] if isinstance(source_path[-1], int) else source_path
        try:
            parts = parse_path(dotted)
            place = source_path
            path = set_at_path(changed, parts, value)
        except ParameterError as error:
            message, source_map = str(error), origin.source_map
            problems.append(
                problem_at_path(source_map, message, *place, code=error.code, at_key=True)
            )
            continue
        for below in [known for known in source_paths if known[: len(path)] == path]:
            del source_paths[below]
        source_paths[path] = source_path
    if problems:
        raise ScenarioError(problems)
    return changed, Origin(origin.source_map, source_paths)


def by_depth(overrides: Iterable[Override]) -> list[Override]:
    """Overrides in order of application: a whole component before the parameters in it."""
    return sorted(overrides, key=lambda override: override.path.count("."))


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
    spec = {"env": env, "policies": policies}
    for section, values in (("env", stage.env), ("policies", stage.policies)):
        overrides = by_depth(
            Override(path, value, ("stages", stage_index, section, path))
            for path, value in values.items()
        )
        parse_path = functools.partial(_parse_stage_path, section)
        spec, origin = apply_overrides(spec, origin, overrides, parse_path)
    return StageSpec(spec["env"], spec["policies"], origin)


def _parse_stage_path(section: str, path: str) -> tuple[str, ...]:
    """The parts of a path that a stage overrides in its section `env` or `policies`."""
    parts = tuple(path.split("."))
    if parts[0] == section and len(parts) > 1 and all(parts):
        return parts
    changes, name = {
        "env": ("parameters of the environment", "NAME"),
        "policies": ("policies or their parameters", "ROLE"),
    }[section]
    rest = printable(path.removeprefix(section).strip("."), 60) or name
    raise ParameterError(message=f"a stage changes {changes}: write {section}.{rest}")


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
