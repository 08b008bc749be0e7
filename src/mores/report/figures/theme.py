"""Colors of the report in the light and the dark theme, and line styles of arms.

All line colors have a contrast of at least 4.5 to 1 with the backgrounds `paper` and `card` in both
themes. Dashes and markers distinguish arms without color.
"""

from __future__ import annotations

from typing import Any, NamedTuple

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


class PlotStyle(NamedTuple):
    """Style of a line: name of its color, dashes in line widths, and marker."""

    color_name: str
    dashes: tuple[float, ...] = ()
    marker: str = "o"

    @property
    def color(self) -> str:
        """Color in the light theme."""
        return LIGHT_COLORS[self.color_name]

    @property
    def line(self) -> dict[str, Any]:
        """Color and line style as arguments of matplotlib."""
        return {"color": self.color, "linestyle": (0, self.dashes) if self.dashes else "-"}


def plot_style(index: int) -> PlotStyle:
    """Style of the arm with this index; the first eight have different colors."""
    dashes = DASH_PATTERNS[index % len(DASH_PATTERNS)]
    return PlotStyle(f"line-{index % 8}", dashes, MARKERS[index % len(MARKERS)])
