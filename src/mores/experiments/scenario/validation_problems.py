"""What pydantic found wrong, where it stands in the file, and how to write what was meant."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from mores.core.errors import said, shown
from mores.core.validation_messages import (
    WANTED,
    below,
    blame_of,
    branches_of,
    code_of,
    found_in,
    words,
)
from mores.experiments.scenario.base_models import IN_WORDS, Kind
from mores.experiments.scenario.source_locations import Path, Places, Problem
from mores.experiments.scenario.strict_yaml import type_of


def problems_of(
    error: ValidationError,
    model: type[BaseModel],
    document: Any,
    places: Places,
    below: Path = (),
    place_of: Mapping[Path, Path] | None = None,
    unknown: str = "there is no such key",
) -> list[Problem]:
    """One problem for each place at which something is wrong.

    Args:
        error: what pydantic raised.
        model: the class that was to be made, for the names it knows.
        document: what it was to be made from.
        places: where things stand.
        below: where the document stands in the whole scenario.
        place_of: by path in the scenario (the longest that fits), its path in the file.
        unknown: what to say of a name that the model does not know.
    """

    def to_file(path: Path) -> Path:
        found = in_file(below + path, place_of or {})
        known = found in places.values or len(path) == 0
        return found if known else _setter(below + path, place_of or {}) or found

    messages: dict[tuple[Path, bool], list[str]] = {}
    codes: dict[tuple[Path, bool], str] = {}  # of the first message there
    for found in found_in(error):
        path = blame_of(found, document)
        on_key = found["type"] in ("extra_forbidden", "missing") or found["loc"][-1:] == ("[key]",)
        written = places.texts.get(to_file(path))
        message = _message(found, path, model, document, written, unknown)
        known = messages.setdefault((path, on_key), [])
        codes.setdefault((path, on_key), code_of(found))
        if message not in known:
            known.append(message)
    problems = []
    for (path, on_key), known in messages.items():
        code = codes[path, on_key]
        where = to_file(path) if path else _blamed(below, place_of or {}, " ".join(known))
        if on_key and where not in places.keys and where and isinstance(where[-1], int):
            where = where[:-1]  # one value of a sweep: its path is the key
        place = places.key(where) if on_key else places.value(where)
        problems.append(Problem(place, where, " or ".join(known), code))
    return problems


def in_file(path: Path, place_of: Mapping[Path, Path]) -> Path:
    """The path in the file of what stands at `path` once arms and sweeps are put in."""
    for length in range(len(path), 0, -1):
        if path[:length] in place_of:
            return place_of[path[:length]] + path[length:]
    return path


def _blamed(part: Path, place_of: Mapping[Path, Path], message: str) -> Path:
    """Where the whole of a part was made so: by a change that the message names, or the part."""
    found = in_file(part, place_of)
    for put, where in place_of.items():
        below = len(put) > len(part) and put[: len(part)] == part
        if below and re.search(rf"\b{re.escape(str(put[-1]))}\b", message):
            found = where
    return found


def _setter(path: Path, place_of: Mapping[Path, Path]) -> Path | None:
    """What made a part that is there only because something below it is set."""
    return next((where for put, where in place_of.items() if put[: len(path)] == path), None)


def _message(
    found: Any,
    path: Path,
    model: type[BaseModel],
    document: Any,
    written: str | None,
    unknown: str,
) -> str:
    kind, given = found["type"], found["input"]
    if kind == "string_pattern_mismatch":
        pattern = found["ctx"]["pattern"]
        return f"must be {IN_WORDS.get(pattern, f'text that fits {pattern}')}; it is {said(given)}"
    message = words(found, path, model, document, unknown)
    return message + _hint(WANTED.get(kind, ""), given, path, model, written)


def _hint(wanted: str, given: Any, path: Path, model: Any, written: str | None) -> str:
    """How to write what was probably meant."""
    if wanted == "text" and isinstance(given, (bool, int, float)):
        return f": put it in quotes, '{shown(written if written is not None else given, 40)}'"
    if wanted == "a whole number" and isinstance(given, float) and given.is_integer():
        return f": write {int(given)}"
    if isinstance(given, str) and wanted in ("a whole number", "a number", "true or false"):
        if type_of(given) in ("int", "float", "bool"):
            return ": leave out the quotes"
        without = given.replace("_", "")
        if without != given and type_of(without) in ("int", "float"):
            return f": write {shown(without, 40)}"
    if isinstance(given, str) and given.isidentifier() and "mapping" in wanted:
        for part in path:
            model = below(model, part)
        if Kind in branches_of(model):
            return f": write {{kind: {shown(given, 40)}}}"
    return ""
