"""Reading a scenario file: found, read as plain data, changed by overrides, checked."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path as File
from typing import Any

from pydantic import ValidationError

from mores.core.errors import UserError, did_you_mean
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

MAX_FILE_BYTES = 256_000  # bytes of a file: a scenario has forty lines


@dataclasses.dataclass(frozen=True)
class LoadedScenario:
    """A scenario, and where it came from.

    Attributes:
        scenario: what was read.
        source_map: where each part of it stands.
        path: the file.
        text: what the file says.
        document: the same as plain data, with the overrides in it.
        overrides: what the command line changed.
    """

    scenario: Scenario
    source_map: SourceMap
    path: File
    text: str
    document: Mapping[str, Any]
    overrides: tuple[str, ...] = ()


def load_scenario(path: str | File, overrides: Sequence[str] = ()) -> LoadedScenario:
    """Read a scenario file.

    Args:
        path: a file, or the name of a scenario that comes with the package (`voters`).
        overrides: changes `dotted.path=value`, the value written as in the file.

    Raises:
        UserError: there is no such file, it cannot be read, or what it says is not a scenario:
            one line for each problem, `file:line:column: path: what is wrong`.
    """
    file = find_scenario_file(path)
    text = _read_text(file)
    document, places = parse(text, printable(_relative_path(file), 200))
    if not isinstance(document, dict):
        what = f"a scenario is a mapping of `key: value` lines, not {describe_value(document)}"
        raise ScenarioError([Problem(places.value_location(()), (), what, "wrong_type")])
    for override in overrides:
        document, places = _apply_override(document, places, override)
    return LoadedScenario(
        validate_document(document, places), places, file, text, document, tuple(overrides)
    )


def validate_document(document: Mapping[str, Any], source_map: SourceMap) -> Scenario:
    """The scenario that plain data describe.

    Checked as JSON, where pydantic's strictness is that of a file: lists become tuples, but no
    text becomes a number, no `true` a 1, no 3.0 a 3.
    """
    try:
        return Scenario.model_validate_json(json.dumps(document), strict=True)
    except ValidationError as error:
        raise ScenarioError(problems_from_error(error, Scenario, document, source_map)) from None


def bundled_scenarios() -> dict[str, File]:
    """The scenarios that come with the package, by name."""
    folder = File(str(resources.files("mores") / "scenarios"))
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def find_scenario_file(path_or_name: str | File) -> File:
    """The file of that path or name.

    Raises:
        UserError: there is none, with the nearest name.
    """
    path, ours = File(path_or_name), bundled_scenarios()
    try:
        if path.exists() and not path.is_dir():
            return path
        name = path.stem if path.suffix in (".yaml", ".yml") else path.name
        if str(path.parent) in (".", "scenarios") and name in ours:
            return ours[name]
        if path.is_dir():
            inside = ", ".join(printable(file) for file in sorted(path.glob("*.yaml"))[:6])
            what = f"in it: {inside}" if inside else "no *.yaml file is in it"
            message = f"{printable(path)}: is a directory; name a scenario file ({what})"
            raise UserError(message, code="unreadable", path=str(path))
        if not path.parent.is_dir():
            folder = f"there is no directory {printable(path.parent)}"
            message = f"{printable(path)}: no such file: {folder}{_suggestion(name, ours)}"
            raise UserError(message, code="unreadable", path=str(path))
        files = [str(file) for file in path.parent.glob("*.y*ml")]
    except OSError as error:
        message = f"{printable(path)}: cannot be read: {error.strerror}"
        raise UserError(message, code="unreadable", path=str(path)) from None
    except ValueError as error:  # a null character in the name
        message = f"{printable(path)}: cannot be read: {error}"
        raise UserError(message, code="unreadable", path=str(path)) from None
    message = f"{printable(path)}: no such scenario file{_suggestion(str(path), [*files, *ours])}"
    raise UserError(message, code="unreadable", path=str(path))


def _suggestion(name: str, names: Any) -> str:
    near = did_you_mean(name, names)
    return (
        near
        if "did you mean" in near
        else f"; shipped are: {', '.join(bundled_scenarios()) or 'none'}"
    )


def _relative_path(file: File) -> File:
    """The file as seen from here, where it is below: shorter to read."""
    here = File.cwd()
    return file.relative_to(here) if file.is_absolute() and file.is_relative_to(here) else file


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
        message = f"{name}: is larger than {MAX_FILE_BYTES:,} bytes: is it a scenario file?"
        raise UserError(message, code="too_large", path=str(file))
    if raw[:3] == b"\xef\xbb\xbf" or raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        message = "begins with a byte order mark: save the file as UTF-8 without one"
        raise ScenarioError([Problem(SourceLocation(name, 1, 1), (), message, "unreadable")])
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        place = SourceLocation(name, before.count(b"\n") + 1, error.start - before.rfind(b"\n"))
        message = f"the byte 0x{raw[error.start]:02x} is not UTF-8: is it a text file?"
        raise ScenarioError([Problem(place, (), message, "unreadable")]) from None


def _apply_override(
    document: Mapping[str, Any], source_map: SourceMap, override: str
) -> tuple[dict[str, Any], SourceMap]:
    """The document with one change from the command line."""
    name = f"override {printable(override, 60)}"
    left, equals, right = override.partition("=")
    if not equals or not left:
        message = f"{name}: write it as dotted.path=value, such as rounds=50"
        raise UserError(message, code="invalid_value", path=left)
    if not right.strip():
        raise UserError(f"{name}: a value is missing after =", code="missing", path=left)
    value, theirs = parse(right, name, with_lines=False)
    changed = json.loads(json.dumps(document))
    path = _resolve_override_path(changed, left, name)
    node: Any = changed
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    return changed, source_map.with_replaced(path, theirs)


def _resolve_override_path(document: dict[str, Any], dotted_path: str, source: str) -> KeyPath:
    """The path that an override means; what is missing on the way to it is made."""

    def refuse(what: str, code: str = "unknown_name") -> ScenarioError:
        return ScenarioError([Problem(SourceLocation(source), path, what, code)])

    parts, path = dotted_path.split("."), ()
    node: Any = document
    while parts:
        staged = len(path) == 3 and path[0] == "stages" and path[2] in ("env", "policies")
        if path == ("sweep",) or (len(path) == 2 and path[0] == "arms") or staged:
            parts = [".".join(parts)]  # there a key is itself a dotted path
        part: Any = parts.pop(0)
        if isinstance(node, list):
            if part not in map(str, range(len(node))):
                raise refuse(f"has the entries 0 to {len(node) - 1}, not {printable(part, 40)!r}")
            part = int(part)
        elif not isinstance(node, dict):
            raise refuse(f"is {describe_value(node)}: nothing can be set below it", "wrong_type")
        else:
            known = keys_at(Scenario, path)
            if known is not None and part not in known:
                raise refuse(f"there is no {printable(part, 40)!r} here{did_you_mean(part, known)}")
            if path == ("arms",) and parts and part not in node:
                raise refuse(f"there is no arm {printable(part, 40)!r}{did_you_mean(part, node)}")
            if not part:
                raise refuse("the path has an empty part", "invalid_value")
            if parts and node.get(part) is None:
                node[part] = {}
        path = (*path, part)
        if parts:
            node = node[part]
    return path
