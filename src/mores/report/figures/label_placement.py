"""Names beside the points of a scatter plot, placed so that they do not overlap.

Every name has candidate places around its point, at growing distance. It gets the one with the
least cost: overlap with other names and with markers, crossed lines, and distance. Names are placed
one by one, and then again for a few passes, given all others: in several orders, of which the one
with the least total cost is used.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

DISTANCES = (5.0, 9.0, 14.0, 21.0, 30.0, 42.0, 57.0, 76.0, 100.0, 130.0, 170.0)  # points
NUM_DIRECTIONS = 16
GAP = 1.5  # points, around a name
PASSES = 3
MAX_LINE_LENGTH = 20  # characters
# Costs: an overlap; a crossed line of the plot; a crossing of a line between a name and its point;
# another point that is nearer than the own one; a point (1/72 inch) of distance.
OVERLAP, CROSSED, LEADER_CROSSED, NEARER, DISTANCE = 300.0, 22.0, 25.0, 8.0, 0.35

Boxes = Float[np.ndarray, "_ 4"]  # left, bottom, right, top
Lines = Float[np.ndarray, "_ 4"]  # x and y of both ends
Points = Float[np.ndarray, "_ 2"]


class PointLabel(NamedTuple):
    """A name, the points of which it names one, and the name of its color."""

    text: str
    points: tuple[tuple[float, float], ...]
    color_name: str = "ink"


class Places(NamedTuple):
    """Boxes, and the point that each one is the name of."""

    boxes: Boxes
    points: Points

    @property
    def leaders(self) -> Lines:
        """The line from each point to its box."""
        ends = np.clip(self.points, self.boxes[:, :2], self.boxes[:, 2:])
        return np.concatenate([self.points, ends], 1)

    @property
    def distances(self) -> Float[np.ndarray, " box"]:
        """From each point to its box."""
        lines = self.leaders
        return np.linalg.norm(lines[:, :2] - lines[:, 2:], axis=1)


def wrap_name(name: str, max_length: int = MAX_LINE_LENGTH) -> str:
    """A name in lines, broken after spaces, `_` and `-`; nothing is cut."""
    lines = [""]
    for part in re.findall(r"[^ _-]*[ _-]+|[^ _-]+", name):
        if lines[-1] and len(lines[-1] + part.rstrip()) > max_length:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip(" ") for line in lines)


def place_labels(
    sizes: Float[np.ndarray, "label 2"],
    points: Sequence[Points],
    markers: Points,
    radii: Float[np.ndarray, " marker"],
    lines: Lines,
    area: tuple[float, float, float, float],
) -> Places:
    """The place of every label. All lengths are in points (1/72 inch).

    Args:
        sizes: width and height of each label.
        points: those of which each label names one.
        markers, radii: all points of the plot, and the radii of their markers.
        lines: lines of the plot that labels should not cover.
        area: box in which they must lie; a label that is larger than it is not cut.
    """
    pairs = zip(sizes, points, strict=True)
    candidates = [_candidates(size, named, area) for size, named in pairs]
    marker_boxes = np.concatenate([markers - radii[:, None], markers + radii[:, None]], 1)
    fixed = [_fixed_cost(places, markers, marker_boxes, lines) for places in candidates]
    middles = np.array([named.mean(0) for named in points])
    near = np.linalg.norm(middles[:, None] - middles[None], axis=-1) < 60.0
    keys = (-near.sum(1), middles[:, 0], -middles[:, 1])  # dense regions first; from a side
    orders = [np.argsort(key, kind="stable") for key in keys]
    found = [_place_in_order(candidates, fixed, order) for order in orders]
    return min(found, key=lambda result: result[0])[1]


def _place_in_order(
    candidates: Sequence[Places], fixed: Sequence[np.ndarray], order: np.ndarray
) -> tuple[float, Places]:
    """Total cost and places of labels that are placed in this order."""
    chosen = np.full(len(candidates), -1)
    for _ in range(PASSES):
        before = chosen.copy()
        for index in order.tolist():
            others = _chosen_places(candidates, chosen, without=index)
            cost = fixed[index] + _cost_of_others(candidates[index], others)
            chosen[index] = int(np.argmin(cost))
        if np.array_equal(before, chosen):
            break
    places = _chosen_places(candidates, chosen)
    total = sum(float(cost[number]) for cost, number in zip(fixed, chosen, strict=True))
    for index, (box, point) in enumerate(zip(*places, strict=True)):
        others = _chosen_places(candidates, chosen, without=index)
        total += float(_cost_of_others(Places(box[None], point[None]), others)[0]) / 2  # of a pair
    return total, places


def _candidates(
    size: np.ndarray, points: Points, area: tuple[float, float, float, float]
) -> Places:
    """Places of a label around its points, moved into the area."""
    angles = np.arange(NUM_DIRECTIONS) * 2 * np.pi / NUM_DIRECTIONS
    directions = np.stack([np.cos(angles), np.sin(angles)], 1)
    offsets = np.array(DISTANCES)[:, None, None] * directions
    half = size / 2 + GAP
    offsets = offsets + np.clip(1.6 * directions, -1.0, 1.0) * half  # sideways a whole half
    centers = (points[:, None] + offsets.reshape(-1, 2)).reshape(-1, 2)
    low, high = np.array(area[:2]) + half, np.array(area[2:]) - half
    centers = np.clip(centers, np.minimum(low, high), np.maximum(low, high))
    boxes = np.concatenate([centers - half, centers + half], 1)
    return Places(boxes, np.repeat(points, len(centers) // len(points), axis=0))


def _fixed_cost(
    places: Places, markers: Points, marker_boxes: Boxes, lines: Lines
) -> Float[np.ndarray, " box"]:
    """Cost of places that does not depend on other labels."""
    boxes, distances = places.boxes, places.distances
    is_other = (markers[None] != places.points[:, None]).any(-1)
    gaps = markers[None] - np.clip(markers[None], boxes[:, None, :2], boxes[:, None, 2:])
    is_nearer = is_other & (np.linalg.norm(gaps, axis=-1) < distances[:, None])
    return (
        OVERLAP * _overlaps(boxes, marker_boxes).sum(1)
        + CROSSED * _crossings(boxes, lines).sum(1)
        + LEADER_CROSSED * (_crossings(marker_boxes, places.leaders).T & is_other).sum(1)
        + NEARER * is_nearer.any(1)
        + DISTANCE * distances
    )


def _cost_of_others(places: Places, others: Places) -> Float[np.ndarray, " box"]:
    """Cost of places that is due to the other labels."""
    leaders, other_leaders = places.leaders, others.leaders
    return OVERLAP * _overlaps(places.boxes, others.boxes).sum(1) + LEADER_CROSSED * (
        _crossings(places.boxes, other_leaders).sum(1)
        + _crossings(others.boxes, leaders).sum(0)
        + _intersections(leaders, other_leaders).sum(1)
    )


def _chosen_places(candidates: Sequence[Places], chosen: np.ndarray, without: int = -1) -> Places:
    """The chosen place of every label that has one."""
    used = [i for i, number in enumerate(chosen) if number >= 0 and i != without]
    boxes = np.array([candidates[i].boxes[chosen[i]] for i in used]).reshape(-1, 4)
    return Places(boxes, np.array([candidates[i].points[chosen[i]] for i in used]).reshape(-1, 2))


def _overlaps(boxes: Boxes, others: Boxes) -> Float[np.ndarray, "box other"]:
    """1 for each overlap, plus the share of the box that is covered."""
    left, low = (np.maximum(boxes[:, None, i], others[None, :, i]) for i in (0, 1))
    right, high = (np.minimum(boxes[:, None, i], others[None, :, i]) for i in (2, 3))
    shared = np.clip(right - left, 0, None) * np.clip(high - low, 0, None)
    size = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return (shared > 0) + shared / size[:, None]


def _crossings(boxes: Boxes, lines: Lines) -> Bool[np.ndarray, "box line"]:
    """Whether lines cross boxes: Liang and Barsky."""
    start, step = lines[None, :, :2], (lines[:, 2:] - lines[:, :2])[None]
    with np.errstate(divide="ignore", invalid="ignore"):
        first = (boxes[:, None, :2] - start) / step
        last = (boxes[:, None, 2:] - start) / step
    inside = (start >= boxes[:, None, :2]) & (start <= boxes[:, None, 2:])
    flat = step == 0.0
    enter = np.where(flat, np.where(inside, 0.0, np.inf), np.minimum(first, last)).max(-1)
    leave = np.where(flat, np.where(inside, 1.0, -np.inf), np.maximum(first, last)).min(-1)
    return np.maximum(enter, 0.0) < np.minimum(leave, 1.0)


def _intersections(lines: Lines, others: Lines) -> Bool[np.ndarray, "line other"]:
    """Whether lines cut others."""
    a, b = lines[:, None, :2], lines[:, None, 2:]
    c, d = others[None, :, :2], others[None, :, 2:]

    def side(p: np.ndarray, q: np.ndarray, r: np.ndarray) -> np.ndarray:
        return np.sign(
            (q[..., 0] - p[..., 0]) * (r[..., 1] - p[..., 1])
            - (q[..., 1] - p[..., 1]) * (r[..., 0] - p[..., 0])
        )

    return (side(a, b, c) * side(a, b, d) < 0) & (side(c, d, a) * side(c, d, b) < 0)
