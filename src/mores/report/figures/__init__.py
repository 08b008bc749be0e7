"""Figures of a run: those of the scenario, the first claim, drift relative to the control,
attribution, people, learning curves, sweeps, sensitivity, metrics.

Bands and whiskers are 95 % intervals of the mean over replicates (Student's t), pointwise in
rounds.
"""

from __future__ import annotations

from mores.analysis.sensitivity import SensitivityIndices
from mores.experiments.scenario.figure_check import MetricRequirement
from mores.report.figures.bar_charts import attribution_figures, sensitivity_figures
from mores.report.figures.claim_lines import claim_figures
from mores.report.figures.drift_plots import drift_figures
from mores.report.figures.figure import Figure, scenario_figures
from mores.report.figures.metric_lines import learning_figures, metric_figures
from mores.report.figures.people_plots import people_figures
from mores.report.figures.plot_data import ReportData
from mores.report.figures.rendering import FigureSpec, PanelSpec, RenderedFigure, render
from mores.report.figures.sweep_plots import sweep_figures


def render_figures(
    data: ReportData, sensitivity: SensitivityIndices | None = None
) -> list[RenderedFigure]:
    """Figures of a run in the order of the report; figures without data are omitted."""
    if len(data.points) > 1:
        return render([*sweep_figures(data), *sensitivity_figures(data, sensitivity)])
    return render(
        [
            *scenario_figures(data),
            *claim_figures(data),
            *drift_figures(data),
            *people_figures(data),
            *attribution_figures(data),
            *learning_figures(data),
            *sensitivity_figures(data, sensitivity),
            *metric_figures(data),
        ]
    )


__all__ = [
    "Figure",
    "FigureSpec",
    "MetricRequirement",
    "PanelSpec",
    "RenderedFigure",
    "ReportData",
    "render_figures",
]
