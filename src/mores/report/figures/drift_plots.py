"""Difference of mean values from the control over the rounds: distance, plane and components.

| panel | shows |
|---|---|
| distance | Euclidean distance from the control in the same world, averaged over worlds |
| plane | difference in the two values with the largest ones, and 95 % intervals of its last point |
| components | difference in each of the three values with the largest ones |
"""

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
    """Figure of the differences; empty without a control or recorded mean values."""
    control, differences = data.control_record, data.drift
    if control is None or not differences:
        return []
    effects = {arm: effect_by_replicate(data.record(arm), control) for arm in differences}
    title = "Distance from the control"
    panels = [line_panel(data, title, effects, control.rounds, y_label="distance")]
    drawn = {title: effects}
    dimensions = data.top_dimensions(3)
    if len(dimensions) > 1:
        plane = data.top_dimensions(2)
        names = [value_label(control, dimension) for dimension in plane]
        panels.append(_plane_panel(data, names, {a: x[plane] for a, x in differences.items()}))
    for dimension in dimensions:
        lines = {arm: values[dimension] for arm, values in differences.items()}
        title = f"{value_label(control, dimension)} minus control"
        panels.append(line_panel(data, title, lines, control.rounds, y_label="difference"))
        drawn[title] = lines
    ends = " Bars: 95 % intervals in the last round." if len(dimensions) > 1 else ""
    caption = (
        f"Difference of the people's mean value from the control “{data.scenario.control}”, in "
        "value units. Distance: Euclidean, in each world, averaged over worlds. The arms share "
        f"{data.shared_by_arms}, so the difference is the effect of the arm. "
        f"{LINES_DESCRIPTION.format(data.replicates)}{ends}{describe_coinciding(drawn)}"
    )
    return [FigureSpec("drift", caption, panels, data.legend(list(differences)))]


def _plane_panel(
    data: ReportData, names: list[str], paths: dict[str, Float[np.ndarray, "2 replicate round"]]
) -> PanelSpec:
    """Path of each arm's mean value in the plane of two values, with the control at the origin.

    Bars at the end of a path: 95 % intervals of both values in the last round.
    """

    def draw(axes: Any) -> None:
        axes.plot(0, 0, marker="+", color=data.style(data.scenario.control or "").color, ms=9)
        for arm, path in paths.items():
            style = data.style(arm)
            x, y = map(confidence_band, path)
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
