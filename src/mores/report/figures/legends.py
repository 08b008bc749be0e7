"""Legend below the panels of a figure, in as many columns as fit its width."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mores.report.figures.text_fitting import wrap_to_width
from mores.report.figures.theme import PlotStyle

MAX_COLUMNS = 4
FONT_SIZE = 8.5  # points: legend.fontsize of mores.mplstyle
HANDLE_WIDTH = 40.0  # points: line, gaps around it and margin of the legend
FITTING = 0.97  # of the width: a text is up to 3 % wider at another resolution
GAP = 0.08  # inches above the legend


def add_legend(canvas: Any, styles: Mapping[str, PlotStyle], max_columns: int) -> float:
    """Add a legend below the panels, and return the height that it needs, inches.

    Names have several lines if they are wider than the figure. The legend has the largest number
    of columns that fits.

    Args:
        canvas: a matplotlib figure of its final width.
        styles: style by name; without names there is no legend.
        max_columns: largest number of columns.
    """
    from matplotlib.lines import Line2D

    if not styles:
        return 0.0
    width = FITTING * canvas.get_figwidth() * 72.0  # points
    labels = [wrap_to_width(name, width - HANDLE_WIDTH, FONT_SIZE) for name in styles]
    lines = [Line2D([], [], **style.legend_line) for style in styles.values()]
    renderer = canvas.canvas.get_renderer()
    columns = max(1, min(max_columns, MAX_COLUMNS, len(styles)))
    while True:
        legend = canvas.legend(
            lines, labels, loc="outside lower center", ncols=columns, borderaxespad=0.1
        )
        extent = legend.get_window_extent(renderer)
        if extent.width <= FITTING * canvas.bbox.width or columns == 1:
            return extent.height / canvas.dpi + GAP
        legend.remove()
        columns -= 1
