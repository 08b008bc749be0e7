"""What pictures are made from: cells that were played as arms, and what was recorded in them."""

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
    """The arms of a run, at one point or at all points of a sweep.

    Attributes:
        scenario: what was run.
        cells: those that were played as arms: no draws of uncertain parameters.
        records: of them, by cell id.
    """

    scenario: Scenario
    cells: tuple[Cell, ...]
    records: Mapping[str, CellResult]

    @classmethod
    def from_run(
        cls, scenario: Scenario, cells: Sequence[Cell], records: Mapping[str, CellResult]
    ) -> ReportData:
        """What there is to be shown of a run."""
        return cls(scenario, tuple(c for c in cells if c.purpose == "arm"), records)

    @cached_property
    def points(self) -> list[Mapping[str, Any]]:
        """The points of the sweep; one, without paths, where there is none."""
        return list({_point_key(cell.point): cell.point for cell in self.cells}.values())

    @property
    def arms(self) -> list[str]:
        """Their names, in the scenario's order."""
        return list(dict.fromkeys(cell.arm for cell in self.cells))

    @property
    def treatment_arms(self) -> list[str]:
        """The arms that are compared with the control."""
        return [arm for arm in self.arms if arm != self.scenario.control]

    @property
    def replicates(self) -> int:
        """How many there are in every cell."""
        return len(np.unique(self.records[self.cells[0].id].replicate))

    def cell(self, arm: str) -> Cell:
        """The first cell of an arm: the only one where there is no sweep."""
        return next(cell for cell in self.cells if cell.arm == arm)

    def record(self, arm: str) -> CellResult:
        """The record of an arm's first cell."""
        return self.records[self.cell(arm).id]

    def records_at(self, point: Mapping[str, Any]) -> dict[str, CellResult]:
        """The records of the arms at a point, by arm."""
        return {
            arm: self.records[cell] for arm, cell in self._cells_by_point[_point_key(point)].items()
        }

    @cached_property
    def _cells_by_point(self) -> dict[str, dict[str, str]]:
        """The cells at each point, by arm."""
        beside: dict[str, dict[str, str]] = {}
        for cell in self.cells:
            beside.setdefault(_point_key(cell.point), {})[cell.arm] = cell.id
        return beside

    def style(self, arm: str) -> PlotStyle:
        """How an arm is drawn: alike in every figure. The control comes last, in grey."""
        if arm == self.scenario.control:
            return plot_style(7)
        number = self.treatment_arms.index(arm)
        return plot_style(number if number < 7 else number + 1)

    def legend(self, arms: Sequence[str]) -> tuple[LegendEntry, ...]:
        """Their names and looks; none for one arm alone."""
        return tuple(LegendEntry(arm, self.style(arm)) for arm in arms) if len(arms) > 1 else ()

    @cached_property
    def control_record(self) -> CellResult | None:
        """The control's record, where there is one point and another arm."""
        name = self.scenario.control
        if name is None or len(self.points) > 1 or len(self.arms) < 2:
            return None
        return self.record(name)

    @cached_property
    def drift_control(self) -> CellResult | None:
        """The twin, where drift from it can be told, for people's values are measured."""
        return (
            self.control_record
            if self.control_record is not None and self.mean_value_components(self.control_record)
            else None
        )

    @staticmethod
    def mean_value_components(record: CellResult) -> list[str]:
        """The names under which the parts of the people's centre are kept."""
        try:
            return record.stage().components("centre")
        except KeyError:
            return []

    def drift_arms(self) -> list[str]:
        """Arms whose centre can be held against the control's."""
        assert self.drift_control is not None
        parts = len(self.mean_value_components(self.drift_control))
        return [
            arm
            for arm in self.treatment_arms
            if len(self.mean_value_components(self.record(arm))) == parts
        ]

    def mean_value_difference(
        self, arm: str, dimension: int
    ) -> Float[np.ndarray, "replicate round"]:
        """A part of an arm's centre, less the same of the control's."""
        assert self.drift_control is not None
        name = self.mean_value_components(self.drift_control)[dimension]
        return self.record(arm).by_replicate(name) - self.drift_control.by_replicate(name)

    @cached_property
    def dimensions_by_drift(self) -> list[int]:
        """The value dimensions, those along which arms drifted most from the control first."""
        assert self.drift_control is not None
        parts = range(len(self.mean_value_components(self.drift_control)))
        size = {
            part: max(
                _finite_or_zero(abs(self.mean_value_difference(a, part)[:, -1].mean()))
                for a in self.drift_arms()
            )
            for part in parts
        }
        return sorted(parts, key=lambda part: -size[part])

    @property
    def top_drift_dimensions(self) -> list[int]:
        """The three dimensions of most drift, in their own order."""
        return sorted(self.dimensions_by_drift[:3])


def _point_key(point: Mapping[str, Any]) -> str:
    return json.dumps(dict(point), sort_keys=True)


def _finite_or_zero(x: float) -> float:
    return x if np.isfinite(x) else 0.0


def value_label(record: CellResult, dimension: int) -> str:
    """What a value dimension is called."""
    names = record.value_names
    return names[dimension] if dimension < len(names) else f"value {dimension + 1}"


def metric_label(name: str, record: CellResult) -> str:
    """What a measure is called; a part of the centre by the value's name."""
    if name.startswith("centre["):
        return f"centre: {value_label(record, int(name[7:-1]))}"
    return name.replace("_", " ")


SUPERSCRIPT_DIGITS = str.maketrans("+-0123456789", "⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def format_number(x: float | None, digits: int = 4) -> str:
    """A number as a reader wants it: so many digits, a true minus sign, powers of ten."""
    if x is None or np.isnan(x):
        return "not a number"
    if np.isinf(x):
        return "∞" if x > 0 else "−∞"
    mantissa, _, power = f"{x:.{digits}g}".partition("e")
    told = mantissa.replace("-", "−")
    return f"{told}×10{str(int(power)).translate(SUPERSCRIPT_DIGITS)}" if power else told


def format_interval(estimate: IntervalEstimate, template: str = "{} ({} to {})") -> str:
    """An estimate and its interval, with as many digits as the interval warrants."""
    value, low, high = estimate.value, estimate.low, estimate.high
    if not np.isfinite([low, high]).all() or low == high:
        return format_number(value)
    largest = max(abs(low), abs(high))
    if not 1e-4 <= largest < 1e6 or high - low < 1e-6 * largest:
        return template.format(*(format_number(x, 3) for x in (value, low, high)))
    places = max(0, int(np.ceil(-np.log10((high - low) / 20.0))))  # a twentieth of its width
    return template.format(*(f"{x:.{places}f}".replace("-", "−") for x in (value, low, high)))
