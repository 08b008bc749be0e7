"""The colours of a report, in light and in dark, and how an arm looks in every figure.

All colours of lines have a contrast of at least 4.5 to 1 with the paper and the cards behind them,
in both themes; dashes and markers tell arms apart without colour.
"""

from __future__ import annotations

from typing import NamedTuple

LIGHT_COLORS = {
    "ink": "#1c1e21",
    "soft": "#5b6168",
    "axis": "#8b939c",
    "grid": "#e3e6ea",
    "line-0": "#0b62a8",
    "line-1": "#b8470b",
    "line-2": "#0f7a55",
    "line-3": "#9a3f86",
    "line-4": "#8a6410",
    "line-5": "#1f7a92",
    "line-6": "#c2255c",
    "line-7": "#4b4f56",
}
DARK_COLORS = {
    "ink": "#e8eaed",
    "soft": "#a5adb6",
    "axis": "#7d868f",
    "grid": "#30363d",
    "line-0": "#6cb2f0",
    "line-1": "#ff9a62",
    "line-2": "#55c99a",
    "line-3": "#e191d0",
    "line-4": "#e0b84f",
    "line-5": "#6fd0e6",
    "line-6": "#ff8fb1",
    "line-7": "#b3bcc6",
}
LINE_COLORS = [name for name in LIGHT_COLORS if name.startswith("line-")]
DASH_PATTERNS = (
    (),
    (5.0, 2.0),
    (1.4, 1.4),
    (6.0, 1.6, 1.4, 1.6),
    (9.0, 2.0),
    (3.0, 1.2),
    (2.0, 3.0),
)
MARKERS = "osD^vPX*<>"


class PlotStyle(NamedTuple):
    """How a line is drawn: its colour's name, dashes in widths of the line, and marker."""

    color_name: str
    dashes: tuple[float, ...]
    marker: str

    @property
    def hex_color(self) -> str:
        """The colour on white paper."""
        return LIGHT_COLORS[self.color_name]

    @property
    def svg_dash_array(self) -> str:
        """The dashes as SVG writes them, for a line 2 wide."""
        return " ".join(f"{2.0 * length:g}" for length in self.dashes)


def plot_style(index: int) -> PlotStyle:
    """The look of the arm of that number; eight have colours of their own."""
    return PlotStyle(
        LINE_COLORS[index % len(LINE_COLORS)],
        DASH_PATTERNS[index % len(DASH_PATTERNS)],
        MARKERS[index % len(MARKERS)],
    )
