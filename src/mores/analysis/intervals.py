"""Estimates over replicates: a statistic with its interval.

The replicate is the independent unit of every interval here. A comparison of two arms is paired
by replicate: the statistic of one arm minus (or relative to) the statistic of the other. The
estimand thus depends on the distribution in each arm, and not on the random numbers that the arms
share; sharing them makes the interval shorter. For the mean, the estimand is the mean of the
differences; for the median it is not the median of the differences.

| statistic | one arm | difference of two arms | relative difference |
|---|---|---|---|
| mean | Student's t; for values 0 and 1, Wilson | Student's t of differences | Fieller |
| median | order statistics | Bonett and Price | Fieller, errors by Bonett and Price |
| rms, sd | studentized bootstrap | wider of jackknife t and bootstrap | Fieller of squares |

docs/explanation/intervals.md has the measured coverage of each method and its limitations. In
short: with fewer than 100 replicates, intervals of the mean, rms and sd of skewed or heavy-tailed
values cover too rarely; those of a median cover at least their level. Values that are all 0 or 1
count as a binary outcome; a constant over all replicates gets an interval of width zero.

Sources: Wilson 1927, J. Am. Stat. Assoc. 22, 209; Fieller 1954, J. R. Stat. Soc. B 16, 175; Efron
1982, The Jackknife, the Bootstrap and Other Resampling Plans; Bonett and Price 2020, Br. J. Math.
Stat. Psychol. 73, 333.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mores.analysis import bootstrap, paired_intervals
from mores.analysis.replicate_statistics import (
    STATISTICS,
    Statistic,
    compute_statistic,
    is_binary,
    is_constant,
    median_interval,
    t_margin,
    wilson_interval,
)
from mores.core.errors import UserError, did_you_mean

ONE_REPLICATE = (-math.inf, math.inf, "one replicate has no interval", 1.0)


@dataclasses.dataclass(frozen=True)
class IntervalEstimate:
    """Statistic over replicates with its interval.

    Attributes:
        value: the statistic; nan where a replicate is not finite.
        low, high: ends of the interval; infinite where the replicates do not bound it.
        n: number of replicates.
        method: name of the interval method.
        confidence: nominal coverage by theory. Below the requested level with too few replicates;
            1 for an interval without a random part.
    """

    value: float
    low: float
    high: float
    n: int
    method: str
    confidence: float = 0.95

    @classmethod
    def undefined(cls, n: int, method: str) -> IntervalEstimate:
        """No estimate, for the reason that `method` states."""
        return cls(math.nan, math.nan, math.nan, n, method, math.nan)

    @classmethod
    def unbounded(cls, value: float, n: int, method: str) -> IntervalEstimate:
        """An estimate without an interval, for the reason that `method` states."""
        return cls(value, -math.inf, math.inf, n, method, 1.0)


class ConfidenceBand(NamedTuple):
    """Mean and interval of each column."""

    value: Float[np.ndarray, " column"]
    low: Float[np.ndarray, " column"]
    high: Float[np.ndarray, " column"]


def estimate(
    values: Float[np.ndarray, " replicate"], statistic: Statistic = "mean", level: float = 0.95
) -> IntervalEstimate:
    """Statistic of the replicates with its interval.

    Args:
        values: one value per replicate.
        statistic: mean, median, rms (root of the mean square) or sd (with n - 1).
        level: nominal coverage of the interval, in (0, 1).

    Raises:
        UserError: an unknown statistic, no values, or a level outside (0, 1).
    """
    x = _validate_values(values, statistic, level)
    if (nonfinite := _nonfinite_estimate(x)) is not None:
        return nonfinite
    n = len(x)
    x, exponent = _rescale(np.sort(x))  # sorted: replicate order must not matter
    value, confidence = compute_statistic(x, statistic), level
    if n == 1:
        low, high, method, confidence = ONE_REPLICATE
    elif is_constant(np.abs(x) if statistic == "rms" else x):
        low, high, method, confidence = value, value, f"equal in all {n} replicates", 1.0
    elif statistic == "mean" and is_binary(np.ldexp(x, exponent)):
        value, exponent = float(np.ldexp(value, exponent)), 0
        (low, high), method = wilson_interval(value, n, level), "Wilson, for values 0 and 1"
    elif statistic == "mean":
        margin = float(t_margin(x, level))
        low, high, method = value - margin, value + margin, "Student's t"
    elif statistic == "median":
        low, high, confidence = median_interval(x, level)
        method = "order statistics"
        if confidence < level:
            method = f"minimum to maximum, with {100 * confidence:.3g} % coverage"
    elif n < paired_intervals.MIN_REPLICATES_FOR_SPREAD:
        low, high, method = 0.0, math.inf, f"{n} replicates do not bound an {statistic}"
    else:
        low, high = bootstrap.rms_interval(x, statistic == "sd", level)
        method = "studentized bootstrap of the logarithm"
        if n > bootstrap.MAX_BOOTSTRAP_REPLICATES:
            method = "normal error of the logarithm"
    return _estimate_in_original_scale(value, low, high, n, method, confidence, exponent)


def compare(
    values: Float[np.ndarray, " replicate"],
    reference: Float[np.ndarray, " replicate"] | float,
    statistic: Statistic = "mean",
    relative: bool = False,
    level: float = 0.95,
) -> IntervalEstimate:
    """Statistic of the replicates minus that of a reference, with its interval.

    Args:
        values: one value per replicate.
        reference: the same replicates in another arm, in the same order; or one number, such as an
            analytic value, which counts as exact.
        statistic: mean, median, rms or sd.
        relative: divide by the reference's statistic. Its sign counts: a value above a negative
            reference has a negative relative difference.
        level: nominal coverage of the interval, in (0, 1).

    Raises:
        UserError: as `estimate`, or arms of different size.
    """
    if not isinstance(reference, np.ndarray):
        return _compare_with_constant(
            estimate(values, statistic, level), float(reference), relative
        )
    a = _validate_values(values, statistic, level)
    b = _validate_values(reference, statistic, level, "reference")
    n = len(a)
    if len(b) != n:
        message = f"reference has {len(b)} replicates, values have {n}: they are compared in pairs"
        raise UserError(message, code="wrong_shape", path="reference")
    if (nonfinite := _nonfinite_estimate(a, b)) is not None:
        return nonfinite
    if statistic == "rms":
        a, b = np.abs(a), np.abs(b)
    order = np.lexsort((b, a))  # sorted: replicate order must not matter
    (a, b), exponent = _rescale(np.stack([a[order], b[order]]))
    value_a, value_b = compute_statistic(a, statistic), compute_statistic(b, statistic)
    if relative and value_b == 0.0:
        return IntervalEstimate.undefined(n, "relative to zero")
    value, confidence = value_a - value_b, level
    if relative:
        value, exponent = value_a / value_b - 1.0, 0
    if n == 1:
        low, high, method, confidence = ONE_REPLICATE
    elif (a == b).all():
        low, high, method, confidence = 0.0, 0.0, f"both arms equal in all {n} replicates", 1.0
    elif relative:
        low, high, method = paired_intervals.ratio_interval(a, b, statistic, level)
    else:
        low, high, method = paired_intervals.difference_interval(a, b, statistic, level)
    return _estimate_in_original_scale(value, low, high, n, method, confidence, exponent)


def confidence_band(
    values: Float[np.ndarray, "replicate column"], level: float = 0.95
) -> ConfidenceBand:
    """Mean of each column over the replicates with Student's t interval, for figures.

    With one replicate, the ends of the interval are nan.
    """
    values = np.asarray(values, dtype=np.float64)
    value = values.mean(0)
    margin = t_margin(values, level) if len(values) > 1 else np.nan
    return ConfidenceBand(value, value - margin, value + margin)


def _compare_with_constant(
    base: IntervalEstimate, constant: float, relative: bool
) -> IntervalEstimate:
    """Interval minus a constant; if `relative`, also divided by it. Both steps are exact."""
    if not math.isfinite(constant) or (relative and constant == 0.0):
        method = "relative to zero" if constant == 0.0 else f"compared with {constant}"
        return IntervalEstimate.undefined(base.n, method)
    divisor = constant if relative else 1.0
    ends = ((base.low - constant) / divisor, (base.high - constant) / divisor)
    value = (base.value - constant) / divisor
    return dataclasses.replace(base, value=value, low=min(ends), high=max(ends))


def _validate_values(
    values: np.ndarray, statistic: str, level: float, name: str = "values"
) -> np.ndarray:
    if statistic not in STATISTICS:
        message = f"no statistic named {statistic!r}{did_you_mean(statistic, STATISTICS)}"
        raise UserError(message, code="unknown_name", path="statistic")
    if not 0.0 < level < 1.0:
        message = f"level {level}: must lie between 0 and 1"
        raise UserError(message, code="out_of_range", path="level")
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or not len(x):
        message = f"{name}: one value per replicate is needed, not an array of shape {x.shape}"
        raise UserError(message, code="wrong_shape", path=name)
    return x


def _nonfinite_estimate(*arms: np.ndarray) -> IntervalEstimate | None:
    """Estimate of nan if any replicate is not finite (dropping it would hide a failure)."""
    n = len(arms[0])
    bad = n - int(np.all([np.isfinite(x) for x in arms], axis=0).sum())
    if not bad:
        return None
    return IntervalEstimate.undefined(n, f"{bad} of {n} not finite")


def _rescale(x: np.ndarray) -> tuple[np.ndarray, int]:
    """Values divided by a power of two, exactly, so that squares neither overflow nor underflow."""
    exponent = int(np.frexp(np.abs(x).max())[1])
    return np.ldexp(x, -exponent), exponent


def _estimate_in_original_scale(
    value: float, low: float, high: float, n: int, method: str, confidence: float, exponent: int
) -> IntervalEstimate:
    ends = (min(low, value), value, max(high, value))
    low, value, high = (float(np.ldexp(endpoint, exponent)) for endpoint in ends)
    return IntervalEstimate(value, low, high, n, method, confidence)
