"""What pydantic found wrong, where it stands in the file, and how to write what was meant."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from mores.core.errors import describe_value, printable
from mores.core.validation_messages import (
    EXPECTED_TYPES,
    blame_of,
    child_type,
    code_of,
    error_message,
    union_members,
    validation_errors,
)
from mores.experiments.scenario.base_models import PATTERN_DESCRIPTIONS, ComponentSpec
from mores.experiments.scenario.source_locations import KeyPath, Problem, SourceMap
from mores.experiments.scenario.strict_yaml import scalar_type


def problems_from_error(
    error: ValidationError,
    model: type[BaseModel],
    document: Any,
    source_map: SourceMap,
    prefix: KeyPath = (),
    source_paths: Mapping[KeyPath, KeyPath] | None = None,
    unknown_key_message: str = "there is no such key",
) -> list[Problem]:
    """One problem for each place at which something is wrong.

    Args:
        error: what pydantic raised.
        model: the class that was to be made, for the names it knows.
        document: what it was to be made from.
        source_map: where things stand.
        prefix: where the document stands in the whole scenario.
        source_paths: by path in the scenario (the longest that fits), its path in the file.
        unknown_key_message: what to say of a name that the model does not know.
    """

    def to_file(path: KeyPath) -> KeyPath:
        found = to_source_path(prefix + path, source_paths or {})
        known = found in source_map.value_locations or len(path) == 0
        return found if known else _setting_path(prefix + path, source_paths or {}) or found

    messages: dict[tuple[KeyPath, bool], list[str]] = {}
    codes: dict[tuple[KeyPath, bool], str] = {}  # of the first message there
    for found in validation_errors(error):
        path = blame_of(found, document)
        on_key = found["type"] in ("extra_forbidden", "missing") or found["loc"][-1:] == ("[key]",)
        written = source_map.raw_texts.get(to_file(path))
        message = _error_message(found, path, model, document, written, unknown_key_message)
        known = messages.setdefault((path, on_key), [])
        codes.setdefault((path, on_key), code_of(found))
        if message not in known:
            known.append(message)
    problems = []
    for (path, on_key), known in messages.items():
        code = codes[path, on_key]
        where = (
            to_file(path)
            if path
            else _responsible_path(prefix, source_paths or {}, " ".join(known))
        )
        if (
            on_key
            and where not in source_map.key_locations
            and where
            and isinstance(where[-1], int)
        ):
            where = where[:-1]  # one value of a sweep: its path is the key
        place = source_map.key_location(where) if on_key else source_map.value_location(where)
        problems.append(Problem(place, where, " or ".join(known), code))
    return problems


def to_source_path(path: KeyPath, source_paths: Mapping[KeyPath, KeyPath]) -> KeyPath:
    """The path in the file of what stands at `path` once arms and sweeps are put in."""
    for length in range(len(path), 0, -1):
        if path[:length] in source_paths:
            return source_paths[path[:length]] + path[length:]
    return path


def _responsible_path(
    path: KeyPath, source_paths: Mapping[KeyPath, KeyPath], message: str
) -> KeyPath:
    """Where the whole of a part was made so: by a change that the message names, or the part."""
    found = to_source_path(path, source_paths)
    for put, where in source_paths.items():
        below = len(put) > len(path) and put[: len(path)] == path
        if below and re.search(rf"\b{re.escape(str(put[-1]))}\b", message):
            found = where
    return found


def _setting_path(path: KeyPath, source_paths: Mapping[KeyPath, KeyPath]) -> KeyPath | None:
    """What made a part that is there only because something below it is set."""
    return next((where for put, where in source_paths.items() if put[: len(path)] == path), None)


def _error_message(
    error: Any,
    path: KeyPath,
    model: type[BaseModel],
    document: Any,
    raw_text: str | None,
    unknown_key_message: str,
) -> str:
    kind, given = error["type"], error["input"]
    if kind == "string_pattern_mismatch":
        pattern = error["ctx"]["pattern"]
        return f"must be {PATTERN_DESCRIPTIONS.get(pattern, f'text that fits {pattern}')}; it is {describe_value(given)}"
    message = error_message(error, path, model, document, unknown_key_message)
    return message + _correction_hint(EXPECTED_TYPES.get(kind, ""), given, path, model, raw_text)


def _correction_hint(
    expected: str, value: Any, path: KeyPath, model: Any, raw_text: str | None
) -> str:
    """How to write what was probably meant."""
    if expected == "text" and isinstance(value, (bool, int, float)):
        return f": put it in quotes, '{printable(raw_text if raw_text is not None else value, 40)}'"
    if expected == "a whole number" and isinstance(value, float) and value.is_integer():
        return f": write {int(value)}"
    if isinstance(value, str) and expected in ("a whole number", "a number", "true or false"):
        if scalar_type(value) in ("int", "float", "bool"):
            return ": leave out the quotes"
        without = value.replace("_", "")
        if without != value and scalar_type(without) in ("int", "float"):
            return f": write {printable(without, 40)}"
    if isinstance(value, str) and value.isidentifier() and "mapping" in expected:
        for part in path:
            model = child_type(model, part)
        if ComponentSpec in union_members(model):
            return f": write {{kind: {printable(value, 40)}}}"
    return ""
