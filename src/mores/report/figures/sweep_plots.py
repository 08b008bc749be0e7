"""Figures of a sweep: metrics at each point, and their agreement with analytic values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mores.analysis.intervals import confidence_band
from mores.experiments.claims.claim_evaluation import make_claim_data
from mores.experiments.scenario.claim_inputs import claim_arm
from mores.experiments.scenario.specification import Claim
from mores.report.figures.metric_lines import evenly_spaced
from mores.report.figures.plot_data import ReportData, describe_metric, format_number
from mores.report.figures.rendering import FigureSpec, PanelSpec
from mores.report.figures.theme import LIGHT_COLORS

MAX_FIGURES = 4
MAX_PANELS = 12
MAX_SCATTER_POINTS = 1000
MAX_LABELED_CELLS = 150  # cells of a heat map with number labels
MAX_TICKS = 8


def sweep_figures(data: ReportData) -> list[FigureSpec]:
    """Agreement with analytic values, then lines or heat maps; empty without a sweep."""
    if len(data.points) < 2:
        return []
    return [*_analytic_figures(data), *_metric_figures(data)]


def _analytic_figures(data: ReportData) -> list[FigureSpec]:
    """Figure of simulated against analytic values at the points of the sweep."""
    claims = {
        (claim_arm(data.scenario, c) or "", c.metric, c.analytic, c.stage, c.at_round): c
        for c in data.scenario.claims
        if c.analytic is not None
    }
    panels = [_agreement_panel(data, arm, claim) for (arm, *_), claim in claims.items()]
    if not panels:
        return []
    caption = (
        f"Simulated (mean of {data.replicates} replicates) against analytic values at every "
        "point of the sweep. Line: equality."
    )
    return [FigureSpec("analytic", caption, panels[:MAX_PANELS], panel_size=(3.4, 2.9))]


def _agreement_panel(data: ReportData, arm: str, claim: Claim) -> PanelSpec:
    pairs = [
        make_claim_data(claim, data.scenario, arm, data.records_of(cells))
        for cells in data.cells_at_points
    ]
    x = np.array([analytic for _, analytic in pairs], dtype=np.float64)
    y = np.array([values.mean() for values, _ in pairs])

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


def _metric_figures(data: ReportData) -> list[FigureSpec]:
    """One figure for each quantity of the claims; without claims, for the first metric per arm."""
    scenario = data.scenario
    quantities = [
        (c.metric, claim_arm(scenario, c) or "", c.compare_to, c.stage, c.at_round)
        for c in scenario.claims
    ] or [(next(iter(data.record(arm).metrics)), arm, None, None, None) for arm in data.arms]
    swept_paths = [path for path, values in scenario.sweep.items() if len(values) > 1]
    draw = _line_figure if len(swept_paths) == 1 else _heatmap_figure
    figures = []
    for metric, arm, compare_to, stage, at_round in list(dict.fromkeys(quantities))[:MAX_FIGURES]:
        claim = Claim(
            statement="-", kind="report", metric=metric, arm=arm, compare_to=compare_to,
            stage=stage, at_round=at_round,
        )  # fmt: skip
        samples = []
        for cells in data.cells_at_points:
            values, reference = make_claim_data(claim, scenario, arm, data.records_of(cells))
            samples.append(values if reference is None else values - reference)
        figures.append(draw(data, claim, swept_paths, samples, f"sweep_{len(figures)}"))
    return figures


def _line_figure(
    data: ReportData,
    claim: Claim,
    swept_paths: Sequence[str],
    samples: Sequence[np.ndarray],
    name: str,
) -> FigureSpec:
    """Line over the values of one parameter."""
    path = swept_paths[0]
    values = [point[path] for point in data.points]
    is_numeric = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    style = data.style(claim.arm or "")

    def draw(axes: Any) -> None:
        x = np.array(values if is_numeric else range(len(values)), dtype=np.float64)
        order = np.argsort(x)
        mean, low, high = (end[order] for end in confidence_band(np.stack(samples, -1)))
        line = style.line
        axes.plot(x[order], mean, marker="o", ms=4, **line)
        axes.fill_between(x[order], low, high, color=style.color, alpha=0.18, lw=0)
        if not is_numeric:
            axes.set_xticks(x, [format_value(value) for value in values], rotation=25, ha="right")
        axes.set(xlabel=path, ylabel=claim.metric)

    means = (format_number(float(sample.mean())) for sample in samples)
    pairs = zip(map(format_value, values), means, strict=True)
    alt_text = "; ".join(f"{value}: {mean}" for value, mean in pairs)
    title = describe_metric(data.scenario, claim)
    caption = (
        f"{title[:1].upper()}{title[1:]} by {path}. Line: mean of {data.replicates} replicates; "
        "band: 95 % interval of that mean (Student's t)."
    )
    panel = PanelSpec(title, f"{alt_text}.", draw)
    return FigureSpec(name, caption, [panel], panel_size=(4.6, 2.9))


def _heatmap_figure(
    data: ReportData,
    claim: Claim,
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
            is_large = grid.size > MAX_LABELED_CELLS
            axes.pcolormesh(grid, cmap="viridis", norm=scale, rasterized=is_large)
            for (i, j), value in () if is_large else np.ndenumerate(grid):
                color = "#ffffff" if scale(value) < 0.6 else "#000000"
                label = f"{value:.3g}".replace("-", "−")
                axes.text(j + 0.5, i + 0.5, label, ha="center", va="center", size=8, color=color)
            for axis, values in (axes.xaxis, columns), (axes.yaxis, rows):
                chosen = evenly_spaced(len(values), MAX_TICKS)
                axis.set_ticks(chosen + 0.5, [format_value(values[i]) for i in chosen])
            axes.grid(False)
            axes.set(xlabel=x_path, ylabel=y_path)

        text = f"From {format_number(np.nanmin(grid))} to {format_number(np.nanmax(grid))}"
        return PanelSpec(title or claim.metric, f"{text}; brighter is larger.", draw)

    panels = [panel(title, grid) for title, grid in grids.items()]
    title = describe_metric(data.scenario, claim)
    caption = (
        f"{title[:1].upper()}{title[1:]} at every point of the sweep (mean of "
        f"{data.replicates} replicates); brighter is larger, from {format_number(scale.vmin)} to "
        f"{format_number(scale.vmax)}."
    )
    if len(panels) > MAX_PANELS:
        total = f"{len(panels)} combinations of {', '.join(other_paths)}"
        caption += f" The first {MAX_PANELS} of {total}."
    return FigureSpec(name, caption, panels[:MAX_PANELS], panel_size=(3.4, 2.7))


def format_value(value: Any) -> str:
    """Text of a swept value; for a component with parameters, its kind."""
    if isinstance(value, Mapping) and "kind" in value:
        return str(value["kind"])
    if isinstance(value, float):
        return format_number(value)
    text = str(value)
    return text if len(text) <= 24 else f"{text[:23]}…"
