"""How the values of a community lie: distances between two clouds, polarisation, diversity.

A cloud is `[..., agent, value]`, a single dimension of it `[..., agent]`; leading dimensions are
worlds, rounds and the like, and are kept. Everything is in float64.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from mores.core.errors import UserError

AgentValues = Float[np.ndarray, "*many agent"]
PointCloud = Float[np.ndarray, "*many agent value"]
GroupShares = Float[np.ndarray, "*many group"]
Scalars = Float[np.ndarray, "*many"]

MAX_PAIRWISE_DISTANCES = 2**22  # pairwise distances held at a time

# --- between two clouds -------------------------------------------------------------------------


def wasserstein_1d(x: AgentValues, y: Float[np.ndarray, "*many other"], p: float = 1.0) -> Scalars:
    """W_p on a line: (integral over u of |F^-1(u) - G^-1(u)|^p)^(1/p), in units of the values.

    With equally many agents it is the mean |difference|^p of sorted values. Vallender 1974, Theory
    Probab. Appl. 18, 784.
    """
    n, m = x.shape[-1], y.shape[-1]
    x, y = np.sort(x.astype(np.float64), -1), np.sort(y.astype(np.float64), -1)
    # In units of 1 / (n m), x steps at multiples of m and y at multiples of n.
    steps = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)
    weights = np.diff(steps, prepend=0) / (n * m)
    apart = np.abs(x[..., (steps - 1) // m] - y[..., (steps - 1) // n])
    return np.asarray(((apart**p * weights).sum(-1)) ** (1.0 / p))


def sliced_wasserstein_distance(
    x: PointCloud,
    y: Float[np.ndarray, "*many other value"],
    num_projections: int = 128,
    seed: int = 0,
) -> Scalars:
    """Root of the mean squared W_2 of the clouds' shadows on random lines, in units of values.

    The directions are uniform and depend on the seed only, so that clouds are compared alike. On a
    line it is W_2 itself. Bonneel et al. 2015, J. Math. Imaging Vis. 51, 22.
    """
    lines = np.random.default_rng(seed).standard_normal((num_projections, x.shape[-1]))
    lines /= np.linalg.norm(lines, axis=-1, keepdims=True)
    total = np.zeros(x.shape[:-2])
    for line in lines:
        total += wasserstein_1d(x @ line, y @ line, 2.0) ** 2
    return np.asarray(np.sqrt(total / num_projections))


def gaussian_wasserstein_squared(
    mean_x: Float[np.ndarray, "*many value"],
    covariance_x: Float[np.ndarray, "*many value value"],
    mean_y: Float[np.ndarray, "*many value"],
    covariance_y: Float[np.ndarray, "*many value value"],
) -> Scalars:
    """W_2^2 of two normal distributions: ||m - n||^2 + tr(A + B - 2 (B^.5 A B^.5)^.5).

    Of other distributions with these moments it is a lower bound (Gelbrich 1990, Math. Nachr.
    147, 185).
    """
    root = _matrix_square_root(covariance_y.astype(np.float64))
    between = root @ covariance_x.astype(np.float64) @ root
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(between), 0.0)).sum(-1)
    apart = ((mean_x.astype(np.float64) - mean_y) ** 2).sum(-1)
    traces = np.trace(covariance_x + covariance_y, axis1=-2, axis2=-1)
    return np.asarray(np.maximum(apart + traces - 2.0 * shared, 0.0))


def energy_distance(x: PointCloud, y: Float[np.ndarray, "*many other value"]) -> Scalars:
    """(2 E||X - Y|| - E||X - X'|| - E||Y - Y'||)^.5 over the clouds as they are.

    Zero only if they are the same distribution. Szekely and Rizzo 2013, J. Stat. Plan. Inference
    143, 1249.
    """
    squared = 2.0 * _mean_distance(x, y) - _mean_distance(x, x) - _mean_distance(y, y)
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)))


# --- polarisation -------------------------------------------------------------------------------


def bimodality_coefficient(x: AgentValues) -> Scalars:
    """Sarle's coefficient (g^2 + 1) / (k + 3 (n-1)^2 / ((n-2) (n-3))).

    g and k are the sample's skewness and excess kurtosis, freed of bias. A normal distribution has
    1/3, a uniform one 5/9, two equal points 1; skewness raises it too. At least four agents; nan
    where all agree. Pfister et al. 2013, Front. Psychol. 4, 700.
    """
    n, x = x.shape[-1], x.astype(np.float64)
    if n < 4:
        message = f"bimodality takes at least four agents, not {n}"
        raise UserError(message, code="wrong_shape", path="x")
    away = x - x.mean(-1, keepdims=True)
    second, third, fourth = ((away**power).mean(-1) for power in (2, 3, 4))
    second = np.where((x == x[..., :1]).all(-1), np.nan, second)
    skewness = third / second**1.5 * np.sqrt(n * (n - 1.0)) / (n - 2.0)
    free = (n - 1.0) / ((n - 2.0) * (n - 3.0))
    kurtosis = free * ((n + 1.0) * (fourth / second**2 - 3.0) + 6.0)
    return np.asarray((skewness**2 + 1.0) / (kurtosis + 3.0 * free * (n - 1.0)))


def esteban_ray_polarization(
    shares: GroupShares, positions: GroupShares, alpha: float = 1.6
) -> Scalars:
    """Polarisation sum_ij p_i^(1+a) p_j |y_i - y_j| of groups at positions on a line.

    `alpha` in (0, 1.6]: how much it matters that people find many like themselves; at 0 it would
    be Gini's mean difference. Few large groups far apart are polarised, many small ones are not:
    equal groups spread over [0, 1] have .165 (two), .077 (three), .009 (ten) at 1.6. Esteban and
    Ray 1994, Econometrica 62, 819, with K = 1.
    """
    if not 0.0 < alpha <= 1.6:
        message = f"alpha of Esteban and Ray lies in (0, 1.6], not at {alpha}"
        raise UserError(message, code="out_of_range", path="alpha")
    p = _normalize(shares)
    apart = np.abs(positions[..., :, None].astype(np.float64) - positions[..., None, :])
    return np.asarray((p[..., :, None] ** (1.0 + alpha) * p[..., None, :] * apart).sum((-2, -1)))


# --- diversity ----------------------------------------------------------------------------------


def bin_shares(x: AgentValues, edges: Float[np.ndarray, " edge"]) -> GroupShares:
    """Share of agents between each pair of edges; the last pair includes its upper edge.

    Agents outside all edges belong to the nearest pair.
    """
    bins = len(edges) - 1
    place = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, bins - 1)
    flat = place.reshape(-1, x.shape[-1])
    counts = np.stack([np.bincount(row, minlength=bins) for row in flat])
    return (counts / x.shape[-1]).reshape(*x.shape[:-1], bins)


def hill_number(shares: GroupShares, order: float = 1.0) -> Scalars:
    """Hill's number of groups, (sum p^q)^(1/(1-q)): as many equal groups would be as diverse.

    Order 0 counts groups, 1 is the exponential of Shannon's entropy, 2 is one over the chance
    that two people share a group, infinity is one over the largest share. Hill 1973, Ecology 54,
    427.
    """
    if order < 0.0:
        message = f"the order of a Hill number is at least 0, not {order}"
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
    """Rao's quadratic entropy sum_ij p_i p_j d_ij: how far apart two people are on average.

    Rao 1982, Theor. Popul. Biol. 21, 24.
    """
    p = _normalize(shares)
    return np.asarray((p[..., :, None] * p[..., None, :] * distances).sum((-2, -1)))


def rao_quadratic_entropy_of_points(x: PointCloud) -> Scalars:
    """Rao's quadratic entropy of people themselves: their mean distance, each to all and itself."""
    return _mean_distance(x, x)


# --- parts --------------------------------------------------------------------------------------


def _mean_distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """E||X - Y||, agents of x taken a few at a time so that memory stays small."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    rows = max(1, MAX_PAIRWISE_DISTANCES // max(1, y.size))
    total = np.zeros(x.shape[:-2])
    for start in range(0, x.shape[-2], rows):
        apart = x[..., start : start + rows, None, :] - y[..., None, :, :]
        total += np.sqrt((apart * apart).sum(-1)).sum((-2, -1))
    return np.asarray(total / (x.shape[-2] * y.shape[-2]))


def _matrix_square_root(matrix: np.ndarray) -> np.ndarray:
    """Of a symmetric matrix that is not negative."""
    values, vectors = np.linalg.eigh(matrix)
    scaled = vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]
    return scaled @ np.swapaxes(vectors, -1, -2)


def _normalize(shares: np.ndarray) -> np.ndarray:
    p = shares.astype(np.float64)
    return p / p.sum(-1, keepdims=True)
