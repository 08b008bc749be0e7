"""Bar charts of Sobol or Morris sensitivity indices."""

from __future__ import annotations

from typing import Any

import numpy as np

from mores.analysis.intervals import ConfidenceBand
from mores.analysis.sensitivity import SensitivityIndices
from mores.experiments.scenario.claim_inputs import claim_arm
from mores.report.figures.plot_data import ReportData, format_number
from mores.report.figures.rendering import FigureSpec, PanelSpec
from mores.report.figures.theme import LIGHT_COLORS, plot_style

MAX_PARAMETERS = 20  # parameters in a figure, in order of importance
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

MAX_WHISKER_RATIO = 3.0  # of a whisker to the longest bar; longer whiskers are cut


def sensitivity_figures(data: ReportData, indices: SensitivityIndices | None) -> list[FigureSpec]:
    """Figure of the sensitivity indices; empty without a sensitivity analysis."""
    sensitivity = data.scenario.uncertainty and data.scenario.uncertainty.sensitivity
    if indices is None or not sensitivity:
        return []
    order = [indices.parameter_names.index(name) for name in indices.ranked_names[:MAX_PARAMETERS]]
    fields = ("first_order", "total_order") if indices.method == "sobol" else ("mu_star", "sigma")
    names = [indices.parameter_names[i] for i in order]
    panels = []
    for style_index, field in enumerate(fields):
        band: ConfidenceBand | None = getattr(indices, field)
        if band is not None and np.isfinite(band.value).any():
            ordered = ConfidenceBand(*(np.asarray(array)[order] for array in band))
            panels.append(_index_panel(INDEX_TITLES[field], names, ordered, style_index))
    if not panels:
        return []
    caption = (
        f"Sensitivity of {_describe_output(data, sensitivity)} to the uncertain parameters. "
        f"{METHOD_DESCRIPTIONS[indices.method]} {indices.description}, {indices.num_points} "
        "samples of the parameters. Whiskers: 95 % intervals, cut at three times the longest bar."
    )
    if indices.noise_share is not None and np.isfinite(indices.noise_share):
        noise = f"{100 * indices.noise_share:.2g} %"
        caption += f" Monte Carlo variance is at most {noise} of the variance between samples."
    if (total := len(indices.parameter_names)) > MAX_PARAMETERS:
        caption += f" The {MAX_PARAMETERS} most important of {total} parameters."
    size = (3.4, 0.9 + 0.34 * len(order))
    return [FigureSpec("sensitivity", caption, tuple(panels), (), size, 2)]


def _describe_output(data: ReportData, sensitivity: Any) -> str:
    scenario = data.scenario
    rounds = (
        scenario.rounds_per_episode(scenario.stage(None))
        if sensitivity.at_round is None
        else sensitivity.at_round
    )
    arm = f" in {claim_arm(scenario, sensitivity)}" if scenario.arms else ""
    reference = f" minus {sensitivity.compare_to}" if sensitivity.compare_to else ""
    return f"{sensitivity.metric}{arm}{reference} after {rounds} rounds"


def _index_panel(title: str, names: list[str], band: ConfidenceBand, style_index: int) -> PanelSpec:
    color = plot_style(style_index).hex_color

    def draw(axes: Any) -> None:
        rows = np.arange(len(names))
        axes.barh(rows, band.value, 0.55, color=color, alpha=0.75)
        for row, low, high in zip(rows, band.low, band.high, strict=True):
            if np.isfinite([low, high]).all():
                axes.plot([low, high], [row, row], color=LIGHT_COLORS["ink"], linewidth=1.3)
        limit = MAX_WHISKER_RATIO * float(np.nanmax(np.abs(band.value), initial=0.0))
        if limit and np.nanmax(band.high) > limit:  # a long whisker would hide the bars
            axes.set_xlim(max(float(np.nanmin(band.low)), -limit) * 1.05, limit)
        axes.axvline(0, color=LIGHT_COLORS["axis"], linewidth=0.8)
        axes.set_yticks(rows, [_shorten_path(name) for name in names])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.grid(False, axis="y")
        axes.locator_params(axis="x", nbins=3)

    pairs = zip(names, band.value, band.low, band.high, strict=True)
    texts = (
        f"{name} {format_number(value)} ({format_number(low)} to {format_number(high)})"
        for name, value, low, high in pairs
    )
    return PanelSpec(title, f"{'; '.join(texts)}.", draw)


def _shorten_path(path: str, max_length: int = 24) -> str:
    """End of a dotted path, which distinguishes parameters."""
    return path if len(path) <= max_length else f"…{path[-max_length + 1 :]}"
