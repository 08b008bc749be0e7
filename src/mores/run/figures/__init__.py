"""Pictures of a run: drift from the twin and its causes, people, measures, learning,
sweeps, and which uncertain parameter carries a result.

Bands and whiskers are 95 % intervals of the mean over replicates, at each round by itself
(Student's t).
"""

from __future__ import annotations

from mores.analysis.sensitivity import Indices
from mores.run.figures.canvas import Figure, Picture, render
from mores.run.figures.causes import cause_figures
from mores.run.figures.drift import drift_figures
from mores.run.figures.learning import learning_figures
from mores.run.figures.lines import measure_figures
from mores.run.figures.people import people_figures
from mores.run.figures.sensitivity import sensitivity_figures
from mores.run.figures.shown import Shown
from mores.run.figures.sweeps import sweep_figures


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
