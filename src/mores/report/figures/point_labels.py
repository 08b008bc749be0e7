"""Matplotlib artist that writes names beside points, placed when they are drawn."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.textpath import TextToPath

from mores.report.figures.label_placement import (
    GAP,
    Places,
    PointLabel,
    place_labels,
    wrap_name,
)
from mores.report.figures.theme import LIGHT_COLORS

MAX_DISTANCE_WITHOUT_LINE = 10.0  # points
FONT_SIZE = 8.0
LINE_HEIGHT = 1.2  # of the font size


class PointLabels(Artist):
    """The names of points on axes. They are placed when they are drawn, at the final size.

    Args:
        axes: the axes.
        labels: names of points in data coordinates.
        points: x and y of all points.
        radii: radii of their markers, in points (1/72 inch).
        segments: lines that names should not cover: x, y, x, y.
    """

    def __init__(
        self,
        axes: Any,
        labels: Sequence[PointLabel],
        points: Sequence[tuple[float, float]],
        radii: Sequence[float],
        segments: Sequence[tuple[float, float, float, float]] = (),
    ) -> None:
        super().__init__()
        self._target, self._labels = axes, list(labels)
        self._points = np.array(points, dtype=np.float64).reshape(-1, 2)
        self._radii = np.array(radii, dtype=np.float64)
        self._segments = np.array(segments, dtype=np.float64).reshape(-1, 4)
        self.places: Places | None = None  # 1/72 inch from the lower left corner of the axes
        self._key = b""
        self.set_figure(axes.get_figure(root=False))
        self.set_in_layout(False)
        self.set_zorder(6)

    def draw(self, renderer: Any) -> None:
        """Place and draw all names."""
        if not self._labels:
            return
        unit = renderer.points_to_pixels(1.0)
        area = self._target.get_window_extent(renderer)
        origin = np.array([area.x0, area.y0])

        def in_points(coordinates: Any) -> np.ndarray:
            return (self._target.transData.transform(coordinates) - origin) / unit

        texts = [wrap_name(label.text).split("\n") for label in self._labels]
        sizes = np.array([_size(lines) for lines in texts])
        named = [in_points(label.points) for label in self._labels]
        lines = in_points(self._segments.reshape(-1, 2)).reshape(-1, 4)
        corner = (area.width / unit, area.height / unit)
        key = np.concatenate([corner, *map(np.ravel, named)]).round(1).tobytes()
        if key != self._key:  # each figure is drawn several times, as PNG and SVG
            markers = in_points(self._points)
            self.places = place_labels(
                sizes, named, markers, self._radii, lines, (0.0, 0.0, *corner)
            )
            self._key = key
        assert self.places is not None
        boxes = self.places.boxes * unit + np.tile(origin, 2)
        leaders = self.places.leaders * unit + np.tile(origin, 2)
        for label, text, box, leader in zip(self._labels, texts, boxes, leaders, strict=True):
            self._draw_one(renderer, label, text, box, leader, unit)

    def _draw_one(
        self,
        renderer: Any,
        label: PointLabel,
        lines: Sequence[str],
        box: np.ndarray,
        leader: np.ndarray,
        unit: float,
    ) -> None:
        anchor, end = leader[:2], leader[2:]
        if np.linalg.norm(end - anchor) > MAX_DISTANCE_WITHOUT_LINE * unit:
            color = LIGHT_COLORS["axis"]
            xs, ys = zip(anchor, end, strict=True)
            self._draw_child(renderer, Line2D(xs, ys, color=color, lw=0.6, zorder=1))
        align = "right" if end[0] < anchor[0] and box[2] <= anchor[0] else "left"
        x = box[2] - GAP * unit if align == "right" else box[0] + GAP * unit
        step = FONT_SIZE * LINE_HEIGHT * unit
        for row, line in enumerate(lines):
            y = box[3] - GAP * unit - (row + 0.78) * step
            options: dict[str, Any] = {"ha": align, "va": "baseline", "fontsize": FONT_SIZE}
            color = LIGHT_COLORS[label.color_name]
            self._draw_child(renderer, Text(x, y, line, color=color, **options))

    def _draw_child(self, renderer: Any, child: Artist) -> None:
        child.set_figure(self._target.get_figure(root=False))
        child.draw(renderer)


@functools.cache
def _width(line: str) -> float:
    """Width of a text, without the rounding of a renderer to its pixels."""
    font = FontProperties(size=FONT_SIZE)
    return TextToPath().get_text_width_height_descent(line, font, ismath=False)[0]


def _size(lines: Sequence[str]) -> tuple[float, float]:
    """Width and height of lines, points."""
    return max(map(_width, lines)), len(lines) * FONT_SIZE * LINE_HEIGHT
