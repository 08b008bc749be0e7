"""Intervals of one arm less another, and relative to another, replicate by replicate.

`a` and `b` hold the same replicates in the same order; their figures are compared, T(a) - T(b)
and T(a) / T(b) - 1. Coverage is given in `mores.analysis.intervals`.
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

MIN_REPLICATES_FOR_SPREAD = 4  # fewer replicates say nothing of an rms or a standard deviation


class ConfidenceInterval(NamedTuple):
    """Two ends, and how they were found."""

    low: float
    high: float
    method: str


def difference_interval(
    a: ReplicateValues, b: ReplicateValues, statistic: Statistic, level: float
) -> ConfidenceInterval:
    """Interval of T(a) - T(b)."""
    n, value = len(a), compute_statistic(a, statistic) - compute_statistic(b, statistic)
    if statistic != "rms" and is_constant(a - b):
        return ConfidenceInterval(
            value, value, f"the arms differ by the same in all {n} replicates"
        )
    if statistic == "mean":
        reach = t_quantile(n, level) * float((a - b).std(ddof=1)) / math.sqrt(n)
        return ConfidenceInterval(value - reach, value + reach, "Student's t of paired differences")
    if statistic == "median":
        reach = normal_quantile(level) * _difference_standard_error(paired_medians(a, b))
        return ConfidenceInterval(value - reach, value + reach, "Bonett and Price, paired medians")
    if n < MIN_REPLICATES_FOR_SPREAD:
        return ConfidenceInterval(
            -math.inf, math.inf, f"{n} replicates do not bound an {statistic}"
        )
    u, v = pseudovalues(a, statistic), pseudovalues(b, statistic)
    quantile, method = t_quantile(n, level), "Student's t by the jackknife, paired"
    reach = quantile * _difference_standard_error(_delta_method_roots(paired_means(u, v)))
    low, high = value - reach, value + reach
    if n <= bootstrap.MAX_BOOTSTRAP_REPLICATES:
        drawn = bootstrap.rms_difference_interval(a, b, statistic == "sd", level)
        low, high = min(low, drawn[0]), max(high, drawn[1])
        method = "wider of jackknife t and studentised bootstrap, paired"
    if abs((u - v).mean()) <= quantile * (u - v).std(ddof=1) / math.sqrt(n):
        # Skew leaves the level of the other two, but not of this test, where arms do not differ.
        low, high = min(low, 0.0), max(high, 0.0)
    return ConfidenceInterval(low, high, method)


def ratio_interval(
    a: ReplicateValues, b: ReplicateValues, statistic: Statistic, level: float
) -> ConfidenceInterval:
    """Interval of T(a) / T(b) - 1 by Fieller: the ratios at which T(a) - r T(b) may be zero.

    Around the ratio R found, with d = one - R other, the ratio R + x is one of them where
    (x other)^2 <= q^2 (var d - 2 x cov(d, other) + x^2 var other). For rms and sd the figures are
    mean squares and variances. Where `other` itself may be zero there is no bound.
    """
    n, roots = len(a), statistic in ("rms", "sd")
    lowest = -1.0 if roots else -math.inf
    if roots and n < MIN_REPLICATES_FOR_SPREAD:
        return ConfidenceInterval(lowest, math.inf, f"{n} replicates do not bound an {statistic}")
    if statistic == "median":
        quantile, pair = normal_quantile(level), paired_medians(a, b)
        found = pair.first / pair.second
        spread = pair.first_variance - 2.0 * found * pair.covariance
        spread += found**2 * pair.second_variance
        shared = pair.covariance - found * pair.second_variance
    else:
        u, v = pseudovalues(a, statistic), pseudovalues(b, statistic)
        found = float(u.mean() / v.mean())
        # Taken off replicate by replicate, nothing is left where one arm is a multiple of another.
        quantile, pair = t_quantile(n, level), paired_means(u - found * v, v)
        spread, shared = pair.first_variance, pair.covariance
    square = quantile**2
    leading = pair.second**2 - square * pair.second_variance
    if leading <= 0.0:
        return ConfidenceInterval(lowest, math.inf, "no bounds: what it is divided by may be zero")
    width = math.sqrt((square * shared) ** 2 + leading * square * max(spread, 0.0))
    low = found - (square * shared + width) / leading
    high = found - (square * shared - width) / leading
    if roots:
        low, high = math.sqrt(max(low, 0.0)), math.sqrt(max(high, 0.0))
    of = {"mean": "means", "median": "medians", "rms": "mean squares", "sd": "variances"}
    return ConfidenceInterval(low - 1.0, high - 1.0, f"Fieller, ratio of paired {of[statistic]}")


def _difference_standard_error(pair: PairedEstimate) -> float:
    variance = pair.first_variance - 2.0 * pair.covariance + pair.second_variance
    return math.sqrt(max(variance, 0.0))


def _delta_method_roots(pair: PairedEstimate) -> PairedEstimate:
    """The roots of two figures, and their errors to first order: a root's slope is 1 / (2 root).

    An arm without any spread has no error, and no slope.
    """
    one, other = math.sqrt(max(pair.first, 0.0)), math.sqrt(max(pair.second, 0.0))
    by_one = 0.5 / one if one else 0.0
    by_other = 0.5 / other if other else 0.0
    return PairedEstimate(
        one,
        other,
        by_one**2 * pair.first_variance,
        by_one * by_other * pair.covariance,
        by_other**2 * pair.second_variance,
    )
