"""Names beside the points of a scatter plot, placed so that they do not overlap.

Every name has candidate places around its point, at growing distance. It gets the one with the
least cost: overlap with other names and with markers, crossed lines, and distance. Names are placed
one by one, those in dense regions first, and then again for a few passes, given all others.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

DISTANCES = (5.0, 9.0, 14.0, 21.0, 30.0, 42.0, 57.0, 76.0, 100.0, 130.0, 170.0)  # points
NUM_DIRECTIONS = 24
MARKER_RADIUS = 4.5  # points
GAP = 1.5  # points, around a name
PASSES = 4
MAX_LINE_LENGTH = 20  # characters
# costs: an overlap, a crossed segment, a crossing of the line to the point, a point of distance
OVERLAP, CROSSED, LEADER_CROSSING, DISTANCE = 300.0, 12.0, 25.0, 0.35

Boxes = Float[np.ndarray, "box 4"]  # left, bottom, right, top
Segments = Float[np.ndarray, "segment 4"]  # x and y of both ends


class PointLabel(NamedTuple):
    """A name, the coordinates of its point, and the name of its color."""

    text: str
    x: float
    y: float
    color_name: str = "ink"


def wrap_name(name: str) -> str:
    """A name in lines, broken after spaces, `_` and `-`; nothing is cut."""
    lines = [""]
    for part in re.findall(r"[^ _-]*[ _-]?", name):
        if lines[-1] and len(lines[-1] + part.rstrip()) > MAX_LINE_LENGTH:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip(" ") for line in lines)


def place_labels(
    sizes: Float[np.ndarray, "label 2"],
    anchors: Float[np.ndarray, "label 2"],
    markers: Float[np.ndarray, "marker 2"],
    segments: Segments,
    area: tuple[float, float, float, float],
    unit: float = 1.0,
) -> Boxes:
    """The box of every label.

    Args:
        sizes: width and height of each label, pixels.
        anchors: the point that each one names.
        markers: all points.
        segments: lines of the plot that labels should not cover.
        area: box in which they must lie; a label that is larger than it is not cut.
        unit: pixels per point.
    """
    candidates = [
        _candidates(size, at, area, unit) for size, at in zip(sizes, anchors, strict=True)
    ]
    radius = MARKER_RADIUS * unit
    marker_boxes = np.concatenate([markers - radius, markers + radius], 1)
    fixed = [
        OVERLAP * _overlaps(boxes, marker_boxes).sum(1)
        + CROSSED * _crossings(boxes, segments).sum(1)
        + DISTANCE * _distance(boxes, at) / unit
        for boxes, at in zip(candidates, anchors, strict=True)
    ]
    near = np.linalg.norm(anchors[:, None] - anchors[None], axis=-1) < 60.0 * unit
    order = np.argsort(-near.sum(1), kind="stable")
    chosen = np.full((len(sizes), 4), np.nan)
    for _ in range(PASSES):
        before = chosen.copy()
        for index in order:
            others = np.flatnonzero(np.isfinite(chosen[:, 0]))
            others = others[others != index]
            boxes = candidates[index]
            cost = fixed[index] + OVERLAP * _overlaps(boxes, chosen[others]).sum(1)
            lines = leaders(boxes, anchors[index])
            cost = cost + LEADER_CROSSING * _leader_crossings(lines, chosen[others])
            other_lines = leaders(chosen[others], anchors[others])
            cost = cost + LEADER_CROSSING * _crossings(boxes, other_lines).sum(1)
            is_other = (markers != anchors[index]).any(1)
            cost = cost + LEADER_CROSSING * _leader_crossings(lines, marker_boxes[is_other])
            cost = cost + LEADER_CROSSING * _intersections(lines, other_lines).sum(1)
            chosen[index] = boxes[int(np.argmin(cost))]
        if np.array_equal(before, chosen):
            break
    return chosen


def _candidates(
    size: np.ndarray, anchor: np.ndarray, area: tuple[float, float, float, float], unit: float
) -> Boxes:
    """Boxes of a label around its point, moved into the area."""
    angles = np.arange(NUM_DIRECTIONS) * 2 * np.pi / NUM_DIRECTIONS
    directions = np.stack([np.cos(angles), np.sin(angles)], 1)
    distances = np.array(DISTANCES)[:, None, None] * unit
    half = size / 2 + GAP * unit
    shift = np.clip(1.6 * directions, -1.0, 1.0) * half  # sideways a whole half
    centers = (anchor + distances * directions + shift).reshape(-1, 2)
    low, high = np.array(area[:2]) + half, np.array(area[2:]) - half
    centers = np.clip(centers, np.minimum(low, high), np.maximum(low, high))
    return np.concatenate([centers - half, centers + half], 1)


def _overlaps(boxes: Boxes, others: Boxes) -> Float[np.ndarray, "box other"]:
    """1 for each overlap, plus the share of the box that is covered."""
    left, low = (np.maximum(boxes[:, None, i], others[None, :, i]) for i in (0, 1))
    right, high = (np.minimum(boxes[:, None, i], others[None, :, i]) for i in (2, 3))
    shared = np.clip(right - left, 0, None) * np.clip(high - low, 0, None)
    size = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return (shared > 0) + shared / size[:, None]


def _crossings(boxes: Boxes, segments: Segments) -> Bool[np.ndarray, "box segment"]:
    """Whether segments cross boxes: Liang and Barsky."""
    start, step = segments[None, :, :2], (segments[:, 2:] - segments[:, :2])[None]
    with np.errstate(divide="ignore", invalid="ignore"):
        first = (boxes[:, None, :2] - start) / step
        last = (boxes[:, None, 2:] - start) / step
    inside = (start >= boxes[:, None, :2]) & (start <= boxes[:, None, 2:])
    flat = step == 0.0
    enter = np.where(flat, np.where(inside, 0.0, np.inf), np.minimum(first, last)).max(-1)
    leave = np.where(flat, np.where(inside, 1.0, -np.inf), np.maximum(first, last)).min(-1)
    return np.maximum(enter, 0.0) < np.minimum(leave, 1.0)


def leaders(boxes: Boxes, anchors: np.ndarray) -> Segments:
    """The line from each box to its point."""
    points = np.broadcast_to(anchors, (len(boxes), 2))
    return np.concatenate([points, np.clip(points, boxes[:, :2], boxes[:, 2:])], 1)


def _leader_crossings(lines: Segments, boxes: Boxes) -> Float[np.ndarray, " line"]:
    return _crossings(boxes, lines).sum(0).astype(np.float64)


def _intersections(lines: Segments, others: Segments) -> Bool[np.ndarray, "line other"]:
    """Whether lines cut others."""
    a, b = lines[:, None, :2], lines[:, None, 2:]
    c, d = others[None, :, :2], others[None, :, 2:]

    def side(p: np.ndarray, q: np.ndarray, r: np.ndarray) -> np.ndarray:
        return np.sign(
            (q[..., 0] - p[..., 0]) * (r[..., 1] - p[..., 1])
            - (q[..., 1] - p[..., 1]) * (r[..., 0] - p[..., 0])
        )

    return (side(a, b, c) * side(a, b, d) < 0) & (side(c, d, a) * side(c, d, b) < 0)


def _distance(boxes: Boxes, anchor: np.ndarray) -> Float[np.ndarray, " box"]:
    lines = leaders(boxes, anchor)
    return np.linalg.norm(lines[:, :2] - lines[:, 2:], axis=1)
