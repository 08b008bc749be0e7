"""What pictures are made from: cells that were played as arms, and what was recorded in them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from mores.analysis.intervals import Estimate
from mores.experiments.results.cell_result import Record
from mores.experiments.scenario.cell import Cell
from mores.experiments.scenario.specification import Scenario
from mores.report.figures.rendering import Entry
from mores.report.figures.theme import Look, look


@dataclasses.dataclass(frozen=True)
class Shown:
    """The arms of a run, at one point or at all points of a sweep.

    Attributes:
        scenario: what was run.
        cells: those that were played as arms: no draws of uncertain parameters.
        records: of them, by cell id.
    """

    scenario: Scenario
    cells: tuple[Cell, ...]
    records: Mapping[str, Record]

    @classmethod
    def of(cls, scenario: Scenario, cells: Sequence[Cell], records: Mapping[str, Record]) -> Shown:
        """What there is to be shown of a run."""
        return cls(scenario, tuple(c for c in cells if c.purpose == "arm"), records)

    @cached_property
    def points(self) -> list[Mapping[str, Any]]:
        """The points of the sweep; one, without paths, where there is none."""
        return list({_key(cell.point): cell.point for cell in self.cells}.values())

    @property
    def arms(self) -> list[str]:
        """Their names, in the scenario's order."""
        return list(dict.fromkeys(cell.arm for cell in self.cells))

    @property
    def others(self) -> list[str]:
        """The arms that are compared with the control."""
        return [arm for arm in self.arms if arm != self.scenario.control]

    @property
    def replicates(self) -> int:
        """How many there are in every cell."""
        return len(np.unique(self.records[self.cells[0].id].replicate))

    def cell(self, arm: str) -> Cell:
        """The first cell of an arm: the only one where there is no sweep."""
        return next(cell for cell in self.cells if cell.arm == arm)

    def record(self, arm: str) -> Record:
        """The record of an arm's first cell."""
        return self.records[self.cell(arm).id]

    def at(self, point: Mapping[str, Any]) -> dict[str, Record]:
        """The records of the arms at a point, by arm."""
        return {arm: self.records[cell] for arm, cell in self._beside[_key(point)].items()}

    @cached_property
    def _beside(self) -> dict[str, dict[str, str]]:
        """The cells at each point, by arm."""
        beside: dict[str, dict[str, str]] = {}
        for cell in self.cells:
            beside.setdefault(_key(cell.point), {})[cell.arm] = cell.id
        return beside

    def look(self, arm: str) -> Look:
        """How an arm is drawn: alike in every figure. The control comes last, in grey."""
        if arm == self.scenario.control:
            return look(7)
        number = self.others.index(arm)
        return look(number if number < 7 else number + 1)

    def legend(self, arms: Sequence[str]) -> tuple[Entry, ...]:
        """Their names and looks; none for one arm alone."""
        return tuple(Entry(arm, self.look(arm)) for arm in arms) if len(arms) > 1 else ()

    @cached_property
    def twin(self) -> Record | None:
        """The control's record, where there is one point and another arm."""
        name = self.scenario.control
        if name is None or len(self.points) > 1 or len(self.arms) < 2:
            return None
        return self.record(name)

    @cached_property
    def control(self) -> Record | None:
        """The twin, where drift from it can be told, for people's values are measured."""
        return self.twin if self.twin is not None and self.centres(self.twin) else None

    @staticmethod
    def centres(record: Record) -> list[str]:
        """The names under which the parts of the people's centre are kept."""
        try:
            return record.stage().components("centre")
        except KeyError:
            return []

    def drifters(self) -> list[str]:
        """Arms whose centre can be held against the control's."""
        assert self.control is not None
        parts = len(self.centres(self.control))
        return [arm for arm in self.others if len(self.centres(self.record(arm))) == parts]

    def apart(self, arm: str, part: int) -> Float[np.ndarray, "replicate round"]:
        """A part of an arm's centre, less the same of the control's."""
        assert self.control is not None
        name = self.centres(self.control)[part]
        return self.record(arm).by_replicate(name) - self.control.by_replicate(name)

    @cached_property
    def drifted(self) -> list[int]:
        """The value dimensions, those along which arms drifted most from the control first."""
        assert self.control is not None
        parts = range(len(self.centres(self.control)))
        size = {
            part: max(_or_zero(abs(self.apart(a, part)[:, -1].mean())) for a in self.drifters())
            for part in parts
        }
        return sorted(parts, key=lambda part: -size[part])

    @property
    def directions(self) -> list[int]:
        """The three dimensions of most drift, in their own order."""
        return sorted(self.drifted[:3])


def _key(point: Mapping[str, Any]) -> str:
    return json.dumps(dict(point), sort_keys=True)


def _or_zero(x: float) -> float:
    return x if np.isfinite(x) else 0.0


def value_name(record: Record, part: int) -> str:
    """What a value dimension is called."""
    names = record.value_names
    return names[part] if part < len(names) else f"value {part + 1}"


def measure_name(name: str, record: Record) -> str:
    """What a measure is called; a part of the centre by the value's name."""
    if name.startswith("centre["):
        return f"centre: {value_name(record, int(name[7:-1]))}"
    return name.replace("_", " ")


SUPERSCRIPT = str.maketrans("+-0123456789", "⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(x: float | None, digits: int = 4) -> str:
    """A number as a reader wants it: so many digits, a true minus sign, powers of ten."""
    if x is None or np.isnan(x):
        return "not a number"
    if np.isinf(x):
        return "∞" if x > 0 else "−∞"
    mantissa, _, power = f"{x:.{digits}g}".partition("e")
    told = mantissa.replace("-", "−")
    return f"{told}×10{str(int(power)).translate(SUPERSCRIPT)}" if power else told


def interval(found: Estimate, joined: str = "{} ({} to {})") -> str:
    """An estimate and its interval, with as many digits as the interval warrants."""
    value, low, high = found.value, found.low, found.high
    if not np.isfinite([low, high]).all() or low == high:
        return number(value)
    largest = max(abs(low), abs(high))
    if not 1e-4 <= largest < 1e6 or high - low < 1e-6 * largest:
        return joined.format(*(number(x, 3) for x in (value, low, high)))
    places = max(0, int(np.ceil(-np.log10((high - low) / 20.0))))  # a twentieth of its width
    return joined.format(*(f"{x:.{places}f}".replace("-", "−") for x in (value, low, high)))
