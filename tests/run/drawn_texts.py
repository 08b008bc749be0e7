"""Boxes of all texts that a renderer draws, for tests that none is cut or overlaps another."""

from __future__ import annotations

import io
import itertools
from typing import Any, NamedTuple

import numpy as np
import pytest
from matplotlib.text import Text

from mores.report.figures.rendering import FigureSpec, draw_canvas, report_style

RESOLUTIONS = {"png": 160.0, "svg": 72.0}  # pixels per inch
TOLERANCE = 1.0  # pixels by which boxes may overlap: they include the space below a line


class DrawnText(NamedTuple):
    """A text, its center, half its width and height, and its angle in radians."""

    text: str
    center: np.ndarray
    half: np.ndarray
    angle: float

    @property
    def axes(self) -> np.ndarray:
        """Unit vectors along and across the text."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return np.array([[cos, sin], [-sin, cos]])

    @property
    def corners(self) -> np.ndarray:
        """The four corners."""
        signs = np.array(list(itertools.product((-1, 1), repeat=2)))
        return self.center + (signs * self.half) @ self.axes


class Drawn(NamedTuple):
    """What a renderer drew: texts, and the width and height of the canvas in pixels."""

    texts: list[DrawnText]
    size: np.ndarray


def drawn_texts(figure: FigureSpec, file_format: str) -> Drawn:
    """Texts as drawn in a file of a format, `png` or `svg`."""
    found: dict[int, DrawnText] = {}
    draw = Text.draw

    def record(self: Text, renderer: Any) -> None:
        draw(self, renderer)
        if not self.get_visible() or not self.get_text().strip():
            return
        angle = self.get_rotation()
        extent = self.get_window_extent(renderer)  # of a turned text, the box around it
        self.set_rotation(0.0)
        flat = self.get_window_extent(renderer)
        self.set_rotation(angle)
        half = np.array([flat.width, flat.height]) / 2.0
        center = np.array([extent.x0 + extent.x1, extent.y0 + extent.y1]) / 2.0
        found[id(self)] = DrawnText(self.get_text(), center, half, np.radians(angle))

    with report_style(), pytest.MonkeyPatch.context() as patch:
        canvas = draw_canvas(figure)
        patch.setattr(Text, "draw", record)
        if file_format == "png":  # one pass is enough
            canvas.set_dpi(RESOLUTIONS["png"])
            canvas.canvas.draw()
        else:
            canvas.savefig(io.BytesIO(), format=file_format)
        size = RESOLUTIONS[file_format] * np.array(canvas.get_size_inches())
        return Drawn([*found.values()], size)


def cut_texts(drawn: Drawn) -> list[str]:
    """Texts that are not wholly on the canvas."""
    return [
        each.text
        for each in drawn.texts
        if (each.corners < -TOLERANCE).any() or (each.corners > drawn.size + TOLERANCE).any()
    ]


def overlapping_texts(drawn: Drawn) -> list[tuple[str, str]]:
    """Pairs of texts whose boxes overlap, by the separating axis theorem."""
    pairs = itertools.combinations(drawn.texts, 2)
    return [(a.text, b.text) for a, b in pairs if _overlap(a, b)]


def _overlap(a: DrawnText, b: DrawnText) -> bool:
    for axis in (*a.axes, *b.axes):
        first, second = a.corners @ axis, b.corners @ axis
        if min(first.max(), second.max()) - max(first.min(), second.min()) <= TOLERANCE:
            return False
    return True
