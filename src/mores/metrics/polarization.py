"""Polarization and diversity of people's values.

Metrics of binned values have parameters `low`, `high` (value units) and `bins`; people outside the
range count in the nearest bin. Sums are in double precision, in a fixed order.
"""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mores.core.deterministic_sum import mean, total
from mores.core.errors import UserError
from mores.metrics.distances import mean_distance

Values = Float[Tensor, "world agent value"]
ByValue = Float[Tensor, "world value"]
Shares = Float[Tensor, "*many group"]
Batch = Float[Tensor, "*many"]
Bins = Annotated[int, Field(ge=2, le=10_000)]


# --- metrics --------------------------------------------------------------------------------------


def bimodality_coefficient(values: Values) -> ByValue:
    """Sarle's bimodality coefficient (g^2 + 1) / (k + 3 (n-1)^2 / ((n-2) (n-3))) of each value.

    g and k are the bias-corrected sample skewness and excess kurtosis. For many people it is 1/3
    for a normal distribution, 5/9 for a uniform one, 1 for two equally likely points (.57 for ten
    people in two halves); skewness increases it too. It needs four people, and is NaN if all values
    are equal. Pfister et al. 2013, Front. Psychol. 4, 700.
    """
    n, x = values.shape[1], values.double()
    if n < 4:
        message = f"bimodality_coefficient: {n} people; at least four are needed"
        raise UserError(message, code="wrong_shape", path="values")
    deviation = x - mean(x, 1)[:, None]
    squares = deviation * deviation
    second, third, fourth = (
        mean(power, 1) for power in (squares, squares * deviation, squares * squares)
    )
    second = torch.where((x == x[:, :1]).all(1), torch.nan, second)
    skewness = third / (second * second.sqrt()) * ((n * (n - 1.0)) ** 0.5 / (n - 2.0))
    scale = (n - 1.0) / ((n - 2.0) * (n - 3.0))
    kurtosis = scale * ((n + 1.0) * (fourth / (second * second) - 3.0) + 6.0)
    return (skewness * skewness + 1.0) / (kurtosis + 3.0 * scale * (n - 1.0))


def esteban_ray_polarization(
    values: Values,
    *,
    alpha: Annotated[float, Field(gt=0, le=1.6)] = 1.6,
    low: float = -1.0,
    high: float = 1.0,
    bins: Bins = 10,
) -> ByValue:
    """Esteban-Ray polarization of each value, people in equal bins of [low, high].

    sum_ij p_i^(1+alpha) p_j |y_i - y_j| of bins with shares p and centers y. `alpha` is the weight
    of identification with the own group. It is high for few large and distant groups: equal groups
    evenly spaced on [0, 1] have .165 (two), .077 (three), .009 (ten) at 1.6. Esteban and Ray 1994,
    Econometrica 62, 819, with their normalizing constant K = 1.
    """
    shares = bin_shares(values.movedim(2, 1), low, high, bins)
    centers = low + (high - low) / bins * (torch.arange(bins, device=values.device) + 0.5)
    return esteban_ray(shares, centers.double(), alpha)


def hill_number(
    values: Values,
    *,
    order: Annotated[float, Field(ge=0)] = 1.0,
    low: float = -1.0,
    high: float = 1.0,
    bins: Bins = 10,
) -> ByValue:
    """Hill number of each value: the effective number of groups, people in bins of [low, high].

    (sum p^q)^(1/(1-q)) of order q. Order 0 counts the bins that are not empty, order 1 is the
    exponential of Shannon's entropy, order 2 the inverse probability that two people share a bin.
    Hill 1973, Ecology 54, 427.
    """
    return hill(bin_shares(values.movedim(2, 1), low, high, bins), order)


def rao_quadratic_entropy(values: Values) -> Float[Tensor, " world"]:
    """Rao's quadratic entropy: mean distance over all pairs of people, pairs of one included.

    The time grows with the square of the number of people. Rao 1982, Theor. Popul. Biol. 21, 24.
    """
    return mean_distance(values, values)


# --- functions of shares of groups ----------------------------------------------------------------


def bin_shares(x: Float[Tensor, "*many agent"], low: float, high: float, bins: int) -> Shares:
    """Share of agents in each of `bins` equal bins of [low, high], or nearest to it."""
    if not low < high:
        message = f"bins: low must lie below high, not {low} and {high}"
        raise UserError(message, code="invalid_value", path="low")
    index = ((x.double() - low) / (high - low) * bins).nan_to_num().clamp(0, bins - 1).long()
    counts = torch.zeros(*x.shape[:-1], bins, dtype=torch.float64, device=x.device)
    ones = torch.ones_like(x, dtype=torch.float64)
    shares = counts.scatter_add(-1, index, ones) / x.shape[-1]  # exact: counts are whole numbers
    return torch.where(x.isfinite().all(-1, keepdim=True), shares, torch.nan)


def esteban_ray(shares: Shares, positions: Float[Tensor, " group"], alpha: float) -> Batch:
    """sum_ij p_i^(1+alpha) p_j |y_i - y_j| of groups with shares p at positions y."""
    p = _normalize(shares)
    distance = (positions[:, None] - positions).abs()
    pairs = _power(p, 1.0 + alpha)[..., :, None] * p[..., None, :] * distance
    return total(total(pairs, -1), -1)


def hill(shares: Shares, order: float) -> Batch:
    """Hill number of shares; order infinity is the inverse of the largest share."""
    p = _normalize(shares)
    if order == 1.0:
        return torch.exp(-total(torch.where(p > 0, p * torch.log(p), 0.0), -1))
    if order == float("inf"):
        return 1.0 / p.amax(-1)
    return _power(total(torch.where(p > 0, _power(p, order), 0.0), -1), 1.0 / (1.0 - order))


def _power(x: Tensor, exponent: float) -> Tensor:
    """x^exponent for x >= 0; `pow` has other last bits in the tail of a batch."""
    return torch.exp(exponent * torch.log(x))


def _normalize(shares: Tensor) -> Tensor:
    p = shares.double()
    return p / total(p, -1)[..., None]
