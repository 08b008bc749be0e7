"""Empirical distributions of values: distances, polarization, diversity.

A distribution is a point cloud `[..., agent, value]`, or `[..., agent]` for a single value
dimension. Results keep the leading dimensions, such as worlds and rounds. Computations are in
float64.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from mores.core.errors import UserError

AgentValues = Float[np.ndarray, "*many agent"]
PointCloud = Float[np.ndarray, "*many agent value"]
GroupShares = Float[np.ndarray, "*many group"]
GroupPositions = Float[np.ndarray, "*many group"]  # in value units
Scalars = Float[np.ndarray, "*many"]

MAX_PAIRWISE_DISTANCES = 2**22  # pairwise distances in memory at once

# --- distances between two clouds ---------------------------------------------------------------


def wasserstein_1d(x: AgentValues, y: Float[np.ndarray, "*many other"], p: float = 1.0) -> Scalars:
    """W_p in one dimension: (integral over u of |F^-1(u) - G^-1(u)|^p)^(1/p), in value units.

    For equal numbers of agents, W_p^p is the mean |difference|^p of sorted values. Vallender 1974,
    Theory Probab. Appl. 18, 784.
    """
    n, m = x.shape[-1], y.shape[-1]
    x, y = np.sort(x.astype(np.float64), -1), np.sort(y.astype(np.float64), -1)
    # In units of 1 / (n m), the quantile function of x jumps at multiples of m, that of y of n.
    steps = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)
    weights = np.diff(steps, prepend=0) / (n * m)
    distance = np.abs(x[..., (steps - 1) // m] - y[..., (steps - 1) // n])
    return np.asarray(((distance**p * weights).sum(-1)) ** (1.0 / p))


def sliced_wasserstein_distance(
    x: PointCloud,
    y: Float[np.ndarray, "*many other value"],
    num_projections: int = 128,
    seed: int = 0,
) -> Scalars:
    """Root mean square of W_2 between projections on random directions, in value units.

    The directions are uniform and depend only on the seed, so that results are comparable. In one
    dimension it equals W_2. Bonneel et al. 2015, J. Math. Imaging Vis. 51, 22.
    """
    directions = np.random.default_rng(seed).standard_normal((num_projections, x.shape[-1]))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    total = np.zeros(x.shape[:-2])
    for direction in directions:
        total += wasserstein_1d(x @ direction, y @ direction, 2.0) ** 2
    return np.asarray(np.sqrt(total / num_projections))


def gaussian_wasserstein_squared(
    mean_x: Float[np.ndarray, "*many value"],
    covariance_x: Float[np.ndarray, "*many value value"],
    mean_y: Float[np.ndarray, "*many value"],
    covariance_y: Float[np.ndarray, "*many value value"],
) -> Scalars:
    """W_2^2 of two normal distributions, in squared value units.

    It is ||mu_x - mu_y||^2 + tr(S_x + S_y - 2 (S_y^.5 S_x S_y^.5)^.5), with means mu and
    covariances S. For other distributions with the same means and covariances it is a lower bound
    (Gelbrich 1990, Math. Nachr. 147, 185).
    """
    root = _matrix_square_root(covariance_y.astype(np.float64))
    product = root @ covariance_x.astype(np.float64) @ root
    root_trace = np.sqrt(np.maximum(np.linalg.eigvalsh(product), 0.0)).sum(-1)
    squared_distance = ((mean_x.astype(np.float64) - mean_y) ** 2).sum(-1)
    traces = np.trace(covariance_x + covariance_y, axis1=-2, axis2=-1)
    return np.asarray(np.maximum(squared_distance + traces - 2.0 * root_trace, 0.0))


def energy_distance(x: PointCloud, y: Float[np.ndarray, "*many other value"]) -> Scalars:
    """(2 E||X - Y|| - E||X - X'|| - E||Y - Y'||)^.5 of the two empirical distributions.

    Zero only for equal distributions. Szekely and Rizzo 2013, J. Stat. Plan. Inference 143, 1249.
    """
    squared = 2.0 * _mean_distance(x, y) - _mean_distance(x, x) - _mean_distance(y, y)
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)))


# --- polarization -------------------------------------------------------------------------------


def bimodality_coefficient(x: AgentValues) -> Scalars:
    """Sarle's bimodality coefficient (g^2 + 1) / (k + 3 (n-1)^2 / ((n-2) (n-3))).

    g and k are the bias-corrected sample skewness and excess kurtosis. For many agents it is 1/3
    for a normal distribution, 5/9 for a uniform one, 1 for two equally likely points (.57 for ten
    agents in two halves); skewness increases it too. It needs at least four agents, and is nan if
    all values are equal. Pfister et al. 2013, Front. Psychol. 4, 700.
    """
    n, x = x.shape[-1], x.astype(np.float64)
    if n < 4:
        message = f"bimodality_coefficient: {n} agents; at least four are needed"
        raise UserError(message, code="wrong_shape", path="x")
    deviation = x - x.mean(-1, keepdims=True)
    second, third, fourth = ((deviation**power).mean(-1) for power in (2, 3, 4))
    second = np.where((x == x[..., :1]).all(-1), np.nan, second)
    skewness = third / second**1.5 * np.sqrt(n * (n - 1.0)) / (n - 2.0)
    scale = (n - 1.0) / ((n - 2.0) * (n - 3.0))
    kurtosis = scale * ((n + 1.0) * (fourth / second**2 - 3.0) + 6.0)
    return np.asarray((skewness**2 + 1.0) / (kurtosis + 3.0 * scale * (n - 1.0)))


def esteban_ray_polarization(
    shares: GroupShares, positions: GroupPositions, alpha: float = 1.6
) -> Scalars:
    """Polarization sum_ij p_i^(1+alpha) p_j |y_i - y_j| of groups with shares p at positions y.

    `alpha` in (0, 1.6] is the weight of identification with the own group; at 0 the formula is
    Gini's mean difference. It is high for few large and distant groups: equal groups evenly spaced
    on [0, 1] have .165 (two), .077 (three), .009 (ten) at 1.6. Esteban and Ray 1994, Econometrica
    62, 819, with their normalizing constant K = 1.
    """
    if not 0.0 < alpha <= 1.6:
        message = f"esteban_ray_polarization: alpha {alpha}: must lie in (0, 1.6]"
        raise UserError(message, code="out_of_range", path="alpha")
    p = _normalize(shares)
    distance = np.abs(positions[..., :, None].astype(np.float64) - positions[..., None, :])
    return np.asarray((p[..., :, None] ** (1.0 + alpha) * p[..., None, :] * distance).sum((-2, -1)))


# --- diversity ----------------------------------------------------------------------------------


def bin_shares(x: AgentValues, edges: Float[np.ndarray, " edge"]) -> GroupShares:
    """Share of agents in each bin; the last bin includes its upper edge.

    Agents outside all bins count in the nearest bin.
    """
    bins = len(edges) - 1
    bin_index = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, bins - 1)
    flat = bin_index.reshape(-1, x.shape[-1])
    counts = np.stack([np.bincount(row, minlength=bins) for row in flat])
    return (counts / x.shape[-1]).reshape(*x.shape[:-1], bins)


def hill_number(shares: GroupShares, order: float = 1.0) -> Scalars:
    """Hill number (sum p^q)^(1/(1-q)) of order q, the effective number of groups.

    Order 0 counts the groups that are not empty, order 1 is the exponential of Shannon's entropy,
    order 2 the inverse probability that two agents share a group, order infinity the inverse of the
    largest share. Hill 1973, Ecology 54, 427.
    """
    if order < 0.0:
        message = f"hill_number: order {order}: must be at least 0"
        raise UserError(message, code="out_of_range", path="order")
    p = _normalize(shares)
    if order == 1.0:
        logs = np.log(p, out=np.zeros_like(p), where=p > 0.0)
        return np.asarray(np.exp(-(p * logs).sum(-1)))
    if np.isinf(order):
        return np.asarray(1.0 / p.max(-1))
    powers = np.power(p, order, out=np.zeros_like(p), where=p > 0.0)
    return np.asarray(powers.sum(-1) ** (1.0 / (1.0 - order)))


def rao_quadratic_entropy(
    shares: GroupShares, distances: Float[np.ndarray, "*many group group"]
) -> Scalars:
    """Rao's quadratic entropy sum_ij p_i p_j d_ij: mean distance between two people.

    Rao 1982, Theor. Popul. Biol. 21, 24.
    """
    p = _normalize(shares)
    return np.asarray((p[..., :, None] * p[..., None, :] * distances).sum((-2, -1)))


def rao_quadratic_entropy_of_points(x: PointCloud) -> Scalars:
    """Rao's quadratic entropy of points: mean distance over all pairs, self-pairs included."""
    return _mean_distance(x, x)


# --- helpers ------------------------------------------------------------------------------------


def _mean_distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """E||X - Y||, in batches of agents of x to limit memory."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    rows = max(1, MAX_PAIRWISE_DISTANCES // max(1, y.size))
    total = np.zeros(x.shape[:-2])
    for start in range(0, x.shape[-2], rows):
        difference = x[..., start : start + rows, None, :] - y[..., None, :, :]
        total += np.sqrt((difference * difference).sum(-1)).sum((-2, -1))
    return np.asarray(total / (x.shape[-2] * y.shape[-2]))


def _matrix_square_root(matrix: np.ndarray) -> np.ndarray:
    """Square root of a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    scaled = vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]
    return scaled @ np.swapaxes(vectors, -1, -2)


def _normalize(shares: np.ndarray) -> np.ndarray:
    p = shares.astype(np.float64)
    return p / p.sum(-1, keepdims=True)
