"""Colors of the report in the light and the dark theme, and line styles of arms.

All line colors have a contrast of at least 4.5 to 1 with the backgrounds `paper` and `card` in both
themes. Dashes and markers distinguish arms without color.
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
    """Style of a line: name of its color, dashes in line widths, and marker."""

    color_name: str
    dashes: tuple[float, ...]
    marker: str

    @property
    def hex_color(self) -> str:
        """Color in the light theme."""
        return LIGHT_COLORS[self.color_name]

    @property
    def svg_dash_array(self) -> str:
        """Dash array for an SVG line of width 2."""
        return " ".join(f"{2.0 * length:g}" for length in self.dashes)


def plot_style(index: int) -> PlotStyle:
    """Style of the arm with this index; the first eight have different colors."""
    return PlotStyle(
        LINE_COLORS[index % len(LINE_COLORS)],
        DASH_PATTERNS[index % len(DASH_PATTERNS)],
        MARKERS[index % len(MARKERS)],
    )
