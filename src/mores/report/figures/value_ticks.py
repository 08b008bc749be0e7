"""Ticks of an x axis at given values: numbers, or texts in lines, turned if they are too long."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mores.report.figures.text_fitting import text_width, wrap_to_width

MAX_NUMBERS = 9  # of more numbers, round ones are ticks
Y_AXIS_WIDTH = 0.9  # inches
SIZE = 8.5  # points: xtick.labelsize of mores.mplstyle
GAP = 4.0  # points between texts
TILT = 25.0  # degrees
LINE_WIDTHS = (130.0, 190.0, 280.0, math.inf)  # points: longest line of turned texts
LINE_HEIGHT = 11.0  # points


class ValueTicks(NamedTuple):
    """Positions on the x axis, and their texts.

    Attributes:
        positions: on the axis.
        texts: one for each position.
        is_numeric: whether positions are values of the x axis, not indices of texts.
        log: whether the axis is logarithmic.
        width: of the panel, inches.
    """

    positions: Sequence[float]
    texts: Sequence[str]
    is_numeric: bool
    log: bool
    width: float

    @property
    def _space(self) -> float:
        """Width of a text that does not reach the next one, points."""
        return 72.0 * (self.width - Y_AXIS_WIDTH) / len(self.positions)

    @property
    def _are_turned(self) -> bool:
        """Whether a word is too long for a horizontal line."""
        words = (word for text in self.texts for word in text.replace("_", "_ ").split())
        return not self.is_numeric and any(
            text_width(word, SIZE) > self._space - GAP for word in words
        )

    @property
    def _lines(self) -> list[str]:
        """The texts in lines: turned ones in as few as have space beside each other."""
        widths = LINE_WIDTHS if self._are_turned else (self._space - GAP,)
        wrapped = [[wrap_to_width(text, width, SIZE) for text in self.texts] for width in widths]
        return next((lines for lines in wrapped if _height(lines) <= self._space), wrapped[-1])

    @property
    def _angle(self) -> float:
        """Of turned texts, degrees: tilted, or upright where lines are close to each other."""
        apart = self._space * math.sin(math.radians(TILT))
        return TILT if _height(self._lines) < apart else 90.0

    @property
    def extra_height(self) -> float:
        """Height of turned texts, inches."""
        if not self._are_turned:
            return 0.0
        longest = max(text_width(text, SIZE) for text in self._lines)
        return longest / 72.0 * math.sin(math.radians(self._angle))

    def draw(self, axes: Any) -> None:
        """Set scale, margin and ticks of the x axis."""
        axes.set_xmargin(0.06)
        if not self.is_numeric:  # space for series that are shifted
            axes.set_xlim(-0.6, len(self.positions) - 0.4)
        if self.log:
            axes.set_xscale("log")
            axes.minorticks_off()
        if self.is_numeric and not self._fit():
            return
        turned = {}
        if self._are_turned:
            align = "right" if self._angle == TILT else "center"
            turned = {"rotation": self._angle, "ha": align}
        axes.set_xticks(self.positions, self._lines, **turned)

    def _fit(self) -> bool:
        """Whether the numbers are few, and far enough from each other for their texts."""
        ordered = np.sort(np.log(self.positions) if self.log else self.positions)
        span = float(np.ptp(ordered))
        apart = span == 0.0 or bool(np.diff(ordered).min() > 0.07 * span)
        return apart and len(self.positions) <= MAX_NUMBERS


def _height(texts: Sequence[str]) -> float:
    """Height of the text with the most lines, points."""
    return LINE_HEIGHT * max(text.count("\n") + 1 for text in texts)
