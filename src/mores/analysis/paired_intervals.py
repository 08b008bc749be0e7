"""Intervals of differences and relative differences of two arms, paired by replicate.

`a` and `b` hold the same replicates in the same order. The estimands are T(a) - T(b) and
T(a) / T(b) - 1 for a statistic T. `mores.analysis.intervals` reports the coverage.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from mores.analysis import bootstrap
from mores.analysis.replicate_statistics import (
    PairedEstimate,
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


class ConfidenceInterval(NamedTuple):
    """Ends of an interval and the name of the method."""

    low: float
    high: float
    method: str


def difference_interval(
    a: ReplicateValues, b: ReplicateValues, statistic: Statistic, level: float
) -> ConfidenceInterval:
    """Interval of T(a) - T(b)."""
    n, value = len(a), compute_statistic(a, statistic) - compute_statistic(b, statistic)
    if statistic != "rms" and is_constant(a - b):
        return ConfidenceInterval(value, value, f"same difference in all {n} replicates")
    if statistic == "mean":
        error = t_quantile(n, level) * float((a - b).std(ddof=1)) / math.sqrt(n)
        return ConfidenceInterval(value - error, value + error, "Student's t of paired differences")
    if statistic == "median":
        error = normal_quantile(level) * _difference_standard_error(paired_medians(a, b))
        return ConfidenceInterval(value - error, value + error, "Bonett and Price, paired medians")
    if n < MIN_REPLICATES_FOR_SPREAD:
        return ConfidenceInterval(
            -math.inf, math.inf, f"{n} replicates do not bound an {statistic}"
        )
    u, v = pseudovalues(a, statistic), pseudovalues(b, statistic)
    quantile, method = t_quantile(n, level), "Student's t by the jackknife, paired"
    error = quantile * _difference_standard_error(_delta_method_roots(paired_means(u, v)))
    low, high = value - error, value + error
    if n <= bootstrap.MAX_BOOTSTRAP_REPLICATES:
        resampled = bootstrap.rms_difference_interval(a, b, statistic == "sd", level)
        low, high = min(low, resampled[0]), max(high, resampled[1])
        method = "wider of jackknife t and studentised bootstrap, paired"
    if abs((u - v).mean()) <= quantile * (u - v).std(ddof=1) / math.sqrt(n):
        # For equal arms with skewed values, this test holds its level; the other two may not.
        low, high = min(low, 0.0), max(high, 0.0)
    return ConfidenceInterval(low, high, method)


def ratio_interval(
    a: ReplicateValues, b: ReplicateValues, statistic: Statistic, level: float
) -> ConfidenceInterval:
    """Interval of T(a) / T(b) - 1 by Fieller: all ratios r for which T(a) - r T(b) may be zero.

    With the estimated ratio R = A / B and d = A - R B, the ratio R + x belongs to the interval if
    (x B)^2 <= q^2 (var d - 2 x cov(d, B) + x^2 var B). For rms and sd, A and B are mean squares
    and variances. The interval is unbounded where B itself may be zero.
    """
    n, roots = len(a), statistic in ("rms", "sd")
    lowest = -1.0 if roots else -math.inf
    if roots and n < MIN_REPLICATES_FOR_SPREAD:
        return ConfidenceInterval(lowest, math.inf, f"{n} replicates do not bound an {statistic}")
    if statistic == "median":
        quantile, pair = normal_quantile(level), paired_medians(a, b)
        ratio = pair.first / pair.second
        variance = pair.first_variance - 2.0 * ratio * pair.covariance
        variance += ratio**2 * pair.second_variance
        covariance = pair.covariance - ratio * pair.second_variance
    else:
        u, v = pseudovalues(a, statistic), pseudovalues(b, statistic)
        ratio = float(u.mean() / v.mean())
        # Differences per replicate are exactly 0 where one arm is a multiple of the other.
        quantile, pair = t_quantile(n, level), paired_means(u - ratio * v, v)
        variance, covariance = pair.first_variance, pair.covariance
    quantile_squared = quantile**2
    leading = pair.second**2 - quantile_squared * pair.second_variance
    if leading <= 0.0:
        return ConfidenceInterval(lowest, math.inf, "no bounds: the divisor may be zero")
    discriminant_root = math.sqrt(
        (quantile_squared * covariance) ** 2 + leading * quantile_squared * max(variance, 0.0)
    )
    low = ratio - (quantile_squared * covariance + discriminant_root) / leading
    high = ratio - (quantile_squared * covariance - discriminant_root) / leading
    if roots:
        low, high = math.sqrt(max(low, 0.0)), math.sqrt(max(high, 0.0))
    of = {"mean": "means", "median": "medians", "rms": "mean squares", "sd": "variances"}
    return ConfidenceInterval(low - 1.0, high - 1.0, f"Fieller, ratio of paired {of[statistic]}")


def _difference_standard_error(pair: PairedEstimate) -> float:
    variance = pair.first_variance - 2.0 * pair.covariance + pair.second_variance
    return math.sqrt(max(variance, 0.0))


def _delta_method_roots(pair: PairedEstimate) -> PairedEstimate:
    """Square roots of two estimates with first-order errors: the slope of a root is 1 / (2 root).

    A zero estimate has zero error and zero slope.
    """
    first_root, second_root = math.sqrt(max(pair.first, 0.0)), math.sqrt(max(pair.second, 0.0))
    first_slope = 0.5 / first_root if first_root else 0.0
    second_slope = 0.5 / second_root if second_root else 0.0
    return PairedEstimate(
        first_root,
        second_root,
        first_slope**2 * pair.first_variance,
        first_slope * second_slope * pair.covariance,
        second_slope**2 * pair.second_variance,
    )
