"""Figures of a sweep: metrics at each point, and their agreement with analytic values."""

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
MAX_SCATTER_POINTS = 1000
MAX_LABELED_CELLS = 150  # cells of a heat map with number labels
SweepPoint = Mapping[str, Any]


class ClaimQuery(NamedTuple):
    """Quantity of a claim: metric, arm, reference arm, stage and round."""

    metric: str
    arm: str
    compare_to: str | None
    stage: str | None
    at_round: int | None

    def describe(self, scenario: Scenario) -> str:
        """Text with metric, arm and round."""
        stage = scenario.stage(self.stage)
        rounds = scenario.rounds_per_episode(stage) if self.at_round is None else self.at_round
        arm = f" in {self.arm}" if scenario.arms else ""
        reference = f" minus {self.compare_to}" if self.compare_to else ""
        return f"{self.metric}{arm}{reference} after {rounds} rounds"


def sweep_figures(data: ReportData) -> list[FigureSpec]:
    """Agreement with analytic values, then lines or heat maps; empty without a sweep."""
    if len(data.points) < 2:
        return []
    return [*_analytic_figures(data), *_metric_figures(data)]


def _analytic_figures(data: ReportData) -> list[FigureSpec]:
    """Figure of simulated against analytic values at the points of the sweep."""
    claims_by_key = {
        (claim_arm(data.scenario, c) or "", c.metric, c.analytic, c.stage, c.at_round): c
        for c in data.scenario.claims
        if c.analytic is not None
    }
    panels = []
    for (arm, metric, analytic, _, _), claim in claims_by_key.items():
        x_values, y_values = [], []
        for point in data.points:
            claim_data = make_claim_data(claim, data.scenario, arm, data.records_at(point))
            assert claim_data.analytic_value is not None
            x_values.append(claim_data.analytic_value)
            y_values.append(float(claim_data.values.mean()))
        panels.append(_agreement_panel(data, arm, metric, str(analytic), x_values, y_values))
    if not panels:
        return []
    caption = (
        f"Simulated (mean of {data.replicates} replicates) against analytic values at every "
        "point of the sweep. Line: equality."
    )
    return [FigureSpec("analytic", caption, tuple(panels[:MAX_PANELS]), (), (3.4, 2.9))]


def _agreement_panel(
    data: ReportData,
    arm: str,
    metric: str,
    analytic: str,
    analytic_values: Sequence[float],
    measured_values: Sequence[float],
) -> PanelSpec:
    x, y = np.array(analytic_values), np.array(measured_values)

    def draw(axes: Any) -> None:
        is_finite = np.isfinite(x) & np.isfinite(y)
        if is_finite.any():
            origin = (float(x[is_finite][0]),) * 2
            axes.axline(origin, slope=1, color=LIGHT_COLORS["axis"], linewidth=1)
        chosen = np.unique(np.linspace(0, len(x) - 1, MAX_SCATTER_POINTS).round().astype(int))
        color = data.style(arm).hex_color
        axes.scatter(x[chosen], y[chosen], s=20, color=color, alpha=0.8, linewidths=0)
        axes.set(xlabel=f"{analytic}, analytic", ylabel=f"{metric}, simulated")
        axes.locator_params(nbins=5)

    title = f"{metric}{f' in {arm}' if data.scenario.arms else ''}: {len(x)} points"
    difference = format_number(float(np.abs(y - x).max()))
    return PanelSpec(title, f"Largest difference from the analytic value: {difference}.", draw)


def _metric_figures(data: ReportData) -> list[FigureSpec]:
    """One figure for each quantity of the claims; without claims, for the first metric per arm."""
    scenario = data.scenario
    queries = [
        ClaimQuery(c.metric, claim_arm(scenario, c) or "", c.compare_to, c.stage, c.at_round)
        for c in scenario.claims
    ] or [ClaimQuery(_first_metric(data, arm), arm, None, None, None) for arm in data.arms]
    swept_paths = [path for path, values in scenario.sweep.items() if len(values) > 1]
    figures = []
    for query in list(dict.fromkeys(queries))[:MAX_FIGURES]:
        samples = [_replicate_values(data, query, point) for point in data.points]
        draw = _line_figure if len(swept_paths) == 1 else _heatmap_figure
        figures.append(draw(data, query, swept_paths, samples, f"sweep_{len(figures)}"))
    return figures


def _first_metric(data: ReportData, arm: str) -> str:
    return next(iter(data.record(arm).metrics))


def _replicate_values(data: ReportData, query: ClaimQuery, point: SweepPoint) -> np.ndarray:
    """Values of a query at a point of the sweep, one per replicate."""
    claim = Claim(
        statement="-", kind="report", metric=query.metric, arm=query.arm,
        compare_to=query.compare_to, stage=query.stage, at_round=query.at_round,
    )  # fmt: skip
    records = data.records_at(point)
    values, reference, _ = make_claim_data(claim, data.scenario, query.arm, records)
    return values if reference is None else values - reference


def _line_figure(
    data: ReportData,
    query: ClaimQuery,
    swept_paths: Sequence[str],
    samples: Sequence[np.ndarray],
    name: str,
) -> FigureSpec:
    """Line over the values of one parameter."""
    path = swept_paths[0]
    values = [point[path] for point in data.points]
    is_numeric = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    style, color = data.style(query.arm), data.style(query.arm).hex_color

    def draw(axes: Any) -> None:
        mean, low, high = confidence_band(np.stack(samples, -1))
        x = np.array(values if is_numeric else range(len(values)), dtype=np.float64)
        order = np.argsort(x)
        x, mean, low, high = x[order], mean[order], low[order], high[order]
        axes.plot(x, mean, color=color, linestyle=linestyle(style), marker="o", ms=4)
        axes.fill_between(x, low, high, color=color, alpha=0.18, lw=0)
        if not is_numeric:
            axes.set_xticks(x, [format_value(value) for value in values], rotation=25, ha="right")
        axes.set(xlabel=path, ylabel=query.metric)

    means = (format_number(float(sample.mean())) for sample in samples)
    pairs = zip(map(format_value, values), means, strict=True)
    alt_text = "; ".join(f"{value}: {mean}" for value, mean in pairs)
    title = query.describe(data.scenario)
    caption = (
        f"{_capitalize(title)} by {path}. Line: mean of {data.replicates} replicates; band: "
        "95 % interval of that mean (Student's t)."
    )
    return FigureSpec(name, caption, (PanelSpec(title, f"{alt_text}.", draw),), (), (4.6, 2.9))


def _heatmap_figure(
    data: ReportData,
    query: ClaimQuery,
    swept_paths: Sequence[str],
    samples: Sequence[np.ndarray],
    name: str,
) -> FigureSpec:
    """Heat maps over the two parameters with most values, one per combination of the others."""
    from matplotlib.colors import Normalize

    main_paths = sorted(swept_paths, key=lambda path: -len(data.scenario.sweep[path]))[:2]
    x_path, y_path = sorted(main_paths, key=swept_paths.index)
    other_paths = [path for path in swept_paths if path not in main_paths]
    columns, rows = (data.scenario.sweep[path] for path in (x_path, y_path))
    means = np.array([x.mean() for x in samples])
    finite = means[np.isfinite(means)]
    scale = Normalize(finite.min(), finite.max()) if len(finite) else Normalize(0, 1)
    grids: dict[str, np.ndarray] = {}
    for point, value in zip(data.points, means, strict=True):
        key = ", ".join(f"{path} = {format_value(point[path])}" for path in other_paths)
        grid = grids.setdefault(key, np.full((len(rows), len(columns)), np.nan))
        grid[rows.index(point[y_path]), columns.index(point[x_path])] = value

    def panel(title: str, grid: np.ndarray) -> PanelSpec:
        def draw(axes: Any) -> None:
            axes.pcolormesh(
                grid, cmap="viridis", norm=scale, rasterized=grid.size > MAX_LABELED_CELLS
            )
            if grid.size <= MAX_LABELED_CELLS:
                for (i, j), value in np.ndenumerate(grid):
                    is_dark = scale(value) < 0.6
                    label = f"{value:.3g}".replace("-", "−")
                    axes.text(j + 0.5, i + 0.5, label, ha="center", va="center", fontsize=8,
                              color="#ffffff" if is_dark else "#000000")  # fmt: skip
            _set_tick_labels(axes.set_xticks, columns)
            _set_tick_labels(axes.set_yticks, rows)
            axes.grid(False)
            axes.set(xlabel=x_path, ylabel=y_path)

        text = f"From {format_number(np.nanmin(grid))} to {format_number(np.nanmax(grid))}"
        return PanelSpec(title or query.metric, f"{text}; brighter is larger.", draw)

    panels = [panel(title, grid) for title, grid in grids.items()]
    caption = (
        f"{_capitalize(query.describe(data.scenario))} at every point of the sweep (mean of "
        f"{data.replicates} replicates); brighter is larger, from {format_number(scale.vmin)} to "
        f"{format_number(scale.vmax)}."
    )
    if len(panels) > MAX_PANELS:
        total = f"{len(panels)} combinations of {', '.join(other_paths)}"
        caption += f" The first {MAX_PANELS} of {total}."
    return FigureSpec(name, caption, tuple(panels[:MAX_PANELS]), (), (3.4, 2.7))


def _set_tick_labels(set_ticks: Any, values: Sequence[Any], max_ticks: int = 8) -> None:
    chosen = np.unique(
        np.linspace(0, len(values) - 1, min(max_ticks, len(values))).round().astype(int)
    )
    set_ticks(chosen + 0.5, [format_value(values[i]) for i in chosen])


def format_value(value: Any) -> str:
    """Text of a swept value; for a component with parameters, its kind."""
    if isinstance(value, Mapping) and "kind" in value:
        return str(value["kind"])
    if isinstance(value, float):
        return format_number(value)
    text = str(value)
    return text if len(text) <= 24 else f"{text[:23]}…"


def _capitalize(text: str) -> str:
    return text[:1].upper() + text[1:]
