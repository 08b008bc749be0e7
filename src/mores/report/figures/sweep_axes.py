"""Roles of the swept parameters in a figure: x axis, lines, panels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mores.report.figures.plot_data import ReportData
from mores.report.figures.series_panel import Quantity
from mores.report.figures.value_labels import PointLabels, value_labels

MAX_LINES = 10  # values of a second parameter


class SweepAxes(NamedTuple):
    """Roles of the swept parameters, by their paths in the scenario.

    Attributes:
        sweep: values by path.
        x: path of the x axis.
        line: path whose values are lines; None: lines are arms.
        panels: paths whose combinations of values are panels.
        labels: names of the values.
    """

    sweep: Mapping[str, Sequence[Any]]
    x: str
    line: str | None
    panels: tuple[str, ...]
    labels: PointLabels

    def x_index(self, point: Mapping[str, Any]) -> int:
        """Index of a point on the x axis."""
        return list(self.sweep[self.x]).index(point[self.x])

    def line_name(self, point: Mapping[str, Any], arm: str) -> str:
        """Name of the line of an arm at a point; other values have other names."""
        return arm if self.line is None else self.labels.describe(point, [self.line])

    def panel_title(self, point: Mapping[str, Any]) -> str:
        """Title of the panel of a point; empty without parameters for panels."""
        return self.labels.describe(point, self.panels)

    def quantity(self, size: tuple[float, float]) -> Quantity:
        """The x axis of panels of a size, inches."""
        values = self.sweep[self.x]
        if all(map(is_number, values)):
            numbers = tuple(float(value) for value in values)
            return Quantity(numbers, self.x, is_geometric(numbers), size)
        return Quantity(tuple(value_labels(values)), self.x, False, size)


def is_number(value: Any) -> bool:
    """Whether a swept value is a number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_geometric(values: Sequence[float]) -> bool:
    """Whether values are closer to a geometric than to an arithmetic sequence: 1, 3, 10, 30."""
    ordered = np.unique(np.asarray(values, dtype=np.float64))
    if len(ordered) < 3 or ordered[0] <= 0.0:
        return False
    steps, ratios = np.diff(ordered), np.diff(np.log(ordered))
    return bool(ratios.max() / ratios.min() < steps.max() / steps.min())


def sweep_axes(data: ReportData) -> SweepAxes:
    """Roles of the swept parameters with several values.

    The x axis is the number with the most values; without a number, a parameter with texts. In a
    scenario with one arm the lines are the values of a second parameter, if they are few.
    """
    sweep = {path: values for path, values in data.scenario.sweep.items() if len(values) > 1}
    paths = sorted(sweep, key=lambda p: (not all(map(is_number, sweep[p])), -len(sweep[p])))
    x, *others = paths
    line = None
    if len(data.arms) == 1 and others and len(sweep[others[0]]) <= MAX_LINES:
        line, *others = others
    panels = tuple(path for path in sweep if path in others)
    return SweepAxes(sweep, x, line, panels, PointLabels(sweep))
