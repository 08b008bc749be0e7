"""Data of the report: cells of the arms and their results; formats of numbers and names."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from mores.analysis.intervals import IntervalEstimate
from mores.experiments.results.cell_result import CellResult
from mores.experiments.scenario.cell import Cell
from mores.experiments.scenario.specification import Scenario
from mores.report.figures.rendering import LegendEntry
from mores.report.figures.theme import PlotStyle, plot_style


@dataclasses.dataclass(frozen=True)
class ReportData:
    """Results of a run's arms, at all points of the sweep.

    Attributes:
        scenario: scenario of the run.
        cells: cells of the arms, without draws of uncertain parameters.
        records: results of the cells, by cell id.
    """

    scenario: Scenario
    cells: tuple[Cell, ...]
    records: Mapping[str, CellResult]

    @classmethod
    def from_run(
        cls, scenario: Scenario, cells: Sequence[Cell], records: Mapping[str, CellResult]
    ) -> ReportData:
        """Report data from the cells and results of a run."""
        return cls(scenario, tuple(c for c in cells if c.purpose == "arm"), records)

    @cached_property
    def points(self) -> list[Mapping[str, Any]]:
        """Points of the sweep; one empty point without a sweep."""
        return list({_point_key(cell.point): cell.point for cell in self.cells}.values())

    @property
    def arms(self) -> list[str]:
        """Names of the arms, in the scenario's order."""
        return list(dict.fromkeys(cell.arm for cell in self.cells))

    @property
    def treatment_arms(self) -> list[str]:
        """Arms that are compared with the control."""
        return [arm for arm in self.arms if arm != self.scenario.control]

    @property
    def replicates(self) -> int:
        """Number of replicates in every cell."""
        return len(np.unique(self.records[self.cells[0].id].replicate))

    def cell(self, arm: str) -> Cell:
        """First cell of an arm; its only cell without a sweep."""
        return next(cell for cell in self.cells if cell.arm == arm)

    def record(self, arm: str) -> CellResult:
        """Result of an arm's first cell."""
        return self.records[self.cell(arm).id]

    def records_at(self, point: Mapping[str, Any]) -> dict[str, CellResult]:
        """Results at a point of the sweep, by arm."""
        return {
            arm: self.records[cell] for arm, cell in self._cells_by_point[_point_key(point)].items()
        }

    @cached_property
    def _cells_by_point(self) -> dict[str, dict[str, str]]:
        """Cell ids at each point, by arm."""
        cells: dict[str, dict[str, str]] = {}
        for cell in self.cells:
            cells.setdefault(_point_key(cell.point), {})[cell.arm] = cell.id
        return cells

    def style(self, arm: str) -> PlotStyle:
        """Line style of an arm, the same in every figure. The control has the last one, gray."""
        if arm == self.scenario.control:
            return plot_style(7)
        index = self.treatment_arms.index(arm)
        return plot_style(index if index < 7 else index + 1)

    def legend(self, arms: Sequence[str]) -> tuple[LegendEntry, ...]:
        """Legend of arms; empty for a single arm."""
        return tuple(LegendEntry(arm, self.style(arm)) for arm in arms) if len(arms) > 1 else ()

    @cached_property
    def control_record(self) -> CellResult | None:
        """Result of the control; None in a sweep or without another arm."""
        name = self.scenario.control
        if name is None or len(self.points) > 1 or len(self.arms) < 2:
            return None
        return self.record(name)

    @cached_property
    def drift_control(self) -> CellResult | None:
        """Result of the control if it has the metric `mean_value`, else None."""
        record = self.control_record
        return record if record is not None and self.mean_value_components(record) else None

    @staticmethod
    def mean_value_components(record: CellResult) -> list[str]:
        """Names of the components of the metric `mean_value`; empty if it is not recorded."""
        try:
            return record.stage().components("mean_value")
        except KeyError:
            return []

    def drift_arms(self) -> list[str]:
        """Treatment arms with as many value dimensions as the control."""
        assert self.drift_control is not None
        num_values = len(self.mean_value_components(self.drift_control))
        return [
            arm
            for arm in self.treatment_arms
            if len(self.mean_value_components(self.record(arm))) == num_values
        ]

    def mean_value_difference(
        self, arm: str, dimension: int
    ) -> Float[np.ndarray, "replicate round"]:
        """Mean value of an arm minus that of the control, in one dimension."""
        assert self.drift_control is not None
        name = self.mean_value_components(self.drift_control)[dimension]
        return self.record(arm).by_replicate(name) - self.drift_control.by_replicate(name)

    @cached_property
    def dimensions_by_drift(self) -> list[int]:
        """Value dimensions by decreasing drift of the arms from the control."""
        assert self.drift_control is not None
        dimensions = range(len(self.mean_value_components(self.drift_control)))
        drift = {
            dimension: max(
                _finite_or_zero(abs(self.mean_value_difference(arm, dimension)[:, -1].mean()))
                for arm in self.drift_arms()
            )
            for dimension in dimensions
        }
        return sorted(dimensions, key=lambda dimension: -drift[dimension])

    @property
    def top_drift_dimensions(self) -> list[int]:
        """The three dimensions with the largest drift, in their own order."""
        return sorted(self.dimensions_by_drift[:3])


def _point_key(point: Mapping[str, Any]) -> str:
    return json.dumps(dict(point), sort_keys=True)


def _finite_or_zero(x: float) -> float:
    return x if np.isfinite(x) else 0.0


def value_label(record: CellResult, dimension: int) -> str:
    """Name of a value dimension."""
    names = record.value_names
    return names[dimension] if dimension < len(names) else f"value {dimension + 1}"


def metric_label(name: str, record: CellResult) -> str:
    """Label of a metric; components of `mean_value` have the name of the value dimension."""
    if name.startswith("mean_value["):
        return f"mean value: {value_label(record, int(name[11:-1]))}"
    return name.replace("_", " ")


SUPERSCRIPT_DIGITS = str.maketrans("+-0123456789", "⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def format_number(x: float | None, digits: int = 4) -> str:
    """Number with significant digits, a minus sign (U+2212), and superscript powers of ten."""
    if x is None or np.isnan(x):
        return "not a number"
    if np.isinf(x):
        return "∞" if x > 0 else "−∞"
    mantissa, _, power = f"{x:.{digits}g}".partition("e")
    text = mantissa.replace("-", "−")
    return f"{text}×10{str(int(power)).translate(SUPERSCRIPT_DIGITS)}" if power else text


def format_interval(estimate: IntervalEstimate, template: str = "{} ({} to {})") -> str:
    """Estimate and interval, rounded to about a twentieth of the interval's width."""
    value, low, high = estimate.value, estimate.low, estimate.high
    if not np.isfinite([low, high]).all() or low == high:
        return format_number(value)
    magnitude = max(abs(low), abs(high))
    if not 1e-4 <= magnitude < 1e6 or high - low < 1e-6 * magnitude:
        return template.format(*(format_number(x, 3) for x in (value, low, high)))
    decimals = max(0, int(np.ceil(-np.log10((high - low) / 20.0))))
    return template.format(*(f"{x:.{decimals}f}".replace("-", "−") for x in (value, low, high)))
