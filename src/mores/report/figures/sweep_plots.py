"""Over a sweep: what was measured at each point, and whether it is what the formula says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mores.analysis.intervals import confidence_band
from mores.experiments.claims.claim_evaluation import make_claim_data
from mores.experiments.scenario.claim_inputs import claim_arm
from mores.experiments.scenario.specification import Claim, Scenario
from mores.report.figures.plot_data import ReportData, format_number
from mores.report.figures.rendering import FigureSpec, PanelSpec, linestyle
from mores.report.figures.theme import LIGHT_COLORS

MAX_FIGURES = 4
MAX_PANELS = 12
MAX_SCATTER_POINTS = 1000  # more would not be seen
MAX_LABELED_CELLS = 150  # fields of a heat map in which there is room for numbers
SweepPoint = Mapping[str, Any]


class ClaimQuery(NamedTuple):
    """What a claim looks at, whatever it says about it."""

    metric: str
    arm: str
    compare_to: str | None
    stage: str | None
    at: int | None

    def describe(self, scenario: Scenario) -> str:
        """The measure, arm and round."""
        stage = scenario.stage(self.stage)
        after = scenario.rounds_per_episode(stage) if self.at is None else self.at
        arm = f" in {self.arm}" if scenario.arms else ""
        less = f" less that in {self.compare_to}" if self.compare_to else ""
        return f"{self.metric}{arm}{less} after {after} rounds"


def sweep_figures(data: ReportData) -> list[FigureSpec]:
    """Maps or lines of what claims look at, and formulas; none without a sweep."""
    if len(data.points) < 2:
        return []
    return [*_analytic_figures(data), *_metric_figures(data)]


def _analytic_figures(data: ReportData) -> list[FigureSpec]:
    """Measured against predicted, a point of the sweep each."""
    asked = {
        (claim_arm(data.scenario, c) or "", c.metric, c.analytic, c.stage, c.at_round): c
        for c in data.scenario.claims
        if c.analytic is not None
    }
    panels = []
    for (arm, measure, prediction, _, _), claim in asked.items():
        said, seen = [], []
        for point in data.points:
            found = make_claim_data(claim, data.scenario, arm, data.records_at(point))
            assert found.analytic_value is not None
            said.append(found.analytic_value)
            seen.append(float(found.values.mean()))
        panels.append(_agreement_panel(data, arm, measure, str(prediction), said, seen))
    if not panels:
        return []
    caption = (
        f"Every point of the sweep: what was measured (mean of {data.replicates} replicates) "
        f"against what the formula says. On the line they agree."
    )
    return [FigureSpec("formulas", caption, tuple(panels[:MAX_PANELS]), (), (3.4, 2.9))]


def _agreement_panel(
    data: ReportData,
    arm: str,
    metric: str,
    analytic: str,
    analytic_values: Sequence[float],
    measured_values: Sequence[float],
) -> PanelSpec:
    def draw(axes: Any) -> None:
        known = np.isfinite(analytic_values) & np.isfinite(measured_values)
        if known.any():
            start = (float(np.array(analytic_values)[known][0]),) * 2
            axes.axline(start, slope=1, color=LIGHT_COLORS["axis"], linewidth=1)
        look = data.style(arm)
        some = np.unique(
            np.linspace(0, len(analytic_values) - 1, MAX_SCATTER_POINTS).round().astype(int)
        )
        axes.scatter(
            np.array(analytic_values)[some],
            np.array(measured_values)[some],
            s=20,
            color=look.hex_color,
            alpha=0.8,
            linewidths=0,
        )
        axes.set(xlabel=f"{analytic} by the formula", ylabel=f"{metric} measured")
        axes.locator_params(nbins=5)

    apart = np.abs(np.subtract(measured_values, analytic_values))
    where = f" in {arm}" if data.scenario.arms else ""
    title = f"{metric}{where}: {len(analytic_values)} points"
    return PanelSpec(
        title, f"Largest difference from the formula: {format_number(float(apart.max()))}.", draw
    )


def _metric_figures(data: ReportData) -> list[FigureSpec]:
    """One figure for each thing that claims look at, over the swept values."""
    scenario = data.scenario
    asked = list(
        dict.fromkeys(
            ClaimQuery(c.metric, claim_arm(scenario, c) or "", c.compare_to, c.stage, c.at_round)
            for c in scenario.claims
        )
    ) or [ClaimQuery(_first_metric(data, arm), arm, None, None, None) for arm in data.arms]
    varied = [path for path, values in scenario.sweep.items() if len(values) > 1]
    made = []
    for what in asked[:MAX_FIGURES]:
        seen = [_replicate_values(data, what, point) for point in data.points]
        draw = _line_figure if len(varied) == 1 else _heatmap_figure
        made.append(draw(data, what, varied, seen, f"sweep_{len(made)}"))
    return made


def _first_metric(data: ReportData, arm: str) -> str:
    return next(iter(data.record(arm).metrics))


def _replicate_values(data: ReportData, query: ClaimQuery, point: SweepPoint) -> np.ndarray:
    """One number a replicate at a point."""
    claim = Claim(
        statement="-", kind="report", metric=query.metric, arm=query.arm, compare_to=query.compare_to,
        stage=query.stage, at_round=query.at,
    )  # fmt: skip
    found = make_claim_data(claim, data.scenario, query.arm, data.records_at(point))
    return found.values if found.reference is None else found.values - found.reference


def _line_figure(
    data: ReportData,
    query: ClaimQuery,
    swept_paths: Sequence[str],
    samples: Sequence[np.ndarray],
    name: str,
) -> FigureSpec:
    """Over the values of one parameter, in the order of the file."""
    path = swept_paths[0]
    values = [point[path] for point in data.points]
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    look = data.style(query.arm)

    def draw(axes: Any) -> None:
        middle, low, high = confidence_band(np.stack(samples, -1))
        x = np.array(values if numbers else range(len(values)), dtype=np.float64)
        order = np.argsort(x)
        axes.plot(
            x[order],
            middle[order],
            color=look.hex_color,
            linestyle=linestyle(look),
            marker="o",
            ms=4,
        )
        axes.fill_between(x[order], low[order], high[order], color=look.hex_color, alpha=0.18, lw=0)
        if not numbers:
            axes.set_xticks(x, [format_value(value) for value in values], rotation=25, ha="right")
        axes.set(xlabel=path, ylabel=query.metric)

    pairs = zip(values, samples, strict=True)
    told = "; ".join(
        f"{format_value(value)}: {format_number(float(x.mean()))}" for value, x in pairs
    )
    words = query.describe(data.scenario)
    caption = (
        f"{_capitalize(words)} over {path}. Line: mean of {data.replicates} replicates; band: 95 % "
        f"interval of that mean (Student's t)."
    )
    return FigureSpec(name, caption, (PanelSpec(words, f"{told}.", draw),), (), (4.6, 2.9))


def _heatmap_figure(
    data: ReportData,
    query: ClaimQuery,
    swept_paths: Sequence[str],
    samples: Sequence[np.ndarray],
    name: str,
) -> FigureSpec:
    """Over two parameters, those with most values; a panel for each combination of the others."""
    from matplotlib.colors import Normalize

    most = sorted(swept_paths, key=lambda path: -len(data.scenario.sweep[path]))[:2]
    across, down = sorted(most, key=swept_paths.index)
    rest = [path for path in swept_paths if path not in most]
    columns, rows = (data.scenario.sweep[path] for path in (across, down))
    means = np.array([x.mean() for x in samples])
    known = means[np.isfinite(means)]
    scale = Normalize(known.min(), known.max()) if len(known) else Normalize(0, 1)
    fields: dict[str, np.ndarray] = {}
    for point, value in zip(data.points, means, strict=True):
        key = ", ".join(f"{path} = {format_value(point[path])}" for path in rest)
        field = fields.setdefault(key, np.full((len(rows), len(columns)), np.nan))
        field[rows.index(point[down]), columns.index(point[across])] = value

    def panel(title: str, field: np.ndarray) -> PanelSpec:
        def draw(axes: Any) -> None:
            axes.pcolormesh(
                field, cmap="viridis", norm=scale, rasterized=field.size > MAX_LABELED_CELLS
            )
            if field.size <= MAX_LABELED_CELLS:
                for (i, j), value in np.ndenumerate(field):
                    dark = scale(value) < 0.6
                    text = f"{value:.3g}".replace("-", "−")
                    axes.text(j + 0.5, i + 0.5, text, ha="center", va="center", fontsize=8,
                              color="#ffffff" if dark else "#000000")  # fmt: skip
            _set_tick_labels(axes.set_xticks, columns)
            _set_tick_labels(axes.set_yticks, rows)
            axes.grid(False)
            axes.set(xlabel=across, ylabel=down)

        ends = f"From {format_number(np.nanmin(field))} to {format_number(np.nanmax(field))}"
        return PanelSpec(title or query.metric, f"{ends}; brighter is more.", draw)

    panels = [panel(title, field) for title, field in fields.items()]
    caption = (
        f"{_capitalize(query.describe(data.scenario))} at every point of the sweep (mean of "
        f"{data.replicates} replicates); brighter is more, from {format_number(scale.vmin)} to "
        f"{format_number(scale.vmax)}."
    )
    if len(panels) > MAX_PANELS:
        caption += f" The first {MAX_PANELS} of {len(panels)} combinations of {', '.join(rest)}."
    return FigureSpec(name, caption, tuple(panels[:MAX_PANELS]), (), (3.4, 2.7))


def _set_tick_labels(set_ticks: Any, values: Sequence[Any], max_ticks: int = 8) -> None:
    chosen = np.unique(
        np.linspace(0, len(values) - 1, min(max_ticks, len(values))).round().astype(int)
    )
    set_ticks(chosen + 0.5, [format_value(values[i]) for i in chosen])


def format_value(value: Any) -> str:
    """A swept value; of a part with parameters its kind."""
    if isinstance(value, Mapping) and "kind" in value:
        return str(value["kind"])
    if isinstance(value, float):
        return format_number(value)
    text = str(value)
    return text if len(text) <= 24 else f"{text[:23]}…"


def _capitalize(text: str) -> str:
    return text[:1].upper() + text[1:]
