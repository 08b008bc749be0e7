"""How far values moved, how straight, because of what, and how fast a disturbance fades.

A path is the centre of a community (or any point of value space) round by round. Distances are
Euclidean, in value units.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def effect_vs_control(
    mean_value: Float[np.ndarray, "*many round value"],
    control_mean_value: Float[np.ndarray, "*many round value"],
) -> Float[np.ndarray, "*many round"]:
    """Distance between a community's centre and its twin's: ||v_t - v_t'||.

    Both share their people and every chance event (common random numbers), so that what is between
    them is due to the one thing that was changed; an unchanged twin is at distance 0, bit for bit.
    """
    return _norm(mean_value.astype(np.float64) - control_mean_value.astype(np.float64))


def net_displacement(
    path: Float[np.ndarray, "*many round value"],
) -> Float[np.ndarray, "*many round"]:
    """Distance from the start: d_t = ||v_t - v_0||."""
    path = path.astype(np.float64)
    return _norm(path - path[..., :1, :])


def path_length(path: Float[np.ndarray, "*many round value"]) -> Float[np.ndarray, "*many round"]:
    """Length of the way so far: the sum of ||v_s - v_(s-1)|| over s <= t; 0 at the start.

    Only recorded rounds count: a path recorded at every tenth round is shorter than it was.
    """
    steps = _norm(np.diff(path.astype(np.float64), axis=-2))
    start = np.zeros((*steps.shape[:-1], 1))
    return np.concatenate([start, np.cumsum(steps, axis=-1)], axis=-1)


def straightness_index(
    path: Float[np.ndarray, "*many round value"],
) -> Float[np.ndarray, "*many round"]:
    """Distance from the start over the length of the way: 1 is straight, near 0 is wandering.

    What has not moved has no direction: nan.
    """
    way = path_length(path)
    return np.divide(net_displacement(path), way, out=np.full_like(way, np.nan), where=way > 0.0)


def half_life(distance: Float[np.ndarray, "*many round"]) -> Float[np.ndarray, "*many"]:
    """Records until a distance has fallen to half of its first value.

    A record is a round where every round was recorded; else multiply by how many lie between.

    Between two rounds it is taken to fall by a constant factor, which is exact where it decays
    geometrically. Infinite where half is not reached within the record; nan where there was no
    distance to begin with.
    """
    x = distance.astype(np.float64)
    share = np.divide(x, x[..., :1], out=np.full_like(x, np.nan), where=x[..., :1] > 0.0)
    below = share <= 0.5
    reached = below.any(-1)
    after = np.where(reached, below.argmax(-1), 1)  # the first round at or below half, at least 1
    high = np.take_along_axis(share, after[..., None] - 1, -1)[..., 0]
    low = np.take_along_axis(share, np.minimum(after, x.shape[-1] - 1)[..., None], -1)[..., 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where(low > 0.0, np.log(2.0 * high) / (np.log(high) - np.log(low)), 1.0)
    found = np.where(reached, after - 1 + part, np.inf)
    return np.where(x[..., 0] > 0.0, found, np.nan)


def mode_half_life(eigenvalue: float) -> float:
    """Rounds until a mode that is multiplied each round has halved: ln(1/2) / ln |multiplier|.

    For averaging among peers the multiplier is the second largest eigenvalue of the influence
    matrix. Infinite where the mode does not fade.
    """
    size = abs(eigenvalue)
    if size == 0.0:
        return 0.0
    return float(np.log(0.5) / np.log(size)) if size < 1.0 else float("inf")


def _norm(x: np.ndarray) -> np.ndarray:
    return np.sqrt((x * x).sum(-1))
