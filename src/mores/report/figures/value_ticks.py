"""Ticks of an x axis at given values: numbers, or texts in lines, tilted if they are too long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mores.report.figures.label_placement import wrap_name

MAX_NUMBERS = 9  # of more numbers, round ones are ticks
CHARACTERS_PER_INCH = 12  # of the texts at ticks
Y_AXIS_WIDTH = 0.9  # inches
TILTED_HEIGHT = 0.03  # inches per character


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
    def _line_length(self) -> int:
        """Largest number of characters in a line that does not overlap the next tick's text."""
        width = self.width - Y_AXIS_WIDTH
        return max(1, int(CHARACTERS_PER_INCH * width / len(self.positions)))

    @property
    def _are_tilted(self) -> bool:
        """Whether texts are too long for horizontal lines."""
        wrapped = (wrap_name(text, self._line_length).split("\n") for text in self.texts)
        return not self.is_numeric and any(
            len(line) > self._line_length for lines in wrapped for line in lines
        )

    @property
    def extra_height(self) -> float:
        """Height of tilted texts, inches."""
        return TILTED_HEIGHT * max(map(len, self.texts)) if self._are_tilted else 0.0

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
        if self._are_tilted:
            axes.set_xticks(self.positions, self.texts, rotation=25, ha="right")
        else:
            length = self._line_length
            axes.set_xticks(self.positions, [wrap_name(text, length) for text in self.texts])

    def _fit(self) -> bool:
        """Whether the numbers are few, and far enough from each other for their texts."""
        ordered = np.sort(np.log(self.positions) if self.log else self.positions)
        span = float(np.ptp(ordered))
        apart = span == 0.0 or bool(np.diff(ordered).min() > 0.07 * span)
        return apart and len(self.positions) <= MAX_NUMBERS
