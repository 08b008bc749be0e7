"""Drift of values: effect against the control, displacement, path length, half-lives.

A path is the mean value of a community (or any point of value space) by round. Distances are
Euclidean, in value units.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def effect_vs_control(
    mean_value: Float[np.ndarray, "*many round value"],
    control_mean_value: Float[np.ndarray, "*many round value"],
) -> Float[np.ndarray, "*many round"]:
    """Distance between an arm's mean value and the control's: ||v_t - v_t'||.

    Both arms share their people and random numbers, so the distance is the effect of the changed
    parameter. An arm without a change has distance 0, bit for bit.
    """
    return _norm(mean_value.astype(np.float64) - control_mean_value.astype(np.float64))


def net_displacement(
    path: Float[np.ndarray, "*many round value"],
) -> Float[np.ndarray, "*many round"]:
    """Distance from the start: d_t = ||v_t - v_0||."""
    path = path.astype(np.float64)
    return _norm(path - path[..., :1, :])


def path_length(path: Float[np.ndarray, "*many round value"]) -> Float[np.ndarray, "*many round"]:
    """Length of the path up to each round: sum of ||v_s - v_(s-1)|| over s <= t; 0 at the start.

    Only recorded rounds count: a record of every tenth round underestimates the length.
    """
    steps = _norm(np.diff(path.astype(np.float64), axis=-2))
    start = np.zeros((*steps.shape[:-1], 1))
    return np.concatenate([start, np.cumsum(steps, axis=-1)], axis=-1)


def straightness_index(
    path: Float[np.ndarray, "*many round value"],
) -> Float[np.ndarray, "*many round"]:
    """Net displacement over path length: 1 for a straight path, near 0 for a random walk.

    nan for a path of length 0, which has no direction.
    """
    length = path_length(path)
    nan = np.full_like(length, np.nan)
    return np.divide(net_displacement(path), length, out=nan, where=length > 0.0)


def half_life(distance: Float[np.ndarray, "*many round"]) -> Float[np.ndarray, "*many"]:
    """Number of recorded rounds until a distance has fallen to half of its initial value.

    Multiply by the recording interval if not every round is recorded. The interpolation between
    two records is geometric, which is exact for geometric decay. Infinite if the distance does not
    reach half within the record; nan if the initial distance is 0.
    """
    x = distance.astype(np.float64)
    relative = np.divide(x, x[..., :1], out=np.full_like(x, np.nan), where=x[..., :1] > 0.0)
    below = relative <= 0.5
    reached = below.any(-1)
    crossing = np.where(reached, below.argmax(-1), 1)  # first record <= half, at least 1
    high = np.take_along_axis(relative, crossing[..., None] - 1, -1)[..., 0]
    low = np.take_along_axis(relative, np.minimum(crossing, x.shape[-1] - 1)[..., None], -1)[..., 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        fraction = np.where(low > 0.0, np.log(2.0 * high) / (np.log(high) - np.log(low)), 1.0)
    lifetime = np.where(reached, crossing - 1 + fraction, np.inf)
    return np.where(x[..., 0] > 0.0, lifetime, np.nan)


def mode_half_life(eigenvalue: float) -> float:
    """Rounds until a mode with this eigenvalue has halved: ln(1/2) / ln |eigenvalue|.

    For averaging among peers, the slowest mode has the second largest eigenvalue of the influence
    matrix. Infinite if the mode does not decay.
    """
    size = abs(eigenvalue)
    if size == 0.0:
        return 0.0
    return float(np.log(0.5) / np.log(size)) if size < 1.0 else float("inf")


def _norm(x: np.ndarray) -> np.ndarray:
    return np.sqrt((x * x).sum(-1))
