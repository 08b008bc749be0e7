"""Pictures of a run: how far each arm went from its twin, every measure, the people, the formulas.

Bands are 95 % intervals of the mean over replicates, at each round by itself (Student's t).
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np

from mores.analysis.intervals import band
from mores.analysis.verdicts import Verdict
from mores.run.cells import Record
from mores.run.claims import point_key
from mores.scenario.cell import Cell
from mores.scenario.model import Scenario

LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))  # equal arms overlap


@dataclasses.dataclass(frozen=True)
class Figure:
    """A picture: its file name, what it shows, and the PNG itself."""

    name: str
    caption: str
    png: bytes


def figures(
    scenario: Scenario,
    cells: Sequence[Cell],
    records: Mapping[str, Record],
    judged: Sequence[Verdict],
) -> list[Figure]:
    """The pictures that this run has something to show for."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    made: list[Figure] = []
    style = resources.files("mores.run") / "mores.mplstyle"
    with resources.as_file(style) as path, plt.style.context(str(path)):
        points = {point_key(cell): cell.point for cell in cells}
        if len(points) == 1:
            made += _drift(scenario, cells, records)
            made += _measures(scenario, cells, records)
            made += _people(cells, records)
        else:
            made += _formulas(scenario, cells, records)
        plt.close("all")
    return made


def _drift(
    scenario: Scenario, cells: Sequence[Cell], records: Mapping[str, Record]
) -> list[Figure]:
    """Where each arm's centre is, less where the control's is: which way, and how far."""
    if scenario.control is None or len(cells) < 2:
        return []
    control = next(records[cell.id] for cell in cells if cell.arm == scenario.control)
    parts = [name for name in control.measures if name.startswith("centre[")][:3]
    if not parts:
        return []
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(
        1, len(parts), figsize=(4.4 * len(parts), 3.6), squeeze=False, layout="constrained"
    )
    for i, (part, axes) in enumerate(zip(parts, grid[0], strict=True)):
        for cell in cells:
            if cell.arm != scenario.control and part in records[cell.id].measures:
                record = records[cell.id]
                apart = record.by_replicate(part) - control.by_replicate(part)
                _line(axes, record.rounds, apart, cell.arm)
        names = control.value_names
        axes.set_title(names[i] if i < len(names) else part)
        axes.set_xlabel("round")
    grid[0, 0].set_ylabel(f"centre, less that of “{scenario.control}”")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)))
    n = len(np.unique(control.replicate))
    caption = (
        f"Causal drift: where the centre of an arm's people is, less where it is in its twin "
        f"“{scenario.control}”, which has the same people and the same chance events. "
        f"In value units. Line: mean of {n} replicates; band: 95 % interval of that mean."
    )
    return [Figure("drift.png", caption, _png(figure))]


def _measures(
    scenario: Scenario, cells: Sequence[Cell], records: Mapping[str, Record]
) -> list[Figure]:
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(n for cell in cells for n in records[cell.id].measures))
    names = [n for n in names if any(_known(records[c.id], n) for c in cells)]
    if not names or len(records[cells[0].id].rounds) < 2:
        return []
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(3.6 * columns, 2.6 * rows), squeeze=False, layout="constrained"
    )
    for name, axes in zip(names, grid.flat, strict=False):
        for cell in cells:
            record = records[cell.id]
            if name in record.measures:
                _line(axes, record.rounds, record.by_replicate(name), cell.arm)
        axes.set_title(name.replace("_", " "))
    for axes in list(grid.flat)[len(names) :]:
        axes.set_visible(False)
    for axes in grid[-1]:
        axes.set_xlabel("round")
    if len(cells) > 1:
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(cells)))
    n = len(np.unique(records[cells[0].id].replicate))
    caption = f"Every measure in every arm. Line: mean of {n} replicates; band: 95 % interval."
    return [Figure("measures.png", caption, _png(figure))]


def _people(cells: Sequence[Cell], records: Mapping[str, Record]) -> list[Figure]:
    """Where the people of the first sampled world stand at the start and at the end."""
    shown = [cell for cell in cells if "values" in records[cell.id].hidden]
    if not shown or records[shown[0].id].hidden["values"].shape[-1] < 1:
        return []
    import matplotlib.pyplot as plt

    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure, grid = plt.subplots(
        rows,
        columns,
        figsize=(3.4 * columns, 3.2 * rows),
        squeeze=False,
        layout="constrained",
        sharex=True,
        sharey=True,
    )
    for cell, axes in zip(shown, grid.flat, strict=False):
        values = records[cell.id].hidden["values"][0]  # round agent value
        start, end = values[0], values[-1]
        if values.shape[-1] == 1:
            axes.hist([start[:, 0], end[:, 0]], bins=30, color=["#bbbbbb", "#0072B2"])
        else:
            _dots(axes, start[:, :2], "#bbbbbb", "start")
            _dots(axes, end[:, :2], "#0072B2", "end")
        axes.set_title(cell.arm)
    for axes in list(grid.flat)[len(shown) :]:
        axes.set_visible(False)
    names = records[shown[0].id].value_names
    figure.supxlabel(names[0])
    figure.supylabel(names[1] if len(names) > 1 else "people")
    caption = (
        "People of one world at the start (grey) and at the end (blue); the larger a dot, the "
        "more people there. One replicate: an illustration, not an estimate."
    )
    return [Figure("people.png", caption, _png(figure))]


def _formulas(
    scenario: Scenario, cells: Sequence[Cell], records: Mapping[str, Record]
) -> list[Figure]:
    """Over a sweep: what was measured against what the formula says."""
    pairs = {(c.measure, c.prediction, c.at) for c in scenario.claims if c.prediction is not None}
    if not pairs:
        return []
    import matplotlib.pyplot as plt

    ordered = sorted(pairs, key=str)
    figure, grid = plt.subplots(
        1, len(ordered), figsize=(4.2 * len(ordered), 3.6), squeeze=False, layout="constrained"
    )
    for (measure, prediction, at), axes in zip(ordered, grid[0], strict=True):
        at = scenario.rounds if at is None else at
        said, seen = [], []
        for cell in cells:
            record = records[cell.id]
            formula = record.predictions.get(prediction)
            if formula is not None:
                said.append(formula if isinstance(formula, (int, float)) else formula[at])
                seen.append(record.by_replicate(measure)[:, record.rounds.index(at)].mean())
        axes.axline((0, 0), slope=1, color="#999999", linewidth=1)
        axes.scatter(said, seen, s=18)
        axes.set(xlabel=f"{prediction} by the formula", ylabel=f"{measure} measured")
        axes.set_title(f"{measure}, {len(said)} points")
    caption = "Every point of the sweep: measured (mean over replicates) against the formula."
    return [Figure("formulas.png", caption, _png(figure))]


def _known(record: Record, name: str) -> bool:
    return name in record.measures and bool(np.isfinite(record.measures[name]).any())


def _dots(axes: Any, places: np.ndarray, color: str, label: str) -> None:
    """A dot where people stand, its area by how many."""
    where, many = np.unique(places, axis=0, return_counts=True)
    axes.scatter(*where.T, s=5 * many, color=color, label=label, linewidths=0, alpha=0.6)


def _line(axes: Any, rounds: Sequence[int], rows: np.ndarray, label: str) -> None:
    """Mean and band, at the rounds where every replicate has a number."""
    known = np.isfinite(rows).all(0)
    middle, low, high = band(rows[:, known])
    at = np.array(rounds)[known]
    style = LINES[len(axes.get_lines()) % len(LINES)]
    (line,) = axes.plot(at, middle, label=label, linestyle=style)
    axes.fill_between(at, low, high, color=line.get_color(), alpha=0.2, linewidth=0)


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white")
    return buffer.getvalue()
