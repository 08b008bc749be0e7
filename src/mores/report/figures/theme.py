"""Colors of the report in the light and the dark theme, and line styles of arms.

All line colors have a contrast of at least 4.5 to 1 with the backgrounds `paper` and `card` in both
themes. Dashes and markers distinguish arms without color.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

COLORS = {  # in the light and the dark theme
    "ink": ("#1c1e21", "#e8eaed"),
    "soft": ("#5b6168", "#a5adb6"),
    "axis": ("#8b939c", "#7d868f"),
    "grid": ("#e3e6ea", "#30363d"),
    "line-0": ("#0b62a8", "#6cb2f0"),
    "line-1": ("#b8470b", "#ff9a62"),
    "line-2": ("#0f7a55", "#55c99a"),
    "line-3": ("#9a3f86", "#e191d0"),
    "line-4": ("#8a6410", "#e0b84f"),
    "line-5": ("#1f7a92", "#6fd0e6"),
    "line-6": ("#c2255c", "#ff8fb1"),
    "line-7": ("#4b4f56", "#b3bcc6"),
}
LIGHT_COLORS = {name: light for name, (light, _) in COLORS.items()}
DARK_COLORS = {name: dark for name, (_, dark) in COLORS.items()}
DASH_PATTERNS = ((), (5, 2), (1.4, 1.4), (6, 1.6, 1.4, 1.6), (9, 2), (3, 1.2), (2, 3))
MARKERS = "osD^vPX*<>"
MARKER_PATHS = {  # of SVG, in a box of 8 by 8 around (15, 5)
    "o": "M11 5a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
    "s": "M11.5 1.5h7v7h-7z",
    "D": "M15 .6l4.4 4.4l-4.4 4.4l-4.4 -4.4z",
    "^": "M15 1l4.3 7.6h-8.6z",
    "v": "M15 9l-4.3 -7.6h8.6z",
    "P": "M13.6 1h2.8v2.6h2.6v2.8h-2.6v2.6h-2.8v-2.6h-2.6v-2.8h2.6z",
    "X": "M13 1l2 2l2 -2l2 2l-2 2l2 2l-2 2l-2 -2l-2 2l-2 -2l2 -2l-2 -2z",
    "*": "M15 .4l1.2 3.2l3.4 .2l-2.7 2.1l.9 3.3l-2.8 -1.9l-2.8 1.9l.9 -3.3l-2.7 -2.1l3.4 -.2z",
    "<": "M11 5l7.6 -4.3v8.6z",
    ">": "M19 5l-7.6 -4.3v8.6z",
}


class PlotStyle(NamedTuple):
    """Style of a line or of dots.

    Attributes:
        color_name: name of its color.
        dashes: in line widths.
        marker: of matplotlib.
        draws: the line, the markers or both.
        hollow: whether markers are outlines.
    """

    color_name: str
    dashes: tuple[float, ...] = ()
    marker: str = "o"
    draws: Literal["line", "marker", "both"] = "line"
    hollow: bool = False

    @property
    def color(self) -> str:
        """Color in the light theme."""
        return LIGHT_COLORS[self.color_name]

    @property
    def line(self) -> dict[str, Any]:
        """Color and line style as arguments of matplotlib."""
        return {"color": self.color, "linestyle": (0, self.dashes) if self.dashes else "-"}

    @property
    def legend_line(self) -> dict[str, Any]:
        """Arguments of matplotlib for the line and the marker that a legend shows."""
        marker = {} if self.draws == "line" else {"marker": self.marker, "markersize": 6}
        marker |= {"markerfacecolor": "none"} if marker and self.hollow else {}
        return self.line | marker | ({"linestyle": "none"} if self.draws == "marker" else {})

    @property
    def marker_path(self) -> str:
        """The marker as an SVG path around (15, 5); empty if no marker is drawn."""
        return "" if self.draws == "line" else MARKER_PATHS[self.marker]


def plot_style(index: int) -> PlotStyle:
    """Style of the arm with this index; the first eight have different colors."""
    dashes = DASH_PATTERNS[index % len(DASH_PATTERNS)]
    return PlotStyle(f"line-{index % 8}", dashes, MARKERS[index % len(MARKERS)])
