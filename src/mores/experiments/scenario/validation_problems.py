"""Conversion of pydantic validation errors to problems with source locations and corrections."""

from __future__ import annotations

import functools
import re
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
    unknown_key_message: str = "there is no such key",
) -> list[Problem]:
    """One problem for each invalid key or value.

    Args:
        error: the validation error.
        model: the class that failed to validate, for its valid names.
        document: the data that failed to validate.
        source_map: source locations of the file, or of a cell.
        prefix: path of the document in the scenario.
        unknown_key_message: message for a name that the model lacks.
    """
    found: dict[tuple[KeyPath, bool], tuple[dict[str, None], str]] = {}  # messages, first code
    for problem in validation_problems(error, model, document, unknown_key_message):
        details, path, message = problem.details, problem.blamed_path, problem.message
        at_key = details["type"] in ("extra_forbidden", "missing")
        at_key = at_key or details["loc"][-1:] == ("[key]",)
        if details["type"] == "string_pattern_mismatch":
            pattern = details["ctx"]["pattern"]
            allowed = PATTERN_DESCRIPTIONS.get(pattern, f"text that matches {pattern}")
            message = f"must be {allowed}; it is {describe_value(details['input'])}"
        raw_text = source_map.raw_texts.get(_source(prefix + path, source_map))
        message += _correction_hint(details, path, model, raw_text)
        found.setdefault((path, at_key), ({}, problem.code))[0][message] = None
    problems = []
    for (path, at_key), (messages, code) in found.items():
        text = " or ".join(messages)
        source = _source(prefix + path, source_map)
        if not path:  # of a whole component: the override of a parameter in the message, if any
            source = source_map.file_path(prefix)
            for key, override in source_map.overrides_within(prefix).items():
                if key != prefix and re.search(rf"\b{re.escape(str(key[-1]))}\b", text):
                    source = override
        is_entry = len(source) > 0 and isinstance(source[-1], int)
        if at_key and is_entry and source not in source_map.key_locations:
            source = source[:-1]  # a value of a sweep: its path is the key
        locate = source_map.key_location if at_key else source_map.value_location
        problems.append(Problem(locate(source), source, text, code))
    return problems


def _source(path: KeyPath, source_map: SourceMap) -> KeyPath:
    """Path in the file; of a part that is not in the file, the override of a value below it."""
    source = source_map.file_path(path)
    if source not in source_map.value_locations:
        source = next(iter(source_map.overrides_within(path).values()), source)
    return source


def _correction_hint(error: Any, path: KeyPath, model: Any, raw_text: str | None) -> str:
    """The probable correction, as the end of a message."""
    expected, value = EXPECTED_TYPES.get(error["type"], ""), error["input"]
    if expected == "text" and isinstance(value, (bool, int, float)):
        return f": put it in quotes, '{printable(raw_text if raw_text is not None else value, 40)}'"
    if expected == "a whole number" and isinstance(value, float) and value.is_integer():
        return f": write {int(value)}"
    if not isinstance(value, str):
        return ""
    if expected in ("a whole number", "a number", "true or false"):
        if scalar_type(value) in ("int", "float", "bool"):
            return ": remove the quotes"
        digits = value.replace("_", "")
        if digits != value and scalar_type(digits) in ("int", "float"):
            return f": write {printable(digits, 40)}"
    types = union_members(functools.reduce(child_type, path, model))
    if value.isidentifier() and "mapping" in expected and ComponentSpec in types:
        return f": write {{kind: {printable(value, 40)}}}"
    return ""
