"""Loading of a scenario file: find it, parse it, apply overrides, validate it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path as File
from typing import Any

from pydantic import ValidationError

from mores.core.errors import UserError, did_you_mean, nearest_name
from mores.core.validation_messages import keys_at
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
from mores.experiments.scenario.strict_yaml import parse
from mores.experiments.scenario.validation_problems import problems_from_error
from mores.registry import REGISTRIES
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
        overrides: changes `dotted.path=value`, with values in the syntax of the file.

    Raises:
        UserError: the file does not exist, cannot be read, or is not a scenario: one line
            for each problem, `file:line:column: path: message`.
    """
    file = find_scenario_file(path)
    text = _read_text(file)
    document, source_map = parse(text, printable(_relative_path(file), 200))
    if not isinstance(document, dict):
        message = f"a scenario is a mapping of `key: value` lines, not {describe_value(document)}"
        raise ScenarioError([Problem(source_map.value_location(()), (), message, "wrong_type")])
    for override in overrides:
        document, source_map = _apply_override(document, source_map, override)
    scenario = validate_document(document, source_map)
    return LoadedScenario(scenario, source_map, file, text, document, tuple(overrides))


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
    path, bundled = File(path_or_name), known_scenarios()

    def unreadable(message: str) -> UserError:
        return UserError(f"{printable(path)}: {message}", code="unreadable", path=str(path))

    try:
        if path.exists() and not path.is_dir():
            return path
        name = path.stem if path.suffix in (".yaml", ".yml") else path.name
        if str(path.parent) in (".", "scenarios") and name in bundled:
            return bundled[name]
        if path.is_dir():
            inside = ", ".join(printable(file) for file in sorted(path.glob("*.yaml"))[:6])
            content = f"it contains {inside}" if inside else "it contains no *.yaml file"
            raise unreadable(f"is a directory; name a scenario file ({content})")
        if not path.parent.is_dir():
            folder = f"there is no directory {printable(path.parent)}"
            raise unreadable(f"no such file: {folder}{_suggestion(name, bundled)}")
        files = [str(file) for file in path.parent.glob("*.y*ml")]
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise unreadable(f"cannot be read: {reason}") from None
    raise unreadable(f"no such scenario file{_suggestion(str(path), [*files, *bundled])}")


def _suggestion(name: str, names: Any) -> str:
    bundled = ", ".join(known_scenarios()) or "none"
    return nearest_name(name, names) or f"; scenarios of the package: {bundled}"


def _relative_path(file: File) -> File:
    """The path relative to the working directory if the file is below it: shorter to read."""
    cwd = File.cwd()
    return file.relative_to(cwd) if file.is_absolute() and file.is_relative_to(cwd) else file


def _read_text(file: File) -> str:
    name = printable(_relative_path(file), 200)
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        message = f"{name}: cannot be read: {reason}"
        raise UserError(message, code="unreadable", path=str(file)) from None
    if len(raw) > MAX_FILE_BYTES:
        message = f"{name}: is larger than {MAX_FILE_BYTES:,} bytes, the limit for scenario files"
        raise UserError(message, code="too_large", path=str(file))
    if raw[:3] == b"\xef\xbb\xbf" or raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        message = "begins with a byte order mark: save the file as UTF-8 without one"
        raise ScenarioError([Problem(SourceLocation(name, 1, 1), (), message, "unreadable")])
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        location = SourceLocation(name, before.count(b"\n") + 1, error.start - before.rfind(b"\n"))
        message = f"the byte 0x{raw[error.start]:02x} is not UTF-8 text"
        raise ScenarioError([Problem(location, (), message, "unreadable")]) from None


def _apply_override(
    document: Mapping[str, Any], source_map: SourceMap, override: str
) -> tuple[dict[str, Any], SourceMap]:
    """The document and source map with one override of the command line applied."""
    source = f"override {printable(override, 60)}"
    left, equals, right = override.partition("=")
    if not equals or not left:
        message = f"{source}: write it as dotted.path=value, such as rounds=50"
        raise UserError(message, code="invalid_value", path=left)
    if not right.strip():
        raise UserError(f"{source}: a value is missing after =", code="missing", path=left)
    value, value_source_map = parse(right, source, with_lines=False)
    changed = json.loads(json.dumps(document))
    path = _resolve_override_path(changed, left, source)
    node: Any = changed
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    return changed, source_map.with_replaced(path, value_source_map)


def _resolve_override_path(document: dict[str, Any], dotted_path: str, source: str) -> KeyPath:
    """The path of an override. Mappings that are missing along it are added to the document."""

    def refusal(message: str, code: str = "unknown_name") -> ScenarioError:
        return ScenarioError([Problem(SourceLocation(source), path, message, code)])

    parts, path = dotted_path.split("."), ()
    node: Any = document
    while parts:
        in_stage = len(path) == 3 and path[0] == "stages" and path[2] in ("env", "policies")
        if path == ("sweep",) or (len(path) == 2 and path[0] == "arms") or in_stage:
            parts = [".".join(parts)]  # keys of these mappings are dotted paths
        part: Any = parts.pop(0)
        if isinstance(node, list):
            if part not in map(str, range(len(node))):
                raise refusal(f"has entries 0 to {len(node) - 1}, not {printable(part, 40)!r}")
            part = int(part)
        elif not isinstance(node, dict):
            raise refusal(f"is {describe_value(node)}, which has no keys", "wrong_type")
        else:
            known = keys_at(Scenario, path)
            if known is not None and part not in known:
                near = did_you_mean(part, known)
                raise refusal(f"there is no key {printable(part, 40)!r}{near}")
            if path == ("arms",) and parts and part not in node:
                near = did_you_mean(part, node)
                raise refusal(f"there is no arm {printable(part, 40)!r}{near}")
            if not part:
                raise refusal("the path has an empty part", "invalid_value")
            if parts and node.get(part) is None:
                node[part] = {}
        path = (*path, part)
        if parts:
            node = node[part]
    return path
