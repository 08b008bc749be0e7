"""Pictures of a run: drift from the twin and its causes, people, measures, learning,
sweeps, and which uncertain parameter carries a result.

Bands and whiskers are 95 % intervals of the mean over replicates, at each round by itself
(Student's t).
"""

from __future__ import annotations

from mores.analysis.sensitivity import Indices
from mores.report.figures.attribution_plots import cause_figures
from mores.report.figures.drift_plots import drift_figures
from mores.report.figures.learning_curves import learning_figures
from mores.report.figures.metric_lines import measure_figures
from mores.report.figures.people_plots import people_figures
from mores.report.figures.plot_data import Shown
from mores.report.figures.rendering import Figure, Picture, render
from mores.report.figures.sensitivity_plots import sensitivity_figures
from mores.report.figures.sweep_plots import sweep_figures


def pictures(shown: Shown, sensitivity: Indices | None = None) -> list[Picture]:
    """All the pictures that this run has something to show for, in the order of the report."""
    figures: list[Figure] = [
        *drift_figures(shown),
        *people_figures(shown),
        *cause_figures(shown),
        *learning_figures(shown),
        *sweep_figures(shown),
        *sensitivity_figures(shown, sensitivity),
        *measure_figures(shown),
    ]
    return render(figures)


__all__ = ["Picture", "Shown", "pictures"]
