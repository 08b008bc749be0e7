"""Lines over rounds or episodes: means over replicates with confidence bands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from mores.analysis.intervals import confidence_band
from mores.experiments.results.cell_result import CellResult
from mores.experiments.scenario.claim_inputs import claim_arm
from mores.report.figures.plot_data import ReportData, format_number, metric_label
from mores.report.figures.rendering import FigureSpec, PanelSpec
from mores.report.figures.theme import PlotStyle

MAX_PANELS = 12
MAX_POINTS = 200  # points per line
LINES_DESCRIPTION = "Lines: mean of {} replicates; bands: 95 % interval of that mean (Student's t)."

Points = tuple[np.ndarray, np.ndarray]  # x and y of some points


def metric_figures(data: ReportData) -> list[FigureSpec]:
    """Figure of every metric over the rounds of the last stage; empty in a sweep."""
    first = data.record(data.arms[0])
    if len(data.points) > 1 or len(first.rounds) < 2:
        return []
    series, omitted = metric_series(data, None, lambda record, name: record.by_replicate(name))
    analytic = {name: _analytic_points(data, name) for name in series}
    panels = [
        line_panel(data, metric_label(name, first), by_arm, first.rounds, "", points=analytic[name])
        for name, by_arm in series.items()
    ]
    if not panels:
        return []
    stage = f" of stage “{first.stages[-1].name}”" if data.scenario.stages else ""
    lines = LINES_DESCRIPTION.format(data.replicates)
    caption = f"Metrics over the rounds{stage}. {lines}{omitted}"
    caption += " Circles: analytic values." if any(analytic.values()) else ""
    return [FigureSpec("metrics", caption, panels, data.legend(data.arms))]


def metric_series(
    data: ReportData, stage: str | None, read: Callable[[CellResult, str], np.ndarray]
) -> tuple[dict[str, dict[str, Float[np.ndarray, "replicate column"]]], str]:
    """Values of the metrics of a stage by name and arm, and a sentence on omitted metrics.

    Metrics without any finite value are left out; those of the claims come first.
    """
    records = {arm: data.record(arm) for arm in data.arms}
    metrics = {arm: record.stage(stage).metrics for arm, record in records.items()}
    names = [
        name
        for name in dict.fromkeys(name for by_name in metrics.values() for name in by_name)
        if any(np.isfinite(m[name]).any() for m in metrics.values() if name in m)
    ]
    claimed = {claim.metric for claim in data.scenario.claims}
    names.sort(key=lambda name: name.partition("[")[0] not in claimed)
    omitted = len(names) - MAX_PANELS
    note = f" {omitted} more metrics are in the files of the run." if omitted > 0 else ""
    series = {
        name: {arm: read(record, name) for arm, record in records.items() if name in metrics[arm]}
        for name in names[:MAX_PANELS]
    }
    return series, note


def line_panel(
    data: ReportData,
    title: str,
    series: Mapping[str, Float[np.ndarray, "replicate column"]],
    x_values: Sequence[int] | np.ndarray,
    y_label: str,
    x_label: str = "round",
    points: Mapping[str, Points] | None = None,
) -> PanelSpec:
    """Panel with a line and band for each arm, and circles at some points."""

    def draw(axes: Any) -> None:
        for arm, values in series.items():
            _draw_line(axes, np.array(x_values), values, data.style(arm))
        for arm, (x, y) in (points or {}).items():
            color = data.style(arm).color
            axes.plot(x, y, "o", ms=4.5, mfc="none", mec=color, mew=1.1)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.locator_params(nbins=5)
        axes.xaxis.get_major_locator().set_params(integer=True)

    ends = {arm: format_number(float(values[:, -1].mean())) for arm, values in series.items()}
    texts = (f"{arm} {end}" for arm, end in ends.items())
    return PanelSpec(title, f"Lines by {x_label}; at the end: {'; '.join(texts)}.", draw)


def _analytic_points(data: ReportData, name: str) -> dict[str, Points]:
    """Analytic values of a metric's mean by arm, where a claim compares the two."""
    points = {}
    for claim in data.scenario.claims:
        arm = claim_arm(data.scenario, claim) or ""
        is_mean = claim.kind == "exact" or claim.statistic == "mean"
        if claim.metric != name or claim.analytic is None or not is_mean or arm not in data.arms:
            continue
        stage = data.record(arm).stage()
        rounds = np.array(stage.rounds)
        analytic = np.asarray(stage.analytic_values.get(claim.analytic, np.nan), dtype=np.float64)
        analytic = analytic[rounds] if analytic.ndim else np.full(len(rounds), analytic)
        chosen = evenly_spaced(len(rounds), 9)
        chosen = chosen[np.isfinite(analytic[chosen])]
        points[arm] = rounds[chosen], analytic[chosen]
    return points


def _draw_line(axes: Any, x_values: np.ndarray, values: np.ndarray, style: PlotStyle) -> None:
    """Draw mean and band at the columns where every replicate is finite."""
    columns = np.flatnonzero(np.isfinite(values).all(0))
    if not len(columns):
        return
    if len(columns) > MAX_POINTS:
        columns = columns[evenly_spaced(len(columns), MAX_POINTS)]
    x, (mean, low, high) = x_values[columns], confidence_band(values[:, columns])
    marker = {"marker": style.marker, "ms": 4} if len(x) == 1 else {}
    axes.plot(x, mean, **style.line, **marker)
    if len(values) > 1:
        axes.fill_between(x, low, high, color=style.color, alpha=0.18, linewidth=0)


def evenly_spaced(length: int, count: int) -> np.ndarray:
    """At most `count` evenly spaced indices of a sequence, with both ends."""
    return np.unique(np.linspace(0, length - 1, count).round().astype(int))
