"""Source locations of the keys and values of a document, and problems at such locations."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from mores.core.errors import UserError
from mores.core.errors import describe_value as describe_value
from mores.core.errors import printable as printable

KeyPath = tuple[str | int, ...]  # of keys and list positions, from the top of the document

MAX_PROBLEMS_SHOWN = 10  # lines of an error


class SourceLocation(NamedTuple):
    """Line and column in a file, from 1. A source without lines (an override) has line 0."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclasses.dataclass(frozen=True)
class SourceMap:
    """Locations of every key and value of a document, and of the values of a cell made from it.

    Attributes:
        source: name of the file in messages.
        key_locations: location of the key by path.
        value_locations: start of the value by path.
        raw_texts: text of values without quotes by path (the number 2506.06160 loses its last 0).
        overrides: of a cell: path in the file by path in the cell, of values that arms, sweeps and
            stages set.
    """

    source: str
    key_locations: Mapping[KeyPath, SourceLocation] = dataclasses.field(default_factory=dict)
    value_locations: Mapping[KeyPath, SourceLocation] = dataclasses.field(default_factory=dict)
    raw_texts: Mapping[KeyPath, str] = dataclasses.field(default_factory=dict)
    overrides: Mapping[KeyPath, KeyPath] = dataclasses.field(default_factory=dict)

    def key_location(self, path: KeyPath) -> SourceLocation:
        """Location of the key at a path, or of the value if it has no key."""
        return self.key_locations.get(path) or self.value_location(path)

    def value_location(self, path: KeyPath) -> SourceLocation:
        """Start of the value at a path. For a missing value: of the nearest value above it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.value_locations:
                return self.value_locations[path[:length]]
        return SourceLocation(self.source)

    def file_path(self, path: KeyPath) -> KeyPath:
        """The path in the file of the value at a path of the cell."""
        for length in range(len(path), 0, -1) if self.overrides else ():
            if path[:length] in self.overrides:
                return self.overrides[path[:length]] + path[length:]
        return path

    def overrides_within(self, path: KeyPath) -> dict[KeyPath, KeyPath]:
        """The overrides at and below a path of the cell, in order of application."""
        inside = self.overrides.items()
        return {key: source for key, source in inside if key[: len(path)] == path}

    def problem(self, message: str, *path: str | int, code: str, at_key: bool = False) -> Problem:
        """A problem with the value, or with the key, at a path of the file or of the cell."""
        file_path = self.file_path(path)
        locate = self.key_location if at_key else self.value_location
        return Problem(locate(file_path), file_path, message, code)

    def component_problem(self, message: str, *path: str | int, code: str) -> Problem:
        """A problem with a component, at its last override if it has one, else at its value."""
        last = [path, *self.overrides_within(path).values()][-1]
        return self.problem(message, *last, code=code)

    def with_replaced(self, path: KeyPath, other: SourceMap) -> SourceMap:
        """This map with the locations of `other` for everything at and below `path`."""

        def merge(old: Mapping[KeyPath, Any], new: Mapping[KeyPath, Any]) -> dict[KeyPath, Any]:
            retained = {p: content for p, content in old.items() if p[: len(path)] != path}
            return retained | {path + p: content for p, content in new.items()}

        location, above = SourceLocation(other.source), [path[:i] for i in range(1, len(path))]
        added = {p: location for p in above if p not in self.value_locations}
        return SourceMap(
            self.source,
            merge(self.key_locations, other.key_locations) | added | {path: location},
            merge(self.value_locations, other.value_locations) | added,
            merge(self.raw_texts, other.raw_texts),
        )


@dataclasses.dataclass(frozen=True)
class Problem:
    """An error in a document: location, path, message, and code (one of `errors.CODES`)."""

    location: SourceLocation
    path: KeyPath
    message: str
    code: str

    def __str__(self) -> str:
        path = [printable(format_path(self.path), 200)] if self.path else []
        return ": ".join([printable(self.location, 200), *path, printable(self.message, 600)])


class ScenarioError(UserError):
    """Error of an invalid scenario: a line for each problem, overrides first, then the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        ordered = sorted(problems, key=lambda p: (p.location.line, p.location.column))
        self.problems: tuple[Problem, ...] = tuple(dict.fromkeys(ordered))
        lines = [str(problem) for problem in self.problems[:MAX_PROBLEMS_SHOWN]]
        hidden = len(self.problems) - len(lines)
        if hidden:
            lines.append(f"and {hidden} more problem{'s' if hidden > 1 else ''}")
        first = self.problems[0]
        super().__init__("\n".join(lines), code=first.code, path=format_path(first.path))


@contextlib.contextmanager
def problems_into(problems: list[Problem]) -> Iterator[None]:
    """Append the problems of a `ScenarioError` to a list instead of raising it."""
    try:
        yield
    except ScenarioError as error:
        problems += error.problems


def format_path(path: KeyPath) -> str:
    """`claims.0.at_round`: also the syntax of overrides."""
    return ".".join(printable(part) for part in path)
