"""Drift relative to the control over the rounds: distance, direction and components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mores.analysis.intervals import confidence_band
from mores.experiments.claims.claim_evaluation import effect_by_replicate
from mores.report.figures.metric_lines import line_panel
from mores.report.figures.plot_data import ReportData, format_number, value_label
from mores.report.figures.rendering import FigureSpec, PanelSpec, linestyle

BAND_DESCRIPTION = "95 % interval of that mean (Student's t)"


def drift_figures(data: ReportData) -> list[FigureSpec]:
    """Figure of the drift over the rounds; empty without a control or recorded mean values."""
    if data.drift_control is None or not data.drift_arms():
        return []
    control, arms = data.drift_control, data.drift_arms()
    effects = {arm: effect_by_replicate(data.record(arm), control) for arm in arms}
    panels = [line_panel(data, "Distance from the control", effects, control.rounds, "distance")]
    if len(data.top_drift_dimensions) > 1:
        panels.append(_plane_panel(data, arms))
    for dimension in data.top_drift_dimensions:
        differences = {arm: data.mean_value_difference(arm, dimension) for arm in arms}
        title = f"{value_label(control, dimension)} minus control"
        panels.append(line_panel(data, title, differences, control.rounds, "difference"))
    caption = (
        f"Mean value of the people in each arm minus that in the control “{data.scenario.control}”,"
        f" in value units. The arms share people and random numbers, so the difference is the "
        f"effect of the arm. Lines: mean of {data.replicates} replicates; bands: "
        f"{BAND_DESCRIPTION}."
    )
    return [FigureSpec("drift", caption, tuple(panels), data.legend(arms))]


def _plane_panel(data: ReportData, arms: Sequence[str]) -> PanelSpec:
    """Path of each arm's mean value in the plane of two values, with the control at the origin."""
    control = data.drift_control
    assert control is not None
    dimensions = sorted(data.dimensions_by_drift[:2])
    names = [value_label(control, dimension) for dimension in dimensions]
    paths = {arm: [data.mean_value_difference(arm, d) for d in dimensions] for arm in arms}

    def draw(axes: Any) -> None:
        axes.plot(0, 0, marker="+", color=data.style(data.scenario.control or "").hex_color, ms=9)
        for arm, (x, y) in paths.items():
            style, color = data.style(arm), data.style(arm).hex_color
            end_x, end_y = confidence_band(x[:, -1:]), confidence_band(y[:, -1:])
            means = confidence_band(x).value, confidence_band(y).value
            axes.plot(*means, color=color, linestyle=linestyle(style), linewidth=1.2)
            if len(x) > 1:
                axes.plot([*end_x.low, *end_x.high], [*end_y.value] * 2, color=color, lw=1)
                axes.plot([*end_x.value] * 2, [*end_y.low, *end_y.high], color=color, lw=1)
            axes.plot(end_x.value, end_y.value, marker=style.marker, color=color, ms=5)
        axes.set(xlabel=names[0], ylabel=names[1])
        axes.margins(0.08)
        axes.locator_params(nbins=5)

    alt = "; ".join(
        f"{arm} {format_number(float(x[:, -1].mean()))}, {format_number(float(y[:, -1].mean()))}"
        for arm, (x, y) in paths.items()
    )
    title = "Difference from the control (+)"
    return PanelSpec(title, f"At the end, {names[0]} and {names[1]}: {alt}.", draw)
