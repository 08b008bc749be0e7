"""Conversion of pydantic validation errors to problems with source locations and corrections."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from mores.core.errors import describe_value, printable
from mores.core.validation_messages import (
    EXPECTED_TYPES,
    child_type,
    union_members,
    validation_problems,
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
    """One problem for each invalid key or value.

    Args:
        error: the validation error.
        model: the class that failed to validate, for its valid names.
        document: the data that failed to validate.
        source_map: source locations of the file.
        prefix: path of the document in the scenario.
        source_paths: path in the file by path in the scenario (the longest match counts).
        unknown_key_message: message for a name that the model lacks.
    """
    sources = source_paths or {}

    def to_file(path: KeyPath) -> KeyPath:
        source = to_source_path(prefix + path, sources)
        known = source in source_map.value_locations or len(path) == 0
        return source if known else _setting_path(prefix + path, sources) or source

    found: dict[tuple[KeyPath, bool], tuple[dict[str, None], str]] = {}  # messages, first code
    for problem in validation_problems(error, model, document, unknown_key_message):
        details, path = problem.details, problem.blamed_path
        at_key = details["type"] in ("extra_forbidden", "missing")
        at_key = at_key or details["loc"][-1:] == ("[key]",)
        raw_text = source_map.raw_texts.get(to_file(path))
        message = problem.message + _correction_hint(details, path, model, raw_text)
        if details["type"] == "string_pattern_mismatch":
            pattern = details["ctx"]["pattern"]
            allowed = PATTERN_DESCRIPTIONS.get(pattern, f"text that matches {pattern}")
            message = f"must be {allowed}; it is {describe_value(details['input'])}"
        found.setdefault((path, at_key), ({}, problem.code))[0][message] = None
    problems = []
    for (path, at_key), (messages, code) in found.items():
        text = " or ".join(messages)
        source = to_file(path) if path else _responsible_path(prefix, sources, text)
        is_entry = len(source) > 0 and isinstance(source[-1], int)
        if at_key and is_entry and source not in source_map.key_locations:
            source = source[:-1]  # a value of a sweep: its path is the key
        locate = source_map.key_location if at_key else source_map.value_location
        problems.append(Problem(locate(source), source, text, code))
    return problems


def to_source_path(path: KeyPath, source_paths: Mapping[KeyPath, KeyPath]) -> KeyPath:
    """The path in the file of the value at `path` of a cell, after all overrides."""
    for length in range(len(path), 0, -1):
        if path[:length] in source_paths:
            return source_paths[path[:length]] + path[length:]
    return path


def _responsible_path(
    path: KeyPath, source_paths: Mapping[KeyPath, KeyPath], message: str
) -> KeyPath:
    """Source of an invalid component: the override of a parameter in the message, else its own."""
    responsible = to_source_path(path, source_paths)
    for key, source in source_paths.items():
        below = len(key) > len(path) and key[: len(path)] == path
        if below and re.search(rf"\b{re.escape(str(key[-1]))}\b", message):
            responsible = source
    return responsible


def _setting_path(path: KeyPath, source_paths: Mapping[KeyPath, KeyPath]) -> KeyPath | None:
    """The override that created a part, by setting a value below it."""
    sources = (source for key, source in source_paths.items() if key[: len(path)] == path)
    return next(sources, None)


def _correction_hint(error: Any, path: KeyPath, model: Any, raw_text: str | None) -> str:
    """The probable correction, as the end of a message."""
    expected, value = EXPECTED_TYPES.get(error["type"], ""), error["input"]
    if expected == "text" and isinstance(value, (bool, int, float)):
        return f": put it in quotes, '{printable(raw_text if raw_text is not None else value, 40)}'"
    if expected == "a whole number" and isinstance(value, float) and value.is_integer():
        return f": write {int(value)}"
    if isinstance(value, str) and expected in ("a whole number", "a number", "true or false"):
        if scalar_type(value) in ("int", "float", "bool"):
            return ": remove the quotes"
        digits = value.replace("_", "")
        if digits != value and scalar_type(digits) in ("int", "float"):
            return f": write {printable(digits, 40)}"
    if isinstance(value, str) and value.isidentifier() and "mapping" in expected:
        for part in path:
            model = child_type(model, part)
        if ComponentSpec in union_members(model):
            return f": write {{kind: {printable(value, 40)}}}"
    return ""
