"""Drift relative to the control over the rounds: distance, direction and components."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from mores.analysis.intervals import confidence_band
from mores.experiments.claims.claim_evaluation import effect_by_replicate
from mores.report.figures.metric_lines import LINES_DESCRIPTION, describe_coinciding, line_panel
from mores.report.figures.plot_data import ReportData, format_number, value_label
from mores.report.figures.rendering import FigureSpec, PanelSpec


def drift_figures(data: ReportData) -> list[FigureSpec]:
    """Figure of the drift over the rounds; empty without a control or recorded mean values."""
    control, drift = data.control_record, data.drift
    if control is None or not drift:
        return []
    effects = {arm: effect_by_replicate(data.record(arm), control) for arm in drift}
    title = "Distance from the control"
    panels = [line_panel(data, title, effects, control.rounds, y_label="distance")]
    drawn = {title: effects}
    dimensions = data.top_dimensions(3)
    if len(dimensions) > 1:
        plane = data.top_dimensions(2)
        names = [value_label(control, dimension) for dimension in plane]
        panels.append(_plane_panel(data, names, {a: x[plane] for a, x in drift.items()}))
    for dimension in dimensions:
        differences = {arm: values[dimension] for arm, values in drift.items()}
        title = f"{value_label(control, dimension)} minus control"
        panels.append(line_panel(data, title, differences, control.rounds, y_label="difference"))
        drawn[title] = differences
    caption = (
        f"Mean value of the people in each arm minus that in the control “{data.scenario.control}”,"
        f" in value units. The arms share {data.shared_by_arms}, so the difference is the "
        f"effect of the arm. {LINES_DESCRIPTION.format(data.replicates)}"
        f"{describe_coinciding(drawn)}"
    )
    return [FigureSpec("drift", caption, panels, data.legend(list(drift)))]


def _plane_panel(
    data: ReportData, names: list[str], paths: dict[str, Float[np.ndarray, "2 replicate round"]]
) -> PanelSpec:
    """Path of each arm's mean value in the plane of two values, with the control at the origin."""

    def draw(axes: Any) -> None:
        axes.plot(0, 0, marker="+", color=data.style(data.scenario.control or "").color, ms=9)
        for arm, path in paths.items():
            style, (x, y) = data.style(arm), map(confidence_band, path)
            axes.plot(x.value, y.value, **style.line, linewidth=1.2)
            axes.plot(x.value[-1:], y.value[-1:], marker=style.marker, color=style.color, ms=5)
            if path.shape[1] > 1:
                axes.hlines(y.value[-1], x.low[-1], x.high[-1], color=style.color, lw=1)
                axes.vlines(x.value[-1], y.low[-1], y.high[-1], color=style.color, lw=1)
        axes.set(xlabel=names[0], ylabel=names[1])
        axes.margins(0.08)
        axes.locator_params(nbins=5)

    ends = {arm: [format_number(float(x[:, -1].mean())) for x in xy] for arm, xy in paths.items()}
    alt = "; ".join(f"{arm} {', '.join(end)}" for arm, end in ends.items())
    title = "Difference from the control (+)"
    return PanelSpec(title, f"At the end, {names[0]} and {names[1]}: {alt}.", draw)
