"""The colours of a report, in light and in dark, and how an arm looks in every figure.

All colours of lines have a contrast of at least 4.5 to 1 with the paper and the cards behind them,
in both themes; dashes and markers tell arms apart without colour.
"""

from __future__ import annotations

from typing import NamedTuple

LIGHT = {
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
DARK = {
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
LINES = [name for name in LIGHT if name.startswith("line-")]
DASHES = ((), (5.0, 2.0), (1.4, 1.4), (6.0, 1.6, 1.4, 1.6), (9.0, 2.0), (3.0, 1.2), (2.0, 3.0))
MARKERS = "osD^vPX*<>"


class Look(NamedTuple):
    """How a line is drawn: its colour's name, dashes in widths of the line, and marker."""

    color: str
    dashes: tuple[float, ...]
    marker: str

    @property
    def hex(self) -> str:
        """The colour on white paper."""
        return LIGHT[self.color]

    @property
    def dash_array(self) -> str:
        """The dashes as SVG writes them, for a line 2 wide."""
        return " ".join(f"{2.0 * length:g}" for length in self.dashes)


def look(number: int) -> Look:
    """The look of the arm of that number; eight have colours of their own."""
    return Look(
        LINES[number % len(LINES)], DASHES[number % len(DASHES)], MARKERS[number % len(MARKERS)]
    )
