"""Where in a file each part of a document stands, and problems that are told with their place."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from mores.core.errors import UserError, did_you_mean
from mores.core.errors import describe_value as describe_value
from mores.core.errors import printable as printable

KeyPath = tuple[str | int, ...]  # of keys and list positions, from the top of the document

MAX_PROBLEMS_SHOWN = 10  # so many problems are told at once


class SourceLocation(NamedTuple):
    """A place in a file, counted from 1, or a source that has no lines (an override)."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclasses.dataclass(frozen=True)
class SourceMap:
    """Where every key and value of a document stands.

    Attributes:
        source: the file, as its reader named it.
        key_locations: where the key of a path stands.
        value_locations: where its value begins.
        raw_texts: how a value without quotes was written (`2506.06160`, which as a number ends in 6).
    """

    source: str
    key_locations: Mapping[KeyPath, SourceLocation] = dataclasses.field(default_factory=dict)
    value_locations: Mapping[KeyPath, SourceLocation] = dataclasses.field(default_factory=dict)
    raw_texts: Mapping[KeyPath, str] = dataclasses.field(default_factory=dict)

    def key_location(self, path: KeyPath) -> SourceLocation:
        """Where the key stands; of a part without a key, where it begins."""
        return self.key_locations.get(path) or self.value_location(path)

    def value_location(self, path: KeyPath) -> SourceLocation:
        """Where the value begins; of a part that is not in the file, where what holds it begins."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.value_locations:
                return self.value_locations[path[:length]]
        return SourceLocation(self.source)

    def with_replaced(self, path: KeyPath, other: SourceMap) -> SourceMap:
        """These places with those of `other` in place of everything at and below `path`."""

        def merge(old: Mapping[KeyPath, Any], new: Mapping[KeyPath, Any]) -> dict[KeyPath, Any]:
            kept = {p: found for p, found in old.items() if p[: len(path)] != path}
            return kept | {path + p: found for p, found in new.items()}

        here = SourceLocation(other.source)
        made = {path[:i]: here for i in range(1, len(path)) if path[:i] not in self.value_locations}
        return SourceMap(
            self.source,
            merge(self.key_locations, other.key_locations) | made | {path: here},
            merge(self.value_locations, other.value_locations) | made,
            merge(self.raw_texts, other.raw_texts),
        )


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something in a document that its writer can put right."""

    location: SourceLocation
    path: KeyPath
    message: str
    code: str

    def __str__(self) -> str:
        path = [printable(format_path(self.path), 200)] if self.path else []
        return ": ".join([printable(self.location, 200), *path, printable(self.message, 600)])


class ScenarioError(UserError):
    """A scenario that cannot be used: a line for each problem, overrides first, then the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        ordered = sorted(problems, key=lambda p: (p.location.line, p.location.column))
        self.problems: tuple[Problem, ...] = tuple(dict.fromkeys(ordered))
        lines = [str(problem) for problem in self.problems[:MAX_PROBLEMS_SHOWN]]
        left = len(self.problems) - len(lines)
        if left:
            lines.append(f"and {left} more problem{'s' if left > 1 else ''}")
        first = self.problems[0]
        super().__init__("\n".join(lines), code=first.code, path=format_path(first.path))


def format_path(path: KeyPath) -> str:
    """`claims.0.at`: also how an override names it."""
    return ".".join(printable(part) for part in path)


def problem_at_path(source_map: SourceMap, message: str, *path: str | int, code: str) -> Problem:
    """A problem with the value that stands at a path of the file."""
    return Problem(source_map.value_location(path), path, message, code)


def suggestion(name: str, names: Iterable[str]) -> str:
    """The name that was probably meant, as the end of a message."""
    return did_you_mean(printable(name, 40), names)
