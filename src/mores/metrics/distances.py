"""Distances between the distributions of people's values now and at the start of the episode.

A distribution is a cloud of points `[..., agent, value]`, or `[..., agent]` for one value. Sums are
in double precision, in a fixed order.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mores.core.deterministic_sum import mean, total

Values = Float[Tensor, "world agent value"]
Scalars = Float[Tensor, " world"]
Line = Float[Tensor, "*many agent"]
OtherLine = Float[Tensor, "*many other"]
Cloud = Float[Tensor, "*many agent value"]
OtherCloud = Float[Tensor, "*many other value"]
Batch = Float[Tensor, "*many"]

MAX_PAIRWISE_DISTANCES = 2**22  # in memory at once


# --- metrics --------------------------------------------------------------------------------------


def wasserstein_from_start(values: Values, initial_values: Values) -> Float[Tensor, "world value"]:
    """Wasserstein distance W_1 from the initial distribution, of each value, in value units.

    The mean distance by which people would have to move to change one distribution into the other.
    Vallender 1974, Theory Probab. Appl. 18, 784.
    """
    return wasserstein_1d(values.movedim(2, 1), initial_values.movedim(2, 1))


def sliced_wasserstein_from_start(
    values: Values, initial_values: Values, *, num_projections: int = 64, seed: int = 0
) -> Scalars:
    """Sliced Wasserstein distance from the initial distribution, in value units.

    Root mean square of W_2 between projections on `num_projections` random directions, which depend
    on `seed` only. In one dimension it is W_2. Bonneel et al. 2015, J. Math. Imaging Vis. 51, 22.
    """
    return sliced_wasserstein_distance(values, initial_values, num_projections, seed)


def gaussian_wasserstein_from_start(values: Values, initial_values: Values) -> Scalars:
    """W_2 between normal distributions with the means and covariances of now and of the start.

    A lower bound of W_2 for other distributions. Gelbrich 1990, Math. Nachr. 147, 185.
    """
    (mean_now, cov_now), (mean_start, cov_start) = map(_moments, (values, initial_values))
    return gaussian_wasserstein_squared(mean_now, cov_now, mean_start, cov_start).sqrt()


def energy_distance_from_start(values: Values, initial_values: Values) -> Scalars:
    """Energy distance from the initial distribution; 0 only for equal distributions.

    (2 E||X - Y|| - E||X - X'|| - E||Y - Y'||)^.5 in (value units)^.5. The time grows with the
    square of the number of people. Szekely and Rizzo 2013, J. Stat. Plan. Inference 143, 1249.
    """
    return energy_distance(values, initial_values)


# --- distances between two clouds -----------------------------------------------------------------


def wasserstein_1d(x: Line, y: OtherLine, squared: bool = False) -> Batch:
    """W_1 in one dimension, or W_2^2: mean of |F^-1(u) - G^-1(u)| or of its square over u."""
    n, m = x.shape[-1], y.shape[-1]
    x, y = x.double().sort(-1).values, y.double().sort(-1).values
    # In units of 1 / (n m), the quantile function of x jumps at multiples of m, that of y of n.
    steps = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)
    weights = torch.from_numpy(np.diff(steps, prepend=0) / (n * m)).to(x.device)
    of_x, of_y = (torch.from_numpy((steps - 1) // k).to(x.device) for k in (m, n))
    distance = (x[..., of_x] - y[..., of_y]).abs()
    return total((distance * distance if squared else distance) * weights, -1)


def sliced_wasserstein_distance(
    x: Cloud, y: OtherCloud, num_projections: int = 64, seed: int = 0
) -> Batch:
    """Root mean square of W_2 between projections on random directions."""
    directions = np.random.default_rng(seed).standard_normal((num_projections, x.shape[-1]))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    squared = torch.zeros_like(x[..., 0, 0], dtype=torch.float64)
    for direction in torch.from_numpy(directions).to(x.device):
        projections = total(x * direction, -1), total(y * direction, -1)
        squared = squared + wasserstein_1d(*projections, squared=True)
    return (squared / num_projections).sqrt()


def gaussian_wasserstein_squared(
    mean_x: Float[Tensor, "*many value"],
    covariance_x: Float[Tensor, "*many value value"],
    mean_y: Float[Tensor, "*many value"],
    covariance_y: Float[Tensor, "*many value value"],
) -> Batch:
    """W_2^2 of two normal distributions; NaN if a number is not finite.

    ||mu_x - mu_y||^2 + tr(S_x + S_y - 2 (S_y^.5 S_x S_y^.5)^.5), with means mu and covariances S.
    """
    trace = (covariance_x + covariance_y).diagonal(dim1=-2, dim2=-1)
    difference = mean_x - mean_y
    squared = total(difference * difference, -1) + total(trace, -1)
    finite = squared.isfinite()[..., None, None]
    x, y = (torch.where(finite, each, 0.0) for each in (covariance_x, covariance_y))
    root = matrix_square_root(y)
    product = _matmul(_matmul(root, x), root)
    roots = torch.linalg.eigvalsh(product).clamp(min=0).sqrt()
    return (squared - 2.0 * total(roots, -1)).clamp(min=0)


def energy_distance(x: Cloud, y: OtherCloud) -> Batch:
    """(2 E||X - Y|| - E||X - X'|| - E||Y - Y'||)^.5 of two clouds."""
    squared = 2.0 * mean_distance(x, y) - mean_distance(x, x) - mean_distance(y, y)
    return squared.clamp(min=0).sqrt()


def mean_distance(x: Cloud, y: OtherCloud) -> Batch:
    """E||X - Y|| over all pairs, in batches of agents of x to limit memory."""
    x, y = x.double(), y.double()
    rows = max(1, MAX_PAIRWISE_DISTANCES // max(1, y.numel()))
    sums = []
    for part in x.split(rows, -2):
        difference = part[..., :, None, :] - y[..., None, :, :]
        sums.append(mean(total(difference * difference, -1).sqrt(), -1))
    return mean(torch.cat(sums, -1), -1)


def matrix_square_root(matrix: Float[Tensor, "*many n n"]) -> Float[Tensor, "*many n n"]:
    """Square root of a positive semidefinite matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    scaled = vectors * values.clamp(min=0).sqrt()[..., None, :]
    return _matmul(scaled, vectors.mT)


def _moments(values: Values) -> tuple[Tensor, Tensor]:
    """Mean and covariance (divisor n) of each world."""
    values = values.double()
    center = mean(values, 1)
    deviation = values - center[:, None]
    return center, mean(deviation[..., :, None] * deviation[..., None, :], 1)


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    """Product of small matrices, with sums in a fixed order."""
    return total(a[..., :, :, None] * b[..., None, :, :], -2)
