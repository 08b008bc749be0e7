"""Over a sweep: what was measured at each point, and whether it is what the formula says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mores.analysis.intervals import band
from mores.experiments.claims.claim_evaluation import figures_of
from mores.experiments.scenario.claim_inputs import arm_of
from mores.experiments.scenario.specification import Claim, Scenario
from mores.report.figures.plot_data import Shown, number
from mores.report.figures.rendering import Figure, Panel, dashed
from mores.report.figures.theme import LIGHT

MOST_FIGURES = 4
MOST_PANELS = 12
MOST_DOTS = 1000  # more would not be seen
WRITTEN = 150  # fields of a heat map in which there is room for numbers
Point = Mapping[str, Any]


class Asked(NamedTuple):
    """What a claim looks at, whatever it says about it."""

    measure: str
    arm: str
    against: str | None
    stage: str | None
    at: int | None

    def words(self, scenario: Scenario) -> str:
        """The measure, arm and round."""
        stage = scenario.stage(self.stage)
        after = scenario.rounds_in(stage) if self.at is None else self.at
        arm = f" in {self.arm}" if scenario.arms else ""
        less = f" less that in {self.against}" if self.against else ""
        return f"{self.measure}{arm}{less} after {after} rounds"


def sweep_figures(shown: Shown) -> list[Figure]:
    """Maps or lines of what claims look at, and formulas; none without a sweep."""
    if len(shown.points) < 2:
        return []
    return [*_formulas(shown), *_surfaces(shown)]


def _formulas(shown: Shown) -> list[Figure]:
    """Measured against predicted, a point of the sweep each."""
    asked = {
        (arm_of(shown.scenario, c) or "", c.measure, c.prediction, c.stage, c.at): c
        for c in shown.scenario.claims
        if c.prediction is not None
    }
    panels = []
    for (arm, measure, prediction, _, _), claim in asked.items():
        said, seen = [], []
        for point in shown.points:
            found = figures_of(claim, shown.scenario, arm, shown.at(point))
            assert found.prediction is not None
            said.append(found.prediction)
            seen.append(float(found.values.mean()))
        panels.append(_agreement(shown, arm, measure, str(prediction), said, seen))
    if not panels:
        return []
    caption = (
        f"Every point of the sweep: what was measured (mean of {shown.replicates} replicates) "
        f"against what the formula says. On the line they agree."
    )
    return [Figure("formulas", caption, tuple(panels[:MOST_PANELS]), (), (3.4, 2.9))]


def _agreement(
    shown: Shown,
    arm: str,
    measure: str,
    prediction: str,
    said: Sequence[float],
    seen: Sequence[float],
) -> Panel:
    def draw(axes: Any) -> None:
        known = np.isfinite(said) & np.isfinite(seen)
        if known.any():
            start = (float(np.array(said)[known][0]),) * 2
            axes.axline(start, slope=1, color=LIGHT["axis"], linewidth=1)
        look = shown.look(arm)
        some = np.unique(np.linspace(0, len(said) - 1, MOST_DOTS).round().astype(int))
        axes.scatter(
            np.array(said)[some],
            np.array(seen)[some],
            s=20,
            color=look.hex,
            alpha=0.8,
            linewidths=0,
        )
        axes.set(xlabel=f"{prediction} by the formula", ylabel=f"{measure} measured")
        axes.locator_params(nbins=5)

    apart = np.abs(np.subtract(seen, said))
    where = f" in {arm}" if shown.scenario.arms else ""
    title = f"{measure}{where}: {len(said)} points"
    return Panel(title, f"Largest difference from the formula: {number(float(apart.max()))}.", draw)


def _surfaces(shown: Shown) -> list[Figure]:
    """One figure for each thing that claims look at, over the swept values."""
    scenario = shown.scenario
    asked = list(
        dict.fromkeys(
            Asked(c.measure, arm_of(scenario, c) or "", c.against, c.stage, c.at)
            for c in scenario.claims
        )
    ) or [Asked(_first(shown, arm), arm, None, None, None) for arm in shown.arms]
    varied = [path for path, values in scenario.sweep.items() if len(values) > 1]
    made = []
    for what in asked[:MOST_FIGURES]:
        seen = [_effects(shown, what, point) for point in shown.points]
        draw = _lines if len(varied) == 1 else _maps
        made.append(draw(shown, what, varied, seen, f"sweep_{len(made)}"))
    return made


def _first(shown: Shown, arm: str) -> str:
    return next(iter(shown.record(arm).measures))


def _effects(shown: Shown, what: Asked, point: Point) -> np.ndarray:
    """One number a replicate at a point."""
    claim = Claim(
        says="-", kind="report", measure=what.measure, arm=what.arm, against=what.against,
        stage=what.stage, at=what.at,
    )  # fmt: skip
    found = figures_of(claim, shown.scenario, what.arm, shown.at(point))
    return found.values if found.reference is None else found.values - found.reference


def _lines(
    shown: Shown, what: Asked, varied: Sequence[str], seen: Sequence[np.ndarray], name: str
) -> Figure:
    """Over the values of one parameter, in the order of the file."""
    path = varied[0]
    values = [point[path] for point in shown.points]
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    look = shown.look(what.arm)

    def draw(axes: Any) -> None:
        middle, low, high = band(np.stack(seen, -1))
        x = np.array(values if numbers else range(len(values)), dtype=np.float64)
        order = np.argsort(x)
        axes.plot(x[order], middle[order], color=look.hex, linestyle=dashed(look), marker="o", ms=4)
        axes.fill_between(x[order], low[order], high[order], color=look.hex, alpha=0.18, lw=0)
        if not numbers:
            axes.set_xticks(x, [said(value) for value in values], rotation=25, ha="right")
        axes.set(xlabel=path, ylabel=what.measure)

    pairs = zip(values, seen, strict=True)
    told = "; ".join(f"{said(value)}: {number(float(x.mean()))}" for value, x in pairs)
    words = what.words(shown.scenario)
    caption = (
        f"{_capital(words)} over {path}. Line: mean of {shown.replicates} replicates; band: 95 % "
        f"interval of that mean (Student's t)."
    )
    return Figure(name, caption, (Panel(words, f"{told}.", draw),), (), (4.6, 2.9))


def _maps(
    shown: Shown, what: Asked, varied: Sequence[str], seen: Sequence[np.ndarray], name: str
) -> Figure:
    """Over two parameters, those with most values; a panel for each combination of the others."""
    from matplotlib.colors import Normalize

    most = sorted(varied, key=lambda path: -len(shown.scenario.sweep[path]))[:2]
    across, down = sorted(most, key=varied.index)
    rest = [path for path in varied if path not in most]
    columns, rows = (shown.scenario.sweep[path] for path in (across, down))
    means = np.array([x.mean() for x in seen])
    known = means[np.isfinite(means)]
    scale = Normalize(known.min(), known.max()) if len(known) else Normalize(0, 1)
    fields: dict[str, np.ndarray] = {}
    for point, value in zip(shown.points, means, strict=True):
        key = ", ".join(f"{path} = {said(point[path])}" for path in rest)
        field = fields.setdefault(key, np.full((len(rows), len(columns)), np.nan))
        field[rows.index(point[down]), columns.index(point[across])] = value

    def panel(title: str, field: np.ndarray) -> Panel:
        def draw(axes: Any) -> None:
            axes.pcolormesh(field, cmap="viridis", norm=scale, rasterized=field.size > WRITTEN)
            if field.size <= WRITTEN:
                for (i, j), value in np.ndenumerate(field):
                    dark = scale(value) < 0.6
                    text = f"{value:.3g}".replace("-", "−")
                    axes.text(j + 0.5, i + 0.5, text, ha="center", va="center", fontsize=8,
                              color="#ffffff" if dark else "#000000")  # fmt: skip
            _named(axes.set_xticks, columns)
            _named(axes.set_yticks, rows)
            axes.grid(False)
            axes.set(xlabel=across, ylabel=down)

        ends = f"From {number(np.nanmin(field))} to {number(np.nanmax(field))}"
        return Panel(title or what.measure, f"{ends}; brighter is more.", draw)

    panels = [panel(title, field) for title, field in fields.items()]
    caption = (
        f"{_capital(what.words(shown.scenario))} at every point of the sweep (mean of "
        f"{shown.replicates} replicates); brighter is more, from {number(scale.vmin)} to "
        f"{number(scale.vmax)}."
    )
    if len(panels) > MOST_PANELS:
        caption += f" The first {MOST_PANELS} of {len(panels)} combinations of {', '.join(rest)}."
    return Figure(name, caption, tuple(panels[:MOST_PANELS]), (), (3.4, 2.7))


def _named(set_ticks: Any, values: Sequence[Any], most: int = 8) -> None:
    chosen = np.unique(np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int))
    set_ticks(chosen + 0.5, [said(values[i]) for i in chosen])


def said(value: Any) -> str:
    """A swept value; of a part with parameters its kind."""
    if isinstance(value, Mapping) and "kind" in value:
        return str(value["kind"])
    if isinstance(value, float):
        return number(value)
    text = str(value)
    return text if len(text) <= 24 else f"{text[:23]}…"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
