"""Pictures of a run: drift from the twin and its causes, people, measures, learning,
sweeps, and which uncertain parameter carries a result.

Bands and whiskers are 95 % intervals of the mean over replicates, at each round by itself
(Student's t).
"""

from __future__ import annotations

from mores.analysis.sensitivity import SensitivityIndices
from mores.report.figures.attribution_plots import attribution_figures
from mores.report.figures.drift_plots import drift_figures
from mores.report.figures.learning_curves import learning_figures
from mores.report.figures.metric_lines import metric_figures
from mores.report.figures.people_plots import people_figures
from mores.report.figures.plot_data import ReportData
from mores.report.figures.rendering import FigureSpec, RenderedFigure, render
from mores.report.figures.sensitivity_plots import sensitivity_figures
from mores.report.figures.sweep_plots import sweep_figures


def render_figures(
    data: ReportData, sensitivity: SensitivityIndices | None = None
) -> list[RenderedFigure]:
    """All the pictures that this run has something to show for, in the order of the report."""
    figures: list[FigureSpec] = [
        *drift_figures(data),
        *people_figures(data),
        *attribution_figures(data),
        *learning_figures(data),
        *sweep_figures(data),
        *sensitivity_figures(data, sensitivity),
        *metric_figures(data),
    ]
    return render(figures)


__all__ = ["RenderedFigure", "ReportData", "render_figures"]
