"""How far each arm went from its twin, and which way, over the rounds."""

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
    """Over the rounds; none without a control or values."""
    if data.drift_control is None or not data.drift_arms():
        return []
    control, arms = data.drift_control, data.drift_arms()
    far = {arm: effect_by_replicate(data.record(arm), control) for arm in arms}
    panels = [line_panel(data, "How far from the control", far, control.rounds, "distance")]
    if len(data.top_drift_dimensions) > 1:
        panels.append(_plane_panel(data, arms))
    for part in data.top_drift_dimensions:
        which = {arm: data.mean_value_difference(arm, part) for arm in arms}
        title = f"{value_label(control, part)}, less the control's"
        panels.append(line_panel(data, title, which, control.rounds, "difference"))
    caption = (
        f"Where the centre of each arm's people is, less where it is in “{data.scenario.control}”,"
        f" which has the same people and the same chance events: what the arm's change caused. "
        f"In value units. Lines: mean of {data.replicates} replicates; bands: {BAND_DESCRIPTION}."
    )
    return [FigureSpec("drift", caption, tuple(panels), data.legend(arms))]


def _plane_panel(data: ReportData, arms: Sequence[str]) -> PanelSpec:
    """The way of each arm's centre in the plane of two values, the control's at the origin."""
    control = data.drift_control
    assert control is not None
    x_part, y_part = sorted(data.dimensions_by_drift[:2])
    names = value_label(control, x_part), value_label(control, y_part)
    ways = {
        arm: (data.mean_value_difference(arm, x_part), data.mean_value_difference(arm, y_part))
        for arm in arms
    }

    def draw(axes: Any) -> None:
        axes.plot(0, 0, marker="+", color=data.style(data.scenario.control or "").hex_color, ms=9)
        for arm, (x, y) in ways.items():
            look, end_x, end_y = (
                data.style(arm),
                confidence_band(x[:, -1:]),
                confidence_band(y[:, -1:]),
            )
            way = confidence_band(x).value, confidence_band(y).value
            axes.plot(*way, color=look.hex_color, linestyle=linestyle(look), linewidth=1.2)
            if len(x) > 1:
                axes.plot([*end_x.low, *end_x.high], [*end_y.value] * 2, color=look.hex_color, lw=1)
                axes.plot([*end_x.value] * 2, [*end_y.low, *end_y.high], color=look.hex_color, lw=1)
            axes.plot(end_x.value, end_y.value, marker=look.marker, color=look.hex_color, ms=5)
        axes.set(xlabel=names[0], ylabel=names[1])
        axes.margins(0.08)
        axes.locator_params(nbins=5)

    alt = "; ".join(
        f"{arm} {format_number(float(x[:, -1].mean()))}, {format_number(float(y[:, -1].mean()))}"
        for arm, (x, y) in ways.items()
    )
    title = "Which way from the control (+)"
    return PanelSpec(title, f"At the end, {names[0]} and {names[1]}: {alt}.", draw)
