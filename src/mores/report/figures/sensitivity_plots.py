"""Bar charts of Sobol or Morris sensitivity indices."""

from __future__ import annotations

import numpy as np

from mores.analysis.sensitivity import SensitivityIndices
from mores.report.figures.bar_charts import Bar, bar_panel
from mores.report.figures.plot_data import ReportData, describe_metric, format_number
from mores.report.figures.rendering import FigureSpec
from mores.report.figures.theme import plot_style

MAX_PARAMETERS = 20  # parameters in a figure, in order of importance
MAX_PATH_LENGTH = 24
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
MAX_WHISKER_RATIO = 3.0  # of a whisker to the longest bar; a longer one would hide the bars


def sensitivity_figures(data: ReportData, indices: SensitivityIndices | None) -> list[FigureSpec]:
    """Figure of the sensitivity indices; empty without a sensitivity analysis."""
    sensitivity = data.scenario.uncertainty and data.scenario.uncertainty.sensitivity
    if indices is None or not sensitivity:
        return []
    panels, num_parameters = [], len(indices.parameter_names)
    for style_index, (title, band) in enumerate(
        (INDEX_TITLES[name], band) for name, band in indices.bands.items()
    ):
        if not np.isfinite(band.value).any():
            continue
        bars = []
        for i in indices.order[:MAX_PARAMETERS]:
            path = indices.parameter_names[i]
            low, value, high = (float(end[i]) for end in (band.low, band.value, band.high))
            interval = f"{format_number(low)} to {format_number(high)}"
            text = f"{path} {format_number(value)} ({interval})"
            is_short = len(path) <= MAX_PATH_LENGTH  # else its end, which distinguishes parameters
            label = path if is_short else f"…{path[-MAX_PATH_LENGTH + 1 :]}"
            bars.append(Bar(label, text, low, value, high, plot_style(style_index).color))
        panels.append(bar_panel(title, bars, max_whisker_ratio=MAX_WHISKER_RATIO))
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
