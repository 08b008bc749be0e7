"""Labels of swept values: short, and different for values that differ.

A label identifies a line, a panel, a tick or a row of a table, so that two values with one label
would be drawn as one.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from mores.report.figures.plot_data import flatten, format_number, shorten

DIGITS = (4, 6, 9, 17)  # significant digits; 17 distinguish all numbers of 64 bits
MAX_LENGTH = 24  # of a text that does not need more to differ


@dataclasses.dataclass(frozen=True)
class PointLabels:
    """Descriptions of the points of a sweep; points that differ have different ones.

    Attributes:
        sweep: values by path.
    """

    sweep: Mapping[str, Sequence[Any]]

    @cached_property
    def _labels(self) -> dict[str, list[str]]:
        return {path: value_labels(values) for path, values in self.sweep.items()}

    def describe(self, point: Mapping[str, Any], paths: Iterable[str] | None = None) -> str:
        """Parameters of a point: `env.noise_std = 0.1, env.num_people = 5`.

        Args:
            point: value by path. One that is not in the sweep, such as the step of a claim on
                steps, is described by itself.
            paths: the parameters; default: all of the point.
        """
        chosen = point if paths is None else paths
        return ", ".join(f"{path} = {self._label(path, point[path])}" for path in chosen)

    def _label(self, path: str, value: Any) -> str:
        values = list(self.sweep.get(path, ()))
        return self._labels[path][values.index(value)] if value in values else format_value(value)


def value_labels(values: Sequence[Any]) -> list[str]:
    """Labels of values that differ; equal values have numbers: `0.1`, `0.1 (2)`.

    Numbers have more digits where they need them, components the parameters that differ, and
    texts their full length.
    """
    labels = [format_value(value) for value in values]
    for format_longer in _longer_formats(values):
        counts = Counter(labels)
        labels = [
            format_longer(value) if counts[label] > 1 else label
            for value, label in zip(values, labels, strict=True)
        ]
    return unique_labels(labels)


def unique_labels(labels: Sequence[str]) -> list[str]:
    """Labels of which those that occurred before have a number: `a`, `a (2)`."""
    unique: dict[str, None] = {}
    for label in labels:
        candidate, number = label, 2
        while candidate in unique:
            candidate, number = f"{label} ({number})", number + 1
        unique[candidate] = None
    return list(unique)


def format_value(value: Any, digits: int = DIGITS[0]) -> str:
    """Text of a swept value; for a component with parameters, its kind."""
    if isinstance(value, Mapping) and "kind" in value:
        return str(value["kind"])
    if isinstance(value, float):
        return format_number(value, digits)
    return shorten(str(value), MAX_LENGTH)


def _longer_formats(values: Sequence[Any]) -> list[Callable[[Any], str]]:
    """Formats for values whose labels are equal, from short to long."""
    parameters = [flatten(value) for value in values if isinstance(value, Mapping)]
    names = dict.fromkeys(name for each in parameters for name in each if name != "kind")
    differing = [name for name in names if len({str(each.get(name)) for each in parameters}) > 1]

    def with_parameters(value: Any) -> str:
        if not isinstance(value, Mapping):
            return str(value) if not isinstance(value, float) else format_number(value, DIGITS[-1])
        given = flatten(value)
        texts = [f"{name} {given[name]}" for name in differing if name in given]
        return f"{format_value(value)} ({', '.join(texts)})" if texts else format_value(value)

    def with_digits(digits: int) -> Callable[[Any], str]:
        return lambda value: format_value(value, digits)

    return [*map(with_digits, DIGITS[1:]), with_parameters]
