"""Intervals of differences and relative differences of two arms, paired by replicate.

`a` and `b` hold the same replicates in the same order. The estimands are T(a) - T(b) and
T(a) / T(b) - 1 for a statistic T. `mores.analysis.intervals` reports the coverage.
"""

from __future__ import annotations

import math

import numpy as np

from mores.analysis import bootstrap
from mores.analysis.replicate_statistics import (
    PairedEstimates,
    ReplicateValues,
    Statistic,
    compute_statistic,
    is_constant,
    normal_quantile,
    paired_means,
    paired_medians,
    pseudovalues,
    t_quantile,
)

MIN_REPLICATES_FOR_SPREAD = 4  # fewer replicates do not bound an rms or a standard deviation


Interval = tuple[float, float, str]  # ends and name of the method


def difference_interval(
    a: ReplicateValues, b: ReplicateValues, statistic: Statistic, level: float
) -> Interval:
    """Interval of T(a) - T(b)."""
    n, value = len(a), compute_statistic(a, statistic) - compute_statistic(b, statistic)
    if statistic != "rms" and is_constant(a - b):
        return value, value, f"same difference in all {n} replicates"
    if statistic == "mean":
        error = t_quantile(n, level) * float((a - b).std(ddof=1)) / math.sqrt(n)
        return value - error, value + error, "Student's t of paired differences"
    if statistic == "median":
        error = normal_quantile(level) * _difference_standard_error(paired_medians(a, b))
        return value - error, value + error, "Bonett and Price, paired medians"
    if n < MIN_REPLICATES_FOR_SPREAD:
        return -math.inf, math.inf, f"{n} replicates do not bound an {statistic}"
    u, v = pseudovalues(a, statistic), pseudovalues(b, statistic)
    quantile, method = t_quantile(n, level), "Student's t by the jackknife, paired"
    error = quantile * _difference_standard_error(_roots(paired_means(u, v)))
    low, high = value - error, value + error
    if n <= bootstrap.MAX_BOOTSTRAP_REPLICATES:
        resampled = bootstrap.rms_difference_interval(a, b, statistic == "sd", level)
        low, high = min(low, resampled[0]), max(high, resampled[1])
        method = "wider of jackknife t and studentised bootstrap, paired"
    if abs((u - v).mean()) <= quantile * (u - v).std(ddof=1) / math.sqrt(n):
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
        ratio = float(values[0] / values[1])
        covariance = errors[0, 1] - ratio * errors[1, 1]
        variance = errors[0, 0] - 2.0 * ratio * errors[0, 1] + ratio**2 * errors[1, 1]
    else:
        u, v = pseudovalues(a, statistic), pseudovalues(b, statistic)
        ratio = float(u.mean() / v.mean())
        # Differences per replicate are exactly 0 where one arm is a multiple of the other.
        quantile, (values, errors) = t_quantile(n, level), paired_means(u - ratio * v, v)
        variance, covariance = errors[0, 0], errors[0, 1]
    squared = quantile**2
    leading = float(values[1]) ** 2 - squared * float(errors[1, 1])
    if leading <= 0.0:
        return lowest, math.inf, "no bounds: the divisor may be zero"
    middle = squared * float(covariance)
    root = math.sqrt(middle**2 + leading * squared * max(float(variance), 0.0))
    low, high = ratio - (middle + root) / leading, ratio - (middle - root) / leading
    if roots:
        low, high = math.sqrt(max(low, 0.0)), math.sqrt(max(high, 0.0))
    of = {"mean": "means", "median": "medians", "rms": "mean squares", "sd": "variances"}
    return low - 1.0, high - 1.0, f"Fieller, ratio of paired {of[statistic]}"


def _difference_standard_error(pair: PairedEstimates) -> float:
    (first, covariance), (_, second) = pair.covariance
    return math.sqrt(max(float(first - 2.0 * covariance + second), 0.0))


def _roots(pair: PairedEstimates) -> PairedEstimates:
    """Square roots of two estimates with first-order errors: the slope of a root is 1 / (2 root).

    A zero estimate has zero error and zero slope.
    """
    roots = np.sqrt(np.maximum(pair.values, 0.0))
    slopes = np.divide(0.5, roots, out=np.zeros(2), where=roots > 0.0)
    return PairedEstimates(roots, np.outer(slopes, slopes) * pair.covariance)
