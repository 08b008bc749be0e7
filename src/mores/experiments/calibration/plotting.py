"""Figure of a calibration: parameters within their ranges, differences from the targets."""

from __future__ import annotations

import io
from importlib import resources
from typing import Any

import numpy as np

from mores.experiments.calibration.result import CalibrationResult


def calibration_figure_png(result: CalibrationResult) -> bytes:
    """Figure as PNG bytes."""
    import matplotlib.style
    from matplotlib.figure import Figure

    style = resources.files("mores.report") / "mores.mplstyle"
    with resources.as_file(style) as path, matplotlib.style.context(str(path)):
        rows = max(len(result.parameters), len(result.targets))
        figure = Figure(figsize=(10, 1.4 + 0.34 * rows), layout="constrained")
        left, right = figure.subplots(1, 2)
        _plot_parameters(left, result)
        _plot_targets(right, result)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", facecolor="white")
    return buffer.getvalue()


def _plot_parameters(axes: Any, result: CalibrationResult) -> None:
    """Plot value and interval of each parameter, scaled to its search range."""
    for row, parameter in enumerate(result.parameters):
        values = [parameter.low, parameter.value, parameter.high]
        left, center, right = np.interp(values, parameter.search_range, (0, 1))
        axes.plot([0, 1], [row, row], color="#dddddd", linewidth=6, solid_capstyle="butt")
        axes.plot([left, right], [row, row], color="#0072B2", linewidth=2)
        axes.plot(center, row, "o", color="#0072B2")
        text = f"{parameter.value:.4g} [{parameter.low:.4g}, {parameter.high:.4g}]"
        axes.annotate(text, (0.5, row), (0, 6), textcoords="offset points", ha="center", size=8)
    axes.set_yticks(range(len(result.parameters)), [p.path for p in result.parameters])
    axes.set_ylim(len(result.parameters) - 0.4, -0.8)
    axes.set(xlim=(-0.02, 1.02), xticks=[0, 1], xticklabels=["low", "high"], xlabel="search range")
    axes.set_title("fitted parameters, 95 % intervals")


def _plot_targets(axes: Any, result: CalibrationResult) -> None:
    """Plot simulated moment minus target in standard errors of the difference."""
    axes.axvspan(-1.96, 1.96, color="#eeeeee", linewidth=0)
    axes.axvline(0, color="#999999", linewidth=1)
    names = []
    for row, target in enumerate(result.targets):
        held_out = target.usage == "predicted"
        names.append(_truncate(target.statement) + (" (held out)" if held_out else ""))
        x = float(np.clip(-target.z, -6, 6))
        marker = "o" if abs(target.z) <= 6 else (">" if x > 0 else "<")
        color = "#D55E00" if held_out else "#0072B2"
        axes.plot(x, row, marker, color=color, mfc="white" if held_out else color)
        text = f"{target.simulated:.4g} (target {target.value:.4g})"
        axes.annotate(text, (x, row), (8, 0), textcoords="offset points", va="center", size=8)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlim=(-6.5, 8.5), ylim=(len(names) - 0.4, -0.6))
    axes.set_xlabel("simulated minus target, in standard errors")
    axes.set_title("targets: filled = fitted, open = held out")


def _truncate(text: str, max_length: int = 40) -> str:
    return text if len(text) <= max_length else text[: max_length - 1] + "…"
