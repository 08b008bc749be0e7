"""Lines over rounds, each a mean of replicates with its band."""

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
MAX_POINTS = 200  # of a line: more would not be seen
LINES_DESCRIPTION = "Lines: mean of {} replicates; bands: 95 % interval of that mean (Student's t)."


class AnalyticCurve(NamedTuple):
    """What a formula says after some of the rounds."""

    rounds: Int[np.ndarray, " place"]
    values: Float[np.ndarray, " place"]


def metric_figures(data: ReportData) -> list[FigureSpec]:
    """Every measure over the rounds of the last stage."""
    if len(data.points) > 1 or len(data.record(data.arms[0]).rounds) < 2:
        return []
    names = order_metrics(data, None)
    panels = [
        line_panel(
            data,
            metric_label(name, data.record(data.arms[0])),
            {
                arm: data.record(arm).by_replicate(name)
                for arm in data.arms
                if name in data.record(arm).metrics
            },
            data.record(data.arms[0]).rounds,
            "",
            analytic_curves=_analytic_curves(data, name),
        )
        for name in names[:MAX_PANELS]
    ]
    if not panels:
        return []
    stage = (
        f" of stage “{data.record(data.arms[0]).stages[-1].name}”" if data.scenario.stages else ""
    )
    caption = f"Every measure over the rounds{stage}. {LINES_DESCRIPTION.format(data.replicates)}{describe_omitted(names)}"
    if any(_analytic_curves(data, name) for name in names[:MAX_PANELS]):
        caption += " Circles: what a formula says."
    return [FigureSpec("measures", caption, tuple(panels), data.legend(data.arms))]


def line_panel(
    data: ReportData,
    title: str,
    series: Mapping[str, Float[np.ndarray, "replicate column"]],
    x_values: Sequence[int] | np.ndarray,
    y_label: str,
    x_label: str = "round",
    analytic_curves: Mapping[str, AnalyticCurve] | None = None,
) -> PanelSpec:
    """One line an arm, with its band; circles where a formula says it should be."""

    def draw(axes: Any) -> None:
        for arm, values in series.items():
            draw_line(axes, x_values, values, data.style(arm))
        for arm, (places, said) in (analytic_curves or {}).items():
            color = data.style(arm).hex_color
            axes.plot(places, said, "o", ms=4.5, mfc="none", mec=color, mew=1.1)
        axes.set_xlabel(x_label)
        if y_label:
            axes.set_ylabel(y_label)
        axes.locator_params(nbins=5)
        axes.xaxis.get_major_locator().set_params(integer=True)

    told = (f"{arm} {format_number(float(values[:, -1].mean()))}" for arm, values in series.items())
    return PanelSpec(title, f"Lines by {x_label}; at the end: {'; '.join(told)}.", draw)


def _analytic_curves(data: ReportData, name: str) -> dict[str, AnalyticCurve]:
    """By arm, what a formula says of the mean of a measure, where a claim compares the two."""
    made = {}
    for claim in data.scenario.claims:
        arm = claim_arm(data.scenario, claim) or ""
        mean = claim.kind == "exact" or claim.statistic == "mean"
        if claim.metric != name or claim.analytic is None or not mean or arm not in data.arms:
            continue
        stage = data.record(arm).stage()
        rounds = np.array(stage.rounds)
        said = np.asarray(stage.analytic_values.get(claim.analytic, np.nan), dtype=np.float64)
        said = said[rounds] if said.ndim else np.full(len(rounds), said)
        chosen = np.unique(np.linspace(0, len(rounds) - 1, 9).round().astype(int))
        chosen = chosen[np.isfinite(said[chosen])]
        made[arm] = AnalyticCurve(rounds[chosen], said[chosen])
    return made


def draw_line(
    axes: Any, x_values: Sequence[int] | np.ndarray, values: np.ndarray, style: PlotStyle
) -> None:
    """Mean and band, at the columns where every replicate has a number."""
    known = np.flatnonzero(np.isfinite(values).all(0))
    if len(known) > MAX_POINTS:
        known = known[np.unique(np.linspace(0, len(known) - 1, MAX_POINTS).round().astype(int))]
    if not len(known):
        return
    middle, low, high = confidence_band(values[:, known])
    x = np.array(x_values)[known]
    single = {"marker": style.marker, "ms": 4} if len(x) == 1 else {}
    axes.plot(x, middle, color=style.hex_color, linestyle=linestyle(style), **single)
    if len(values) > 1:
        axes.fill_between(x, low, high, color=style.hex_color, alpha=0.18, linewidth=0)


def order_metrics(data: ReportData, stage: str | None) -> list[str]:
    """The measures with numbers in them, those that claims speak of first."""
    records = [data.record(arm).stage(stage) for arm in data.arms]
    names = [
        name
        for name in dict.fromkeys(name for record in records for name in record.metrics)
        if any(np.isfinite(r.metrics[name]).any() for r in records if name in r.metrics)
    ]
    claimed = {claim.metric for claim in data.scenario.claims}
    return sorted(names, key=lambda name: name.partition("[")[0] not in claimed)


def describe_omitted(names: Sequence[str]) -> str:
    """How many measures are not drawn, in words."""
    left = len(names) - MAX_PANELS
    return f" {left} more are in the files of the run." if left > 0 else ""
