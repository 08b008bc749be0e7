"""Horizontal bars with whiskers: effects of the arms, and Sobol or Morris sensitivity indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mores.analysis.sensitivity import SensitivityIndices
from mores.report.figures.attribution import ArmEffect, arm_effects
from mores.report.figures.plot_data import (
    ReportData,
    describe_metric,
    format_interval,
    format_number,
    format_range,
)
from mores.report.figures.rendering import FigureSpec, PanelSpec
from mores.report.figures.text_fitting import wrap_to_width
from mores.report.figures.theme import LIGHT_COLORS, plot_style

NAME_WIDTH, NAME_SIZE = 118.0, 8.5  # points: of a line with the name of an arm; font size
LINE_HEIGHT, ROW_GAP = 0.145, 0.13  # inches: of the lines of a name; between rows
MAX_PATH_LENGTH = 26  # of a line of a parameter
MAX_PARAMETERS = 20  # parameters in a figure, in order of importance
MAX_WHISKER_RATIO = 3.0  # of a sensitivity index to the longest bar; a longer one would hide bars
INDEX_TITLES = {
    "first_order": "First-order index (share of variance)",
    "total_order": "Total-order index (share of variance)",
    "mu_star": "Mean absolute effect (μ*)",
    "sigma": "Standard deviation of the effect (σ)",
}
METHOD_DESCRIPTIONS = {
    "sobol": "First-order index: share of the output's variance explained by a parameter alone. "
    "Total-order index: share that remains if all other parameters are fixed.",
    "morris": "μ*: mean absolute change of the output over a parameter's whole range, in units of "
    "the output. σ: its standard deviation, due to nonlinearity and interactions.",
}


class Bar(NamedTuple):
    """A bar from 0 to a value, with a whisker where its ends are finite."""

    label: str  # on the axis
    text: str  # name and interval, for the alternative text
    low: float
    value: float
    high: float
    color: str
    is_hatched: bool = False


def bar_panel(
    title: str,
    bars: Sequence[Bar],
    x_label: str = "",
    num_rows: int = 0,
    max_whisker_ratio: float = np.inf,
) -> PanelSpec:
    """Panel of horizontal bars from top to bottom, with space for a number of rows.

    A whisker longer than `max_whisker_ratio` times the longest bar is cut.
    """

    def draw(axes: Any) -> None:
        for y, bar in enumerate(bars):
            fill = {"fill": False, "hatch": "////"} if bar.is_hatched else {"alpha": 0.75}
            axes.barh(y, bar.value, 0.55, color=bar.color, edgecolor=bar.color, **fill)
            if np.isfinite([bar.low, bar.high]).all():
                axes.plot([bar.low, bar.high], [y, y], color=LIGHT_COLORS["ink"], lw=1.3)
        low, value, high = np.array([(bar.low, bar.value, bar.high) for bar in bars]).T
        longest = float(np.nanmax(np.abs(value), initial=0.0))
        limit = max_whisker_ratio * longest if longest else 0.0
        if limit and np.nanmax(high, initial=0.0) > limit:
            axes.set_xlim(max(float(np.nanmin(low)), -limit) * 1.05, limit)
        axes.axvline(0, color=LIGHT_COLORS["axis"], linewidth=0.8)
        axes.set_yticks(range(len(bars)), [bar.label for bar in bars])
        axes.set_ylim(max(num_rows, len(bars)) - 0.4, -0.6)
        axes.grid(False, axis="y")
        axes.set_xlabel(x_label)
        axes.locator_params(axis="x", nbins=3)

    return PanelSpec(title, f"{'; '.join(bar.text for bar in bars)}.", draw)


def attribution_figures(data: ReportData) -> list[FigureSpec]:
    """Bar charts of all effects; empty without a control."""
    effects = arm_effects(data)
    if not effects or data.control_record is None:
        return []
    has_distance = effects[0].distance is not None
    panels = [_effect_panel(data, effects, None)] if has_distance else []
    panels += [_effect_panel(data, effects, name) for name in effects[0].components]
    caption = (
        f"Effect of each arm against the control “{data.scenario.control}” after "
        f"{data.control_record.rounds[-1]} rounds: "
    )
    if has_distance:
        caption += (
            "distance between the mean values, and difference in each value, in value units. "
            f"Bars: mean of {data.replicates} replicates; whiskers: 95 % interval of that mean "
            "(Student's t)."
        )
    else:
        caption += (
            "difference in each metric, by the statistic of the claims. "
            f"Bars: {data.replicates} replicates; whiskers: 95 % intervals."
        )
    caption += " In parentheses: the factors in which the arm differs from the control."
    if any(effect.is_interaction for effect in effects):
        caption += " Hatched: interaction, the combined effect minus both single effects."
    num_lines = max(_bar_label(effect).count("\n") + 1 for effect in effects)
    size = (3.4, 0.9 + (ROW_GAP + LINE_HEIGHT * num_lines) * len(effects))
    return [FigureSpec("attribution", caption, panels, panel_size=size)]


def _effect_panel(
    data: ReportData, effects: Sequence[ArmEffect], component: str | None
) -> PanelSpec:
    """Panel of a component of the effects; None: of their distances."""
    bars = []
    for effect in effects:
        interval = effect.distance if component is None else effect.components.get(component)
        if interval is not None:
            text = f"{effect.name} {format_interval(interval)}"
            ends = interval.low, interval.value, interval.high
            color = data.style(effect.arm).color
            bars.append(Bar(_bar_label(effect), text, *ends, color, effect.is_interaction))
    if component is None:
        return bar_panel("Distance from the control", bars, "distance", len(effects))
    return bar_panel(component, bars, "difference", len(effects))


def _bar_label(effect: ArmEffect) -> str:
    """Name of an effect in lines, and in parentheses the factors of the arm."""
    kind = "interaction" if effect.is_interaction else ", ".join(effect.factors)
    lines = (effect.name, f"({kind})")
    return "\n".join(wrap_to_width(line, NAME_WIDTH, NAME_SIZE) for line in lines)


def wrap_path(path: str) -> str:
    """A path in at most two lines, broken at a dot; of a longer one its last parts."""
    parts = path.split(".")
    for count in range(len(parts)):  # parts in the second line, as few as the first line allows
        first, second = ".".join(parts[: len(parts) - count]), ".".join(parts[len(parts) - count :])
        if max(len(first), len(second) + 1) <= MAX_PATH_LENGTH:
            return f"{first}\n.{second}" if second else first
    return f"…{path[-MAX_PATH_LENGTH + 1 :]}"  # the end distinguishes parameters


def sensitivity_figures(data: ReportData, indices: SensitivityIndices | None) -> list[FigureSpec]:
    """Figure of the sensitivity indices; empty without a sensitivity analysis."""
    sensitivity = data.scenario.uncertainty and data.scenario.uncertainty.sensitivity
    if indices is None or not sensitivity:
        return []
    panels, num_parameters = [], len(indices.parameter_names)
    for style_index, (name, band) in enumerate(indices.bands.items()):
        if not np.isfinite(band.value).any():
            continue
        bars = []
        for i in indices.order[:MAX_PARAMETERS]:
            path = indices.parameter_names[i]
            low, value, high = (float(end[i]) for end in (band.low, band.value, band.high))
            text = f"{path} {format_number(value)} ({format_range(low, high)})"
            bars.append(Bar(wrap_path(path), text, low, value, high, plot_style(style_index).color))
        panels.append(bar_panel(INDEX_TITLES[name], bars, max_whisker_ratio=MAX_WHISKER_RATIO))
    if not panels:
        return []
    caption = (
        f"Sensitivity of {describe_metric(data.scenario, sensitivity)} to the uncertain "
        f"parameters. {METHOD_DESCRIPTIONS[indices.method]} {indices.description}, "
        f"{indices.num_points} samples of the parameters. Whiskers: 95 % intervals, cut at three "
        "times the longest bar."
    )
    if indices.noise_share is not None and np.isfinite(indices.noise_share):
        noise = f"{100 * indices.noise_share:.2g} %"
        caption += f" Monte Carlo variance is at most {noise} of the variance between samples."
    if num_parameters > MAX_PARAMETERS:
        caption += f" The {MAX_PARAMETERS} most important of {num_parameters} parameters."
    size = (3.4, 0.9 + 0.34 * min(num_parameters, MAX_PARAMETERS))
    return [FigureSpec("sensitivity", caption, panels, panel_size=size)]
