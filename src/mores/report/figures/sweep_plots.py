"""Figures of a sweep: agreement with analytic values, curves of each quantity, and heat maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mores.experiments.scenario.claim_inputs import claim_arm
from mores.experiments.scenario.specification import Claim
from mores.report.figures.metric_lines import evenly_spaced
from mores.report.figures.plot_data import (
    ReportData,
    describe_metric,
    format_number,
    format_range,
)
from mores.report.figures.rendering import FigureSpec, PanelSpec
from mores.report.figures.sweep_curves import curve_figure
from mores.report.figures.theme import LIGHT_COLORS
from mores.report.figures.value_labels import PointLabels, value_labels

MAX_FIGURES = 4
MAX_PANELS = 12
MAX_SCATTER_POINTS = 1000
MAX_LABELED_CELLS = 150  # cells of a heat map with number labels
MAX_TICKS = 8


def sweep_figures(data: ReportData) -> list[FigureSpec]:
    """Agreement with analytic values; then curves of each quantity of the claims.

    With several parameters, heat maps follow; with one, the metrics that no claim is about. Without
    claims, the quantity is the first metric.
    """
    analytic_claims: dict[Any, Claim] = {}
    quantities: dict[Any, Claim] = {}
    for claim in data.scenario.claims:
        arm = claim_arm(data.scenario, claim) or ""
        measured = claim.metric, claim.stage, claim.at_round
        if claim.analytic is not None:
            analytic_claims[arm, measured, claim.analytic] = claim
        compared = claim.compare_to, claim.references, claim.relative, claim.statistic
        quantities.setdefault((measured, compared), claim)
    if not quantities:
        metric = data.record(data.arms[0]).names[0]
        quantities[metric] = _report(metric)
    figures = []
    if analytic_claims:
        panels = [_agreement_panel(data, claim) for claim in analytic_claims.values()]
        caption = (
            f"Simulated (mean of {data.replicates} replicates) against analytic values at every "
            "point of the sweep. Line: equality."
        )
        size = (3.4, 2.9)
        figures.append(FigureSpec("analytic", caption, panels[:MAX_PANELS], panel_size=size))
    shown = list(quantities.values())[:MAX_FIGURES]
    curves = [curve_figure(f"sweep_{i}", data, [claim]) for i, claim in enumerate(shown)]
    swept_paths = [path for path, values in data.scenario.sweep.items() if len(values) > 1]
    if len(swept_paths) > 1:
        maps = [(claim, claim_arm(data.scenario, claim) or data.arms[0]) for claim in shown]
        if not data.scenario.claims:
            maps = [(shown[0], arm) for arm in data.arms[:MAX_FIGURES]]
        for i, (claim, arm) in enumerate(maps):
            fields = {"kind": "report", "analytic": None, "arm": arm}
            report = claim.model_copy(update=fields)
            curves.append(_heatmap_figure(f"maps_{i}", data, report, swept_paths))
    else:
        claimed = {claim.metric for claim in quantities.values()}
        others = [_report(name) for name in data.record(data.arms[0]).names if name not in claimed]
        curves.append(curve_figure("sweep_metrics", data, others[:MAX_PANELS]))
    return [*figures, *(figure for figure in curves if figure is not None)]


def _report(metric: str) -> Claim:
    """A metric at the end, as a claim without a bound."""
    return Claim(statement="-", kind="report", metric=metric)


def _agreement_panel(data: ReportData, claim: Claim) -> PanelSpec:
    """Scatter plot of simulated against analytic values."""
    arm, pairs = claim_arm(data.scenario, claim) or "", data.claim_data(claim)
    x = np.array([pair.comparison for pair in pairs], dtype=np.float64)
    y = np.array([pair.values.mean() for pair in pairs])

    def draw(axes: Any) -> None:
        is_finite = np.isfinite(x) & np.isfinite(y)
        if is_finite.any():
            origin = (float(x[is_finite][0]),) * 2
            axes.axline(origin, slope=1, color=LIGHT_COLORS["axis"], linewidth=1)
        chosen = evenly_spaced(len(x), MAX_SCATTER_POINTS)
        color = data.style(arm).color
        axes.scatter(x[chosen], y[chosen], s=20, color=color, alpha=0.8, linewidths=0)
        axes.set(xlabel=f"{claim.analytic}, analytic", ylabel=f"{claim.metric}, simulated")
        axes.locator_params(nbins=5)

    title = f"{claim.metric}{f' in {arm}' if data.scenario.arms else ''}: {len(x)} points"
    difference = format_number(float(np.abs(y - x).max()))
    return PanelSpec(title, f"Largest difference from the analytic value: {difference}.", draw)


def _heatmap_figure(
    name: str, data: ReportData, claim: Claim, swept_paths: Sequence[str]
) -> FigureSpec:
    """Heat maps over the two parameters with most values, one per combination of the others."""
    from matplotlib.colors import Normalize

    main_paths = sorted(swept_paths, key=lambda path: -len(data.scenario.sweep[path]))[:2]
    x_path, y_path = sorted(main_paths, key=swept_paths.index)
    other_paths = [path for path in swept_paths if path not in main_paths]
    columns, rows = (data.scenario.sweep[path] for path in (x_path, y_path))
    means = data.claim_differences(claim).mean(1)
    finite = means[np.isfinite(means)]
    scale = Normalize(finite.min(), finite.max()) if len(finite) else Normalize(0, 1)
    grids: dict[str, np.ndarray] = {}
    labels = PointLabels(data.scenario.sweep)
    for point, value in zip(data.points, means, strict=True):
        key = labels.describe(point, other_paths)
        grid = grids.setdefault(key, np.full((len(rows), len(columns)), np.nan))
        grid[rows.index(point[y_path]), columns.index(point[x_path])] = value

    def panel(title: str, grid: np.ndarray) -> PanelSpec:
        def draw(axes: Any) -> None:
            is_large = grid.size > MAX_LABELED_CELLS
            axes.pcolormesh(grid, cmap="viridis", norm=scale, rasterized=is_large)
            for (i, j), value in () if is_large else np.ndenumerate(grid):
                color = "#ffffff" if scale(value) < 0.6 else "#000000"
                label = f"{value:.3g}".replace("-", "−")
                axes.text(j + 0.5, i + 0.5, label, ha="center", va="center", size=8, color=color)
            for axis, values in (axes.xaxis, columns), (axes.yaxis, rows):
                chosen, texts = evenly_spaced(len(values), MAX_TICKS), value_labels(values)
                axis.set_ticks(chosen + 0.5, [texts[i] for i in chosen])
            axes.grid(False)
            axes.set(xlabel=x_path, ylabel=y_path)

        alt_text = f"From {format_range(np.nanmin(grid), np.nanmax(grid))}; brighter is larger."
        return PanelSpec(title or claim.metric, alt_text, draw)

    panels = [panel(title, grid) for title, grid in grids.items()]
    title = describe_metric(data.scenario, claim)
    caption = (
        f"Numbers: {title}, mean of {data.replicates} replicates, at every point of the sweep; "
        f"brighter is larger, from {format_range(scale.vmin, scale.vmax)}."
    )
    if len(panels) > MAX_PANELS:
        total = f"{len(panels)} combinations of {', '.join(other_paths)}"
        caption += f" The first {MAX_PANELS} of {total}."
    return FigureSpec(name, caption, panels[:MAX_PANELS], panel_size=(3.4, 2.7))
