"""Lines over rounds: means over replicates with confidence bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mores.analysis.intervals import confidence_band
from mores.experiments.scenario.claim_inputs import claim_arm
from mores.report.figures.plot_data import ReportData, format_number, metric_label
from mores.report.figures.rendering import FigureSpec, PanelSpec, linestyle
from mores.report.figures.theme import PlotStyle

MAX_PANELS = 12
MAX_POINTS = 200  # points per line
LINES_DESCRIPTION = "Lines: mean of {} replicates; bands: 95 % interval of that mean (Student's t)."


class AnalyticCurve(NamedTuple):
    """Analytic values at some of the rounds."""

    rounds: Int[np.ndarray, " place"]
    values: Float[np.ndarray, " place"]


def metric_figures(data: ReportData) -> list[FigureSpec]:
    """Figure of every metric over the rounds of the last stage; empty in a sweep."""
    first = data.record(data.arms[0])
    if len(data.points) > 1 or len(first.rounds) < 2:
        return []
    names, panels, any_curves = order_metrics(data, None), [], False
    for name in names[:MAX_PANELS]:
        arms = [arm for arm in data.arms if name in data.record(arm).metrics]
        series = {arm: data.record(arm).by_replicate(name) for arm in arms}
        curves = _analytic_curves(data, name)
        any_curves |= bool(curves)
        title = metric_label(name, first)
        panels.append(line_panel(data, title, series, first.rounds, "", analytic_curves=curves))
    if not panels:
        return []
    stage = f" of stage “{first.stages[-1].name}”" if data.scenario.stages else ""
    caption = f"Metrics over the rounds{stage}. {LINES_DESCRIPTION.format(data.replicates)}"
    caption += describe_omitted(names) + (" Circles: analytic values." if any_curves else "")
    return [FigureSpec("metrics", caption, tuple(panels), data.legend(data.arms))]


def line_panel(
    data: ReportData,
    title: str,
    series: Mapping[str, Float[np.ndarray, "replicate column"]],
    x_values: Sequence[int] | np.ndarray,
    y_label: str,
    x_label: str = "round",
    analytic_curves: Mapping[str, AnalyticCurve] | None = None,
) -> PanelSpec:
    """Panel with a line and band for each arm, and circles at analytic values."""

    def draw(axes: Any) -> None:
        for arm, values in series.items():
            draw_line(axes, x_values, values, data.style(arm))
        for arm, (rounds, analytic) in (analytic_curves or {}).items():
            color = data.style(arm).hex_color
            axes.plot(rounds, analytic, "o", ms=4.5, mfc="none", mec=color, mew=1.1)
        axes.set_xlabel(x_label)
        if y_label:
            axes.set_ylabel(y_label)
        axes.locator_params(nbins=5)
        axes.xaxis.get_major_locator().set_params(integer=True)

    ends = {arm: format_number(float(values[:, -1].mean())) for arm, values in series.items()}
    texts = (f"{arm} {end}" for arm, end in ends.items())
    return PanelSpec(title, f"Lines by {x_label}; at the end: {'; '.join(texts)}.", draw)


def _analytic_curves(data: ReportData, name: str) -> dict[str, AnalyticCurve]:
    """Analytic values of a metric's mean by arm, where a claim compares the two."""
    curves = {}
    for claim in data.scenario.claims:
        arm = claim_arm(data.scenario, claim) or ""
        is_mean = claim.kind == "exact" or claim.statistic == "mean"
        if claim.metric != name or claim.analytic is None or not is_mean or arm not in data.arms:
            continue
        stage = data.record(arm).stage()
        rounds = np.array(stage.rounds)
        analytic = np.asarray(stage.analytic_values.get(claim.analytic, np.nan), dtype=np.float64)
        analytic = analytic[rounds] if analytic.ndim else np.full(len(rounds), analytic)
        chosen = np.unique(np.linspace(0, len(rounds) - 1, 9).round().astype(int))
        chosen = chosen[np.isfinite(analytic[chosen])]
        curves[arm] = AnalyticCurve(rounds[chosen], analytic[chosen])
    return curves


def draw_line(
    axes: Any, x_values: Sequence[int] | np.ndarray, values: np.ndarray, style: PlotStyle
) -> None:
    """Draw mean and band at the columns where every replicate is finite."""
    columns = np.flatnonzero(np.isfinite(values).all(0))
    if len(columns) > MAX_POINTS:
        chosen = np.linspace(0, len(columns) - 1, MAX_POINTS).round().astype(int)
        columns = columns[np.unique(chosen)]
    if not len(columns):
        return
    mean, low, high = confidence_band(values[:, columns])
    x = np.array(x_values)[columns]
    marker = {"marker": style.marker, "ms": 4} if len(x) == 1 else {}
    axes.plot(x, mean, color=style.hex_color, linestyle=linestyle(style), **marker)
    if len(values) > 1:
        axes.fill_between(x, low, high, color=style.hex_color, alpha=0.18, linewidth=0)


def order_metrics(data: ReportData, stage: str | None) -> list[str]:
    """Metrics with any finite value, those of the claims first."""
    records = [data.record(arm).stage(stage) for arm in data.arms]
    names = [
        name
        for name in dict.fromkeys(name for record in records for name in record.metrics)
        if any(np.isfinite(r.metrics[name]).any() for r in records if name in r.metrics)
    ]
    claimed = {claim.metric for claim in data.scenario.claims}
    return sorted(names, key=lambda name: name.partition("[")[0] not in claimed)


def describe_omitted(names: Sequence[str]) -> str:
    """Sentence on the number of metrics without a panel; empty if there are none."""
    omitted = len(names) - MAX_PANELS
    return f" {omitted} more metrics are in the files of the run." if omitted > 0 else ""
