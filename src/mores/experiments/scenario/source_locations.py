"""Where in a file each part of a document stands, and problems that are told with their place."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from mores.core.errors import UserError, did_you_mean
from mores.core.errors import said as said
from mores.core.errors import shown as shown

Path = tuple[str | int, ...]  # of keys and list positions, from the top of the document

MOST_SHOWN = 10  # so many problems are told at once


class Place(NamedTuple):
    """A place in a file, counted from 1, or a source that has no lines (an override)."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclasses.dataclass(frozen=True)
class Places:
    """Where every key and value of a document stands.

    Attributes:
        source: the file, as its reader named it.
        keys: where the key of a path stands.
        values: where its value begins.
        texts: how a value without quotes was written (`2506.06160`, which as a number ends in 6).
    """

    source: str
    keys: Mapping[Path, Place] = dataclasses.field(default_factory=dict)
    values: Mapping[Path, Place] = dataclasses.field(default_factory=dict)
    texts: Mapping[Path, str] = dataclasses.field(default_factory=dict)

    def key(self, path: Path) -> Place:
        """Where the key stands; of a part without a key, where it begins."""
        return self.keys.get(path) or self.value(path)

    def value(self, path: Path) -> Place:
        """Where the value begins; of a part that is not in the file, where what holds it begins."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.values:
                return self.values[path[:length]]
        return Place(self.source)

    def replaced(self, path: Path, other: Places) -> Places:
        """These places with those of `other` in place of everything at and below `path`."""

        def merge(old: Mapping[Path, Any], new: Mapping[Path, Any]) -> dict[Path, Any]:
            kept = {p: found for p, found in old.items() if p[: len(path)] != path}
            return kept | {path + p: found for p, found in new.items()}

        here = Place(other.source)
        made = {path[:i]: here for i in range(1, len(path)) if path[:i] not in self.values}
        return Places(
            self.source,
            merge(self.keys, other.keys) | made | {path: here},
            merge(self.values, other.values) | made,
            merge(self.texts, other.texts),
        )


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something in a document that its writer can put right."""

    place: Place
    path: Path
    message: str
    code: str

    def __str__(self) -> str:
        path = [shown(dotted(self.path), 200)] if self.path else []
        return ": ".join([shown(self.place, 200), *path, shown(self.message, 600)])


class ScenarioError(UserError):
    """A scenario that cannot be used: a line for each problem, overrides first, then the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        ordered = sorted(problems, key=lambda p: (p.place.line, p.place.column))
        self.problems: tuple[Problem, ...] = tuple(dict.fromkeys(ordered))
        lines = [str(problem) for problem in self.problems[:MOST_SHOWN]]
        left = len(self.problems) - len(lines)
        if left:
            lines.append(f"and {left} more problem{'s' if left > 1 else ''}")
        first = self.problems[0]
        super().__init__("\n".join(lines), code=first.code, path=dotted(first.path))


def dotted(path: Path) -> str:
    """`claims.0.at`: also how an override names it."""
    return ".".join(shown(part) for part in path)


def problem_at(places: Places, message: str, *path: str | int, code: str) -> Problem:
    """A problem with the value that stands at a path of the file."""
    return Problem(places.value(path), path, message, code)


def nearest(given: str, names: Iterable[str]) -> str:
    """The name that was probably meant, as the end of a message."""
    return did_you_mean(shown(given, 40), names)
