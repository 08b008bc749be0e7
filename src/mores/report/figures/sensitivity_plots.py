"""Which uncertain parameter carries a result: Sobol or Morris indices as bars."""

from __future__ import annotations

from typing import Any

import numpy as np

from mores.analysis.intervals import ConfidenceBand
from mores.analysis.sensitivity import SensitivityIndices
from mores.experiments.scenario.claim_inputs import claim_arm
from mores.report.figures.plot_data import ReportData, format_number
from mores.report.figures.rendering import FigureSpec, PanelSpec
from mores.report.figures.theme import LIGHT_COLORS, plot_style

MAX_PARAMETERS = 20  # parameters in a picture, the most important first
INDEX_TITLES = {
    "first": "By itself: share of the variance",
    "total": "With all it acts together with",
    "mu_star": "Mean size of its effect (μ*)",
    "sigma": "How its effect varies (σ)",
}
METHOD_DESCRIPTIONS = {
    "sobol": "By itself: the share of the result's variance that a parameter explains alone. With "
    "all it acts together with: what would remain if all others were known.",
    "morris": "μ*: how much the result changes, on average and in its own units, when a parameter "
    "goes through its whole range. σ: how much that depends on the other parameters.",
}

MAX_WHISKER_RATIO = 3.0  # times the longest bar; whiskers beyond are cut


def sensitivity_figures(data: ReportData, indices: SensitivityIndices | None) -> list[FigureSpec]:
    """Bars of the indices; none where a scenario does not ask for them."""
    asked = data.scenario.uncertainty and data.scenario.uncertainty.sensitivity
    if indices is None or not asked:
        return []
    order = [indices.parameter_names.index(name) for name in indices.ranked_names[:MAX_PARAMETERS]]
    kinds = ("first", "total") if indices.method == "sobol" else ("mu_star", "sigma")
    panels = []
    for place, kind in enumerate(kinds):
        band: ConfidenceBand | None = getattr(indices, kind)
        if band is not None and np.isfinite(band.value).any():
            names = [indices.parameter_names[i] for i in order]
            chosen = ConfidenceBand(*(np.asarray(part)[order] for part in band))
            panels.append(_index_panel(INDEX_TITLES[kind], names, chosen, place))
    if not panels:
        return []
    caption = f"What {_describe_output(data, asked)} depends on. {METHOD_DESCRIPTIONS[indices.method]} {indices.description}, "
    caption += f"{indices.num_points} points; whiskers: 95 % intervals, cut at three times the longest bar."
    if indices.noise_share is not None and np.isfinite(indices.noise_share):
        caption += (
            f" Chance between replicates makes up at most {100 * indices.noise_share:.2g} % of the "
            "variance between points."
        )
    if len(indices.parameter_names) > MAX_PARAMETERS:
        caption += (
            f" The {MAX_PARAMETERS} most important of {len(indices.parameter_names)} parameters."
        )
    size = (3.4, 0.9 + 0.34 * len(order))
    return [FigureSpec("sensitivity", caption, tuple(panels), (), size, 2)]


def _describe_output(data: ReportData, sensitivity: Any) -> str:
    scenario = data.scenario
    at = (
        scenario.rounds_per_episode(scenario.stage(None))
        if sensitivity.at_round is None
        else sensitivity.at_round
    )
    arm = f" in {claim_arm(scenario, sensitivity)}" if scenario.arms else ""
    less = f" less that in {sensitivity.compare_to}" if sensitivity.compare_to else ""
    return f"{sensitivity.metric}{arm}{less} after {at} rounds"


def _index_panel(title: str, names: list[str], band: ConfidenceBand, style_index: int) -> PanelSpec:
    color = plot_style(style_index).hex_color

    def draw(axes: Any) -> None:
        rows = np.arange(len(names))
        axes.barh(rows, band.value, 0.55, color=color, alpha=0.75)
        for row, low, high in zip(rows, band.low, band.high, strict=True):
            if np.isfinite([low, high]).all():
                axes.plot([low, high], [row, row], color=LIGHT_COLORS["ink"], linewidth=1.3)
        longest = MAX_WHISKER_RATIO * float(np.nanmax(np.abs(band.value), initial=0.0))
        if longest and np.nanmax(band.high) > longest:  # one whisker must not hide all bars
            axes.set_xlim(max(float(np.nanmin(band.low)), -longest) * 1.05, longest)
        axes.axvline(0, color=LIGHT_COLORS["axis"], linewidth=0.8)
        axes.set_yticks(rows, [_shorten_path(name) for name in names])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.grid(False, axis="y")
        axes.locator_params(axis="x", nbins=3)

    pairs = zip(names, band.value, band.low, band.high, strict=True)
    told = (
        f"{n} {format_number(v)} ({format_number(low)} to {format_number(high)})"
        for n, v, low, high in pairs
    )
    return PanelSpec(title, f"{'; '.join(told)}.", draw)


def _shorten_path(path: str, max_length: int = 24) -> str:
    """The end of a dotted path: what tells parameters apart."""
    return path if len(path) <= max_length else f"…{path[-max_length + 1 :]}"
