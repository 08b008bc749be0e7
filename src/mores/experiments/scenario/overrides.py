"""Overrides: values at dotted paths of a cell's components, set by arms, sweeps and stages.

The overrides of a stage apply after those of arms and sweeps, with one exception: a policy that
an arm sets whole (`policies.assistant: {kind: silent}`) applies to all stages of that arm.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from mores.core.errors import ParameterError, did_you_mean
from mores.experiments.scenario.source_locations import (
    KeyPath,
    Problem,
    ScenarioError,
    SourceMap,
    describe_value,
    format_path,
    printable,
)
from mores.experiments.scenario.specification import Scenario
from mores.experiments.scenario.stages import Stage
from mores.experiments.scenario.strict_yaml import MAX_DEPTH

OVERRIDABLE_SECTIONS = ("env", "population", "policies")  # what arms and sweeps may change


class Override(NamedTuple):
    """A value for a dotted path of the cell, and the path of its key or list entry in the file."""

    path: str
    value: Any
    source_path: KeyPath


class StageSpec(NamedTuple):
    """Environment and policies of a stage, as `kind` and parameters, and their source map."""

    env: dict[str, Any]
    policies: dict[str, Any]
    source_map: SourceMap


def apply_overrides(
    cell_spec: Mapping[str, Any], source_map: SourceMap, overrides: Iterable[Override]
) -> tuple[dict[str, Any], SourceMap]:
    """The specification and source map of a cell after overrides, in order of application.

    Raises:
        ScenarioError: a path is invalid or does not exist, or a value has the wrong type.
    """
    changed, sources = copy.deepcopy(dict(cell_spec)), dict(source_map.overrides)
    problems: list[Problem] = []
    set_below = {path for key in sources for path in _path_and_parents(key)}
    for dotted, value, source_path in overrides:
        is_entry = isinstance(source_path[-1], int)
        place = source_path[:-1] if is_entry else source_path
        try:
            section = source_path[2] if source_path[0] == "stages" else None
            parts = _parse_path(dotted, None if section is None else str(section))
            place = source_path
            path = _set_at_path(changed, parts, copy.deepcopy(value))
        except ParameterError as error:
            problems.append(source_map.problem(str(error), *place, code=error.code, at_key=True))
            continue
        if path in set_below:
            sources = {key: source for key, source in sources.items() if key[: len(path)] != path}
        sources[path] = source_path
        set_below.update(_path_and_parents(path))
    if problems:
        raise ScenarioError(problems)
    return changed, dataclasses.replace(source_map, overrides=sources)


def _path_and_parents(path: KeyPath) -> Iterator[KeyPath]:
    for length in range(1, len(path) + 1):
        yield path[:length]


def by_depth(overrides: Iterable[Override]) -> list[Override]:
    """Overrides in order of application: a whole component before the parameters in it."""
    return sorted(overrides, key=lambda override: override.path.count("."))


def apply_stage_overrides(
    env: Mapping[str, Any],
    policies: Mapping[str, Any],
    source_map: SourceMap,
    stage: Stage,
    stage_index: int,
) -> StageSpec:
    """Specification of a stage of a cell whose specification and source map are given.

    Raises:
        ScenarioError: the stage overrides a parameter that does not exist.
    """
    overrides = [
        Override(path, value, ("stages", stage_index, section, path))
        for section, values in (("env", stage.env), ("policies", stage.policies))
        for path, value in values.items()
    ]
    spec: dict[str, Any] = {"env": env, "policies": policies}
    if overrides:
        spec, source_map = apply_overrides(spec, source_map, by_depth(overrides))
    return StageSpec(spec["env"], spec["policies"], source_map)


def _parse_path(path: str, stage_section: str | None) -> tuple[str, ...]:
    """The parts of a dotted path that arms and sweeps, or a section of a stage, may override.

    Raises:
        ParameterError: the path is not such a path.
    """
    parts = tuple(path.split("."))
    first, code = parts[0], "invalid_value"
    if len(parts) > MAX_DEPTH:
        message, code = f"the path has more than {MAX_DEPTH} parts", "too_large"
    elif stage_section is not None:
        if first == stage_section and len(parts) > 1 and all(parts):
            return parts
        changes, name = {
            "env": ("parameters of the environment", "NAME"),
            "policies": ("policies or their parameters", "ROLE"),
        }[stage_section]
        rest = printable(path.removeprefix(stage_section).strip("."), 60) or name
        message = f"a stage changes {changes}: write {stage_section}.{rest}"
    elif first in OVERRIDABLE_SECTIONS and all(parts) and parts != ("policies",):
        return parts
    elif first in Scenario.model_fields and first not in OVERRIDABLE_SECTIONS:
        message = f"{first} cannot differ between arms; env, population and policies can"
    elif first not in OVERRIDABLE_SECTIONS:
        near, code = did_you_mean(first, OVERRIDABLE_SECTIONS), "unknown_name"
        message = f"a path begins with env, population or policies{near}"
    elif not all(parts):
        message = "the path has an empty part"
    else:
        message, code = "name the role too, as in policies.assistant", "missing"
    raise ParameterError(message=message, code=code)


def _set_at_path(cell_spec: dict[str, Any], path: tuple[str, ...], value: Any) -> KeyPath:
    """Set a value at a path. A component may be replaced whole; null removes it.

    Returns:
        The path, with list indices as numbers.

    Raises:
        ParameterError: the path does not exist, or the value has the wrong type.
    """
    in_policies = path[0] == "policies"
    component, below = path[: 1 + in_policies], path[1 + in_policies :]
    holder = cell_spec["policies"] if in_policies else cell_spec
    if below:
        node = holder.get(component[-1])
        if node is None:
            part = format_path(component)
            message = f"there is no {part} to change: set the kind of {part} first"
            raise ParameterError(message=message, code="missing")
        if below == ("kind",) and not isinstance(value, str):
            message = f"must be a name, not {describe_value(value)}"
            raise ParameterError(message=message, code="wrong_type")
        return (*component, *_set_below(node, below, value))
    if value is None and in_policies:
        holder.pop(component[-1], None)
    elif (value is None and path[0] == "population") or (
        isinstance(value, dict) and isinstance(value.get("kind"), str)
    ):
        holder[component[-1]] = value
    else:
        message = f"must be a mapping with a kind, {{kind: ...}}, not {describe_value(value)}"
        raise ParameterError(message=message, code="wrong_type")
    return path


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
        if isinstance(below, str):
            message += f"; a kind that has parameters is written {{kind: {printable(below, 40)}}}"
        raise ParameterError(message=message, code="wrong_type")
    return (part, *_set_below(below, path[1:], value))


def role_of_path(path: str) -> str | None:
    """The role whose policy a path overrides. None for other paths."""
    parts = path.split(".")
    return parts[1] if parts[0] == "policies" and len(parts) > 1 else None


def without_role_overrides(stage: Stage, roles: Collection[str]) -> Stage:
    """The stage without overrides of the policies of these roles."""
    policies = {
        path: value for path, value in stage.policies.items() if role_of_path(path) not in roles
    }
    changed = len(policies) < len(stage.policies)
    return stage.model_copy(update={"policies": policies}) if changed else stage
