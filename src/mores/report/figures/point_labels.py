"""Matplotlib artist that writes names beside points, placed when they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.lines import Line2D
from matplotlib.text import Text

from mores.report.figures.label_placement import (
    GAP,
    Boxes,
    PointLabel,
    leaders,
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
        segments: lines that names should not cover: x, y, x, y.
    """

    def __init__(
        self,
        axes: Any,
        labels: Sequence[PointLabel],
        points: Sequence[tuple[float, float]],
        segments: Sequence[tuple[float, float, float, float]] = (),
    ) -> None:
        super().__init__()
        self._target, self._labels = axes, list(labels)
        self._points = np.array(points, dtype=np.float64).reshape(-1, 2)
        self._segments = np.array(segments, dtype=np.float64).reshape(-1, 4)
        self.boxes: Boxes = np.zeros((0, 4))  # of the last drawing, pixels
        self.set_figure(axes.get_figure(root=False))
        self.set_in_layout(False)
        self.set_zorder(6)

    def draw(self, renderer: Any) -> None:
        """Place and draw all names."""
        if not self._labels:
            return
        unit = renderer.points_to_pixels(1.0)
        transform = self._target.transData.transform
        texts = [wrap_name(label.text).split("\n") for label in self._labels]
        sizes = np.array([self._size(lines, renderer, unit) for lines in texts])
        anchors = transform([(label.x, label.y) for label in self._labels])
        segments = transform(self._segments.reshape(-1, 2)).reshape(-1, 4)
        area = self._target.get_window_extent(renderer).extents
        markers = transform(self._points)
        boxes = place_labels(sizes, anchors, markers, segments, tuple(area), unit)
        self.boxes = boxes
        lines_to_points = leaders(boxes, anchors)
        for label, lines, box, leader in zip(
            self._labels, texts, boxes, lines_to_points, strict=True
        ):
            self._draw_one(renderer, label, lines, box, leader, unit)

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

    def _size(self, lines: Sequence[str], renderer: Any, unit: float) -> tuple[float, float]:
        """Width and height in pixels."""
        widths = []
        for line in lines:
            text = Text(0, 0, line, fontsize=FONT_SIZE)
            text.set_figure(self._target.get_figure(root=False))
            widths.append(text.get_window_extent(renderer).width)
        return max(widths), len(lines) * FONT_SIZE * LINE_HEIGHT * unit
