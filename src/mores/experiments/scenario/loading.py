"""Loading of a scenario file: find it, parse it, apply overrides, validate it."""

from __future__ import annotations

import codecs
import contextlib
import copy
import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path as File
from typing import Any

from pydantic import ValidationError

from mores.core.data_file import file_problem
from mores.core.errors import UserError, did_you_mean, nearest_name
from mores.core.validation_messages import keys_at
from mores.experiments.scenario.model_override import (
    MODEL,
    model_paths,
    model_with_kind,
    with_model,
)
from mores.experiments.scenario.source_locations import (
    KeyPath,
    Problem,
    ScenarioError,
    SourceLocation,
    SourceMap,
    describe_value,
    printable,
)
from mores.experiments.scenario.specification import Scenario
from mores.experiments.scenario.strict_yaml import MAX_DEPTH, parse
from mores.experiments.scenario.validation_problems import problems_from_error
from mores.registry import REGISTRIES, nearest_other_entry, other_category
from mores.registry.tables import SCENARIO_FOLDER

MAX_FILE_BYTES = 256_000  # a scenario has about forty lines


@dataclasses.dataclass(frozen=True)
class LoadedScenario:
    """A scenario and its source.

    Attributes:
        scenario: the validated scenario.
        source_map: source locations of its keys and values.
        path: the file.
        text: content of the file.
        document: the content as plain data, with the overrides applied.
        overrides: overrides of the command line.
    """

    scenario: Scenario
    source_map: SourceMap
    path: File
    text: str
    document: Mapping[str, Any]
    overrides: tuple[str, ...] = ()


def load_scenario(path: str | File, overrides: Sequence[str] = ()) -> LoadedScenario:
    """Load a scenario file.

    Args:
        path: a file, or the name of a scenario of the package (`voters`).
        overrides: changes `dotted.path=value`, with values in the syntax of the file; `model=WORD`
            sets the language model of every policy that has one.

    Raises:
        UserError: the file does not exist, cannot be read, or is not a scenario: one line
            for each problem, `file:line:column: path: message`.
    """
    from mores.core.arguments import check_path  # loads torch

    file = find_scenario_file(check_path("path", path))
    name = _display_name(file)
    text = _read_text(file, name)
    document, source_map = parse(text, name)
    if not isinstance(document, dict):
        message = f"a scenario is a mapping of `key: value` lines, not {describe_value(document)}"
        raise ScenarioError([source_map.problem(message, code="wrong_type")])
    for override in overrides:
        document, source_map = _apply_override(document, source_map, override)
    scenario = validate_document(document, source_map)
    for override in overrides:
        _check_not_swept(override, scenario)
    return LoadedScenario(scenario, source_map, file, text, document, tuple(overrides))


def check_loaded(loaded: object) -> LoadedScenario:
    """An argument that must be a scenario of `load_scenario`.

    Raises:
        UserError: it is something else, such as the name of a scenario.
    """
    if isinstance(loaded, LoadedScenario):
        return loaded
    message = f"loaded: a scenario of mores.load_scenario is needed, not {loaded!r:.60}"
    raise UserError(message, code="wrong_type", path="loaded")


def validate_document(document: Mapping[str, Any], source_map: SourceMap) -> Scenario:
    """The scenario that plain data specify.

    Validated as JSON, where pydantic is strict as for a file: lists become tuples, but text does
    not become a number, `true` does not become 1, and 3.0 does not become 3.
    """
    try:
        return Scenario.model_validate_json(json.dumps(document), strict=True)
    except ValidationError as error:
        raise ScenarioError(problems_from_error(error, Scenario, document, source_map)) from None


def known_scenarios() -> dict[str, File]:
    """Files of the registered scenarios, by name: the package's, plugins', the user's."""
    registry, found = REGISTRIES["scenario"], {}
    for name in registry:
        with contextlib.suppress(UserError):  # of a package that is broken
            found[name] = registry.load(name)
    return found


def bundled_scenarios() -> dict[str, File]:
    """Files of the scenarios of the package, by name."""
    return {
        name: file for name, file in known_scenarios().items() if file.parent == SCENARIO_FOLDER
    }


def find_scenario_file(path_or_name: str | File) -> File:
    """The scenario file of a path or name.

    Raises:
        UserError: there is none; with the nearest name.
    """
    path = File(path_or_name)
    try:
        problem = file_problem(str(path), (".yaml", ".yml"))
        if problem is None:
            return path
        known = known_scenarios()
        name = path.stem if path.suffix in (".yaml", ".yml") else path.name
        if str(path.parent) in (".", "scenarios") and name in known:
            return known[name]
        if path.is_dir():
            inside = ", ".join(printable(file) for file in sorted(path.glob("*.yaml"))[:6])
            content = f"it contains {inside}" if inside else "it contains no *.yaml file"
            message = f"is a directory; name a scenario file ({content})"
        elif path.exists() or path.is_symlink():
            message = problem
        elif other := other_category(str(path_or_name)):
            message = f"no such scenario{other}; see mores describe {path_or_name}"
        elif path.parent.is_dir():
            files = map(str, path.parent.glob("*.y*ml"))
            message = f"no such scenario file{_suggestion(str(path), [*files, *known], known)}"
        else:
            folder = f"there is no directory {printable(path.parent)}"
            message = f"no such file: {folder}{_suggestion(name, known, known)}"
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        message = f"cannot be read: {getattr(error, 'strerror', error)}"
    raise UserError(f"{printable(path)}: {message}", code="unreadable", path=str(path))


def _suggestion(name: str, names: Iterable[str], known: Iterable[str]) -> str:
    if near := nearest_name(name, names):
        return near
    if other := nearest_other_entry(name):
        return f"; did you mean {other}, which is no scenario?"
    return f"; scenarios of the package: {', '.join(known) or 'none'}"


def _display_name(file: File) -> str:
    """The path relative to the working directory if the file is below it: shorter to read."""
    is_below = file.is_absolute() and file.is_relative_to(File.cwd())
    return printable(file.relative_to(File.cwd()) if is_below else file, 200)


def _read_text(file: File, name: str) -> str:
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        message = f"{name}: cannot be read: {getattr(error, 'strerror', error)}"
        raise UserError(message, code="unreadable", path=str(file)) from None
    if len(raw) > MAX_FILE_BYTES:
        message = f"{name}: is larger than {MAX_FILE_BYTES:,} bytes, the limit for scenario files"
        raise UserError(message, code="too_large", path=str(file))
    location = SourceLocation(name, 1, 1)
    if raw.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        message = "begins with a byte order mark: save the file as UTF-8 without one"
        raise ScenarioError([Problem(location, (), message, code="unreadable")])
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        location = SourceLocation(name, before.count(b"\n") + 1, error.start - before.rfind(b"\n"))
        message = f"the byte 0x{raw[error.start]:02x} is not UTF-8 text"
        raise ScenarioError([Problem(location, (), message, code="unreadable")]) from None


def _apply_override(
    document: Mapping[str, Any], source_map: SourceMap, override: str
) -> tuple[dict[str, Any], SourceMap]:
    """The document and source map with one override of the command line applied."""
    source = f"override {printable(override, 60)}"
    left, equals, right = override.partition("=")
    if not equals or not left:
        message = f"{source}: write it as dotted.path=value, such as rounds=50"
        raise UserError(message, code="invalid_value", path=printable(left))
    if not right.strip():
        message = f"{source}: a value is missing after ="
        raise UserError(message, code="missing", path=printable(left))
    if left.count(".") >= MAX_DEPTH:
        message = f"{source}: the path has more than {MAX_DEPTH} parts"
        raise UserError(message, code="too_large", path=printable(left))
    value, value_source_map = parse(right, source, with_lines=False)
    changed = copy.deepcopy(dict(document))
    if left == MODEL:
        value, paths = model_with_kind(value), model_paths(document)
        for path in paths:
            with_model(changed, path, copy.deepcopy(value))
            source_map = source_map.with_replaced(path, value_source_map)
        return changed, source_map
    path = _set_override(changed, left.split("."), value, source)
    return changed, source_map.with_replaced(path, value_source_map)


def _check_not_swept(override: str, scenario: Scenario) -> None:
    """Refuse an override of a value that the sweep sets at every point."""
    path = override.partition("=")[0]
    for swept in scenario.sweep:
        if path == swept or path.startswith(f"{swept}."):
            source = f"override {printable(override, 60)}"
            message = (
                f"{source}: the sweep sets {printable(swept)}: override sweep.{printable(swept)}"
            )
            raise UserError(message, code="conflict", path=printable(path))


def _set_override(document: dict[str, Any], parts: list[str], value: Any, source: str) -> KeyPath:
    """Set the value of an override, with mappings that are missing on its path; the path."""
    path: KeyPath = ()
    node: Any = document
    while True:
        in_stage = len(path) == 3 and path[0] == "stages" and path[2] in ("env", "policies")
        if path == ("sweep",) or (len(path) == 2 and path[0] == "arms") or in_stage:
            parts = [".".join(parts)]  # keys of these mappings are dotted paths
        part: Any = parts[0]
        message, code = "", "unknown_name"
        if isinstance(node, list):
            if part not in map(str, range(len(node))):
                message = f"has entries 0 to {len(node) - 1}, not {printable(part, 40)!r}"
        elif not isinstance(node, dict):
            message, code = f"is {describe_value(node)}, which has no keys", "wrong_type"
        elif (known := keys_at(Scenario, path)) is not None and part not in known:
            message = f"there is no key {printable(part, 40)!r}{did_you_mean(part, known)}"
        elif path == ("arms",) and parts[1:] and part not in node:
            message = f"there is no arm {printable(part, 40)!r}{did_you_mean(part, node)}"
        elif not part:
            message, code = "the path has an empty part", "invalid_value"
        if message:
            raise ScenarioError([Problem(SourceLocation(source), path, message, code=code)])
        part = int(part) if isinstance(node, list) else part
        path, parts = (*path, part), parts[1:]
        if not parts:
            node[part] = value
            return path
        if isinstance(node, dict) and node.get(part) is None:
            node[part] = {}
        node = node[part]
