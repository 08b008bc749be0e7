"""Intervals of differences and relative differences of two arms, paired by replicate.

`a` and `b` hold the same replicates in the same order. The estimands are T(a) - T(b) and
T(a) / T(b) - 1 for a statistic T. `mores.analysis.intervals` reports the coverage.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mores.analysis import bootstrap
from mores.analysis.replicate_statistics import (
    ReplicateValues,
    Statistic,
    compute_statistic,
    is_constant,
    normal_quantile,
    t_margin,
    t_quantile,
)

MIN_REPLICATES_FOR_SPREAD = 4  # fewer replicates do not bound an rms or a standard deviation

Interval = tuple[float, float, str]  # ends and name of the method


class PairedEstimates(NamedTuple):
    """Two estimates from the same replicates, and the covariance matrix of their errors."""

    values: Float[np.ndarray, "2"]
    covariance: Float[np.ndarray, "2 2"]


def difference_interval(
    a: ReplicateValues, b: ReplicateValues, statistic: Statistic, level: float
) -> Interval:
    """Interval of T(a) - T(b)."""
    n, value = len(a), compute_statistic(a, statistic) - compute_statistic(b, statistic)
    if statistic != "rms" and is_constant(a - b):
        return value, value, f"same difference in all {n} replicates"
    if statistic == "mean":
        margin = float(t_margin(a - b, level))
        return value - margin, value + margin, "Student's t of paired differences"
    if statistic == "median":
        margin = normal_quantile(level) * _difference_error(paired_medians(a, b).covariance)
        return value - margin, value + margin, "Bonett and Price, paired medians"
    if n < MIN_REPLICATES_FOR_SPREAD:
        return -math.inf, math.inf, f"{n} replicates do not bound an {statistic}"
    u, v = pseudovalues(a, statistic), pseudovalues(b, statistic)
    roots = np.sqrt(np.maximum([u.mean(), v.mean()], 0.0))
    # First-order errors: the slope of a root is 1 / (2 root). A root of zero has no error.
    slopes = np.divide(0.5, roots, out=np.zeros(2), where=roots > 0.0)
    covariance = np.outer(slopes, slopes) * (np.cov(u, v) / n)
    margin = t_quantile(n, level) * _difference_error(covariance)
    low, high, method = value - margin, value + margin, "Student's t by the jackknife, paired"
    if n <= bootstrap.MAX_BOOTSTRAP_REPLICATES:
        resampled = bootstrap.rms_difference_interval(a, b, statistic == "sd", level)
        low, high = min(low, resampled[0]), max(high, resampled[1])
        method = "wider of jackknife t and studentised bootstrap, paired"
    if abs((u - v).mean()) <= t_margin(u - v, level):
        # For equal arms with skewed values, this test holds its level; the other two may not.
        low, high = min(low, 0.0), max(high, 0.0)
    return low, high, method


def ratio_interval(
    a: ReplicateValues, b: ReplicateValues, statistic: Statistic, level: float
) -> Interval:
    """Interval of T(a) / T(b) - 1 by Fieller: all ratios r for which T(a) - r T(b) may be zero.

    With the estimated ratio R = A / B and d = A - R B, the ratio R + x belongs to the interval if
    (x B)^2 <= q^2 (var d - 2 x cov(d, B) + x^2 var B). For rms and sd, A and B are mean squares
    and variances. The interval is unbounded where B itself may be zero.
    """
    n, roots = len(a), statistic in ("rms", "sd")
    lowest = -1.0 if roots else -math.inf
    if roots and n < MIN_REPLICATES_FOR_SPREAD:
        return lowest, math.inf, f"{n} replicates do not bound an {statistic}"
    if statistic == "median":
        quantile, (values, errors) = normal_quantile(level), paired_medians(a, b)
        divisor, ratio = float(values[1]), float(values[0] / values[1])
        covariance = errors[0, 1] - ratio * errors[1, 1]
        variance = errors[0, 0] - 2.0 * ratio * errors[0, 1] + ratio**2 * errors[1, 1]
    else:
        u, v = pseudovalues(a, statistic), pseudovalues(b, statistic)
        divisor, ratio = float(v.mean()), float(u.mean() / v.mean())
        # Differences per replicate are exactly 0 where one arm is a multiple of the other.
        quantile, errors = t_quantile(n, level), np.cov(u - ratio * v, v) / n
        variance, covariance = errors[0]
    squared = quantile**2
    leading = divisor**2 - squared * float(errors[1, 1])
    if leading <= 0.0:
        return lowest, math.inf, "no bounds: the divisor may be zero"
    middle = squared * float(covariance)
    root = math.sqrt(middle**2 + leading * squared * max(float(variance), 0.0))
    low, high = ratio - (middle + root) / leading, ratio - (middle - root) / leading
    if roots:
        low, high = math.sqrt(max(low, 0.0)), math.sqrt(max(high, 0.0))
    of = {"mean": "means", "median": "medians", "rms": "mean squares", "sd": "variances"}
    return low - 1.0, high - 1.0, f"Fieller, ratio of paired {of[statistic]}"


def _difference_error(covariance: Float[np.ndarray, "2 2"]) -> float:
    """Standard error of a difference, from the covariance of the errors."""
    return math.sqrt(max(float(covariance[0, 0] - 2.0 * covariance[0, 1] + covariance[1, 1]), 0.0))


def pseudovalues(x: ReplicateValues, statistic: Statistic) -> ReplicateValues:
    """Values with the mean, the squared rms or the variance (jackknife) as their mean."""
    if statistic == "mean":
        return x
    if statistic == "rms":
        return x * x
    n = len(x)
    return (n * (x - x.mean()) ** 2 - x.var(ddof=1)) / (n - 2)


def paired_medians(a: ReplicateValues, b: ReplicateValues) -> PairedEstimates:
    """Medians of two columns of the same replicates, after Bonett and Price 2020.

    Standard errors come from order statistics. The covariance comes from the share of replicates on
    the same side of both medians, shrunk towards zero as in the source; a tie counts half.
    """
    medians = np.array([np.median(a), np.median(b)])
    sign_a, sign_b = np.sign(a - medians[0]), np.sign(b - medians[1])
    informative = math.sqrt((sign_a**2).sum() * (sign_b**2).sum())
    agreement = float((sign_a * sign_b).sum()) / (informative + 1.0)
    se_a, se_b = _median_standard_error(a), _median_standard_error(b)
    covariance = agreement * se_a * se_b
    return PairedEstimates(medians, np.array([[se_a**2, covariance], [covariance, se_b**2]]))


def _median_standard_error(x: ReplicateValues) -> float:
    """Standard error of a median: the distance of two order statistics over normal quantiles.

    Price and Bonett 2001, J. Stat. Comput. Simul. 68, 295.
    """
    from scipy.special import bdtr, ndtri

    n, ordered = len(x), np.sort(x)
    rank = max(1, round(n / 2 - math.sqrt(n)))
    quantiles = -2.0 * ndtri(bdtr(rank - 1, n, 0.5))
    return float((ordered[n - rank] - ordered[rank - 1]) / quantiles)
