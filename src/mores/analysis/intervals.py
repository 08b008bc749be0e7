"""Estimates over replicates: a statistic with its interval.

The replicate is the independent unit of every interval here. A comparison of two arms is paired
by replicate: the statistic of one arm minus (or relative to) the statistic of the other. The
estimand thus depends on the distribution in each arm, and not on the random numbers that the arms
share; sharing them makes the interval shorter. For the mean, the estimand is the mean of the
differences; for the median it is not the median of the differences.

| statistic | one arm | difference of two arms | relative difference |
|---|---|---|---|
| mean | see `mean_intervals` | the same, of differences | Fieller |
| median | order statistics | Bonett and Price | Fieller, errors by Bonett and Price |
| rms, sd | studentized bootstrap | wider of jackknife t and bootstrap | Fieller of squares |
| rms of bounded values | Gaffke, of squares | as above | as above |

An interval supports no verdict (`undecided`) where all replicates are equal and the values have no
known bounds, since an outcome that occurred in none of n replicates may have a probability of up to
3.7 / n; and below 16 replicates, except of single medians, shares and bounded values, since the
shape of the values is unknown. Replicates that drew no random number are equal for certain.
docs/explanation/intervals.md has the measured coverage of each method and the rates of false
verdicts.

Sources: Clopper and Pearson 1934, Biometrika 26, 404; Gaffke 2005; Fieller 1954, J. R. Stat. Soc. B
16, 175; Efron 1982, The Jackknife, the Bootstrap and Other Resampling Plans; Bonett and Price 2020,
Br. J. Math. Stat. Psychol. 73, 333.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from mores.analysis import bootstrap, paired_intervals
from mores.analysis.bounded_mean import gaffke_interval
from mores.analysis.mean_intervals import (
    MIN_REPLICATES,
    mean_interval,
    no_spread,
    skewness_warning,
    too_few,
)
from mores.analysis.replicate_statistics import (
    STATISTICS,
    Statistic,
    compute_statistic,
    is_binary,
    is_constant,
    median_interval,
    t_margin,
)
from mores.core.errors import UserError, did_you_mean

ONE_REPLICATE = (-math.inf, math.inf, 1, "one replicate has no interval", 1.0)
MIN_REPLICATES_OF_SPREADS = 64  # below: an rms or sd has a warning
MAX_SKEWNESS_OF_SQUARES = 2.0  # of squares or squared deviations: above, too
LARGEST_BOUND = 1e150  # larger bounds have no finite square
BOUND_TOLERANCE = 1e-6  # of the range: rounding of float32 by which a value may be beyond a bound
ROUNDING_TOLERANCE = 1e-12  # of the size of the values: smaller differences are rounding


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
        undecided: why the interval supports no verdict; empty if it does.
        warning: why it may cover less than its level; empty if nothing is known against it.
        any_shape: ends of the interval for any values between their bounds, where it is another
            one: for differences of bounded values.
    """

    value: float
    low: float
    high: float
    n: int
    method: str
    confidence: float = 0.95
    undecided: str = ""
    warning: str = ""
    any_shape: tuple[float, float] | None = None

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
    values: Float[np.ndarray, " replicate"],
    statistic: Statistic = "mean",
    level: float = 0.95,
    bounds: tuple[float, float] | None = None,
    deterministic: bool = False,
    is_difference: bool = False,
) -> IntervalEstimate:
    """Statistic of the replicates with its interval.

    Args:
        values: one value per replicate.
        statistic: mean, median, rms (root of the mean square) or sd (with n - 1).
        level: nominal coverage of the interval, in (0, 1).
        bounds: smallest and largest possible value, if both exist. Ignored if a value is beyond.
        deterministic: no random number was drawn, so that all replicates are equal for certain.
        is_difference: the values are differences already, such as between points of a sweep.

    Raises:
        UserError: an unknown statistic, no values, or a level outside (0, 1).
    """
    original = _validate_values(values, statistic, level)
    if (nonfinite := _nonfinite_estimate(original)) is not None:
        return nonfinite
    bounds = _applicable_bounds(bounds, original)
    n, original = len(original), np.sort(original)  # sorted: replicate order must not matter
    x, exponent = _rescale(original)
    value = _unscaled(compute_statistic(x, statistic), exponent)
    magnitudes = np.abs(x) if statistic == "rms" else x
    if deterministic and is_constant(magnitudes):
        return _certain(value, n)
    if n == 1:
        return IntervalEstimate(value, *ONE_REPLICATE)
    if statistic == "mean":
        return _mean_estimate(value, original, x, exponent, level, bounds, is_difference)
    if statistic == "rms" and bounds is not None:
        return _bounded_rms_estimate(value, original, level, bounds)
    confidence, undecided, warning = level, "" if n >= MIN_REPLICATES else too_few(n), ""
    if statistic == "median":
        low, high, confidence = median_interval(x, level)
        undecided, method = "", "order statistics"
        if confidence < level:
            method = f"minimum to maximum, with {100 * confidence:.3g} % coverage"
    elif is_constant(magnitudes):
        low, high = (float(compute_statistic(x, statistic)),) * 2
        undecided, method = no_spread(n), f"equal in all {n} replicates"
    elif n < paired_intervals.MIN_REPLICATES_FOR_SPREAD:
        low, high, method = 0.0, math.inf, f"{n} replicates do not bound an {statistic}"
    else:
        low, high = bootstrap.rms_interval(x, statistic == "sd", level)
        method = "studentized bootstrap of the logarithm"
        if n > bootstrap.MAX_BOOTSTRAP_REPLICATES:
            method = "normal error of the logarithm"
        warning = _spread_warning(paired_intervals.pseudovalues(x, statistic), statistic)
    ends = (_unscaled(end, exponent) for end in (low, high))
    return _around(value, *ends, n, method, confidence, undecided, warning)


def compare(
    values: Float[np.ndarray, " replicate"],
    reference: Float[np.ndarray, " replicate"] | float,
    statistic: Statistic = "mean",
    relative: bool = False,
    level: float = 0.95,
    bounds: tuple[float, float] | None = None,
    deterministic: bool = False,
    is_difference: bool = False,
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
        bounds: smallest and largest possible value of both arms, if both exist. Ignored if a value
            is beyond.
        deterministic: no random number was drawn in either arm.
        is_difference: the values of an arm are differences already.

    Raises:
        UserError: as `estimate`, or arms of different size.
    """
    if not isinstance(reference, np.ndarray):
        of_arm = estimate(values, statistic, level, bounds, deterministic, is_difference)
        return _compare_with_constant(of_arm, float(reference), relative)
    a = _validate_values(values, statistic, level)
    b = _validate_values(reference, statistic, level, "reference")
    n = len(a)
    if len(b) != n:
        message = f"reference has {len(b)} replicates, values have {n}: they are compared in pairs"
        raise UserError(message, code="wrong_shape", path="reference")
    if (nonfinite := _nonfinite_estimate(a, b)) is not None:
        return nonfinite
    bounds = _applicable_bounds(bounds, a, b)
    if statistic == "rms":
        a, b = np.abs(a), np.abs(b)
    order = np.lexsort((b, a))  # sorted: replicate order must not matter
    original = a[order], b[order]
    (a, b), exponent = _rescale(np.stack(original))
    value_a, value_b = compute_statistic(a, statistic), compute_statistic(b, statistic)
    if relative and value_b == 0.0:
        return IntervalEstimate.undefined(n, "relative to zero")
    exponent = 0 if relative else exponent
    value = value_a / value_b - 1.0 if relative else value_a - value_b
    value = _unscaled(value, exponent)
    if deterministic and is_constant(a) and is_constant(b):
        return _certain(value, n)
    if n == 1:
        return IntervalEstimate(value, *ONE_REPLICATE)
    if statistic == "mean" and not relative:
        of_difference = None if bounds is None else (bounds[0] - bounds[1], bounds[1] - bounds[0])
        binary = is_binary(original[0]) and is_binary(original[1])
        scaled = _without_rounding(a - b, (a, b))
        with np.errstate(over="ignore"):  # read only where values are bounded
            differences = np.ldexp(scaled, exponent)
        return _mean_estimate(
            value, differences, scaled, exponent, level, of_difference, True, binary
        )
    undecided = "" if n >= MIN_REPLICATES else too_few(n)
    if (a == b).all():
        low, high, method = 0.0, 0.0, f"both arms equal in all {n} replicates"
    elif relative:
        low, high, method = paired_intervals.ratio_interval(a, b, statistic, level)
    else:
        low, high, method = paired_intervals.difference_interval(a, b, statistic, level)
    if math.isfinite(low) and high - low <= ROUNDING_TOLERANCE * (1.0 + abs(low)):
        undecided = no_spread(n)
    warning = "" if undecided else _comparison_warning(a, b, statistic, relative)
    ends = (_unscaled(end, exponent) for end in (low, high))
    return _around(value, *ends, n, method, level, undecided, warning)


def _comparison_warning(a: np.ndarray, b: np.ndarray, statistic: Statistic, relative: bool) -> str:
    """Warning of skewed values if the interval of a comparison is that of a mean of them."""
    if statistic == "median":
        return ""
    u, v = (paired_intervals.pseudovalues(x, statistic) for x in (a, b))
    if statistic == "mean":
        return skewness_warning(u - u.mean() / v.mean() * v)
    mean_u, mean_v = float(u.mean()), float(v.mean())
    if relative:
        slope = mean_u / mean_v if mean_v else 1.0
    else:  # the error of a root is that of its square over twice the root
        slope = math.sqrt(mean_u / mean_v) if mean_u > 0.0 and mean_v > 0.0 else 1.0
    return _spread_warning(u - slope * v, statistic)


def _spread_warning(squares: np.ndarray, statistic: Statistic) -> str:
    """Warning of an rms or sd; few squares do not show whether their distribution is skewed."""
    n = len(squares)
    if n >= MIN_REPLICATES_OF_SPREADS:
        return skewness_warning(squares, MAX_SKEWNESS_OF_SQUARES)
    return (
        f"an {statistic} of {n} replicates: the interval covers too rarely if values have a long "
        f"tail, which {MIN_REPLICATES_OF_SPREADS} replicates would show"
    )


def _bounded_rms_estimate(
    value: float, x: np.ndarray, level: float, bounds: tuple[float, float]
) -> IntervalEstimate:
    """Root of the mean of bounded squares: Gaffke."""
    squares = sorted(bound**2 for bound in bounds)
    smallest = 0.0 if bounds[0] < 0.0 < bounds[1] else squares[0]
    low, high = gaffke_interval(x**2, (smallest, squares[1]), level)
    method = f"Gaffke, for values from {bounds[0]:g} to {bounds[1]:g}, squared"
    return _around(value, math.sqrt(max(low, 0.0)), math.sqrt(high), len(x), method, level)


def _mean_estimate(
    value: float,
    original: np.ndarray,
    scaled: np.ndarray,
    exponent: int,
    level: float,
    bounds: tuple[float, float] | None,
    difference: bool = False,
    binary_arms: bool = False,
) -> IntervalEstimate:
    """Mean with its interval; of values that are not bounded in their scale without overflow."""
    if bounds is not None or binary_arms or (not difference and is_binary(original)):
        exponent = 0
        interval = mean_interval(
            original, level, bounds, difference=difference, binary_arms=binary_arms
        )
    else:
        interval = mean_interval(scaled, level, difference=difference)
    low, high = (_unscaled(end, exponent) for end in (interval.low, interval.high))
    n, method = len(original), interval.method
    found = _around(value, low, high, n, method, level, interval.undecided, interval.warning)
    return dataclasses.replace(found, any_shape=interval.any_shape)


def _unscaled(scaled: float, exponent: int) -> float:
    """A number times a power of two; infinite beyond the largest number."""
    with np.errstate(over="ignore"):
        return float(np.ldexp(scaled, exponent))


def _without_rounding(differences: np.ndarray, arms: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """The differences, made equal if they differ by rounding only."""
    size = max(np.abs(arm).max() for arm in arms)
    if np.ptp(differences) > ROUNDING_TOLERANCE * size:
        return differences
    return np.full_like(differences, np.median(differences))


def _certain(value: float, n: int) -> IntervalEstimate:
    method = f"equal in all {n} replicates, which drew no random number"
    return IntervalEstimate(value, value, value, n, method, 1.0)


def _around(value: float, low: float, high: float, *fields: Any) -> IntervalEstimate:
    """The estimate, with an interval that is not off the value by rounding."""
    return IntervalEstimate(value, min(low, value), max(high, value), *fields)


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


def _applicable_bounds(
    bounds: tuple[float, float] | None, *arms: np.ndarray
) -> tuple[float, float] | None:
    """The bounds, unless a value lies beyond them: wrong bounds support no interval."""
    if bounds is None or not -LARGEST_BOUND < bounds[0] < bounds[1] < LARGEST_BOUND:
        return None
    tolerance = BOUND_TOLERANCE * (bounds[1] - bounds[0])
    low, high = bounds[0] - tolerance, bounds[1] + tolerance
    return bounds if all(((x >= low) & (x <= high)).all() for x in arms) else None


def _nonfinite_estimate(*arms: np.ndarray) -> IntervalEstimate | None:
    """Estimate of nan if any replicate is not finite (dropping it would hide a failure)."""
    n = len(arms[0])
    bad = n - int(np.all([np.isfinite(x) for x in arms], axis=0).sum())
    if not bad:
        return None
    return IntervalEstimate.undefined(n, f"{bad} of {n} replicates not finite")


def _rescale(x: np.ndarray) -> tuple[np.ndarray, int]:
    """Values divided by a power of two, exactly, so that squares neither overflow nor underflow."""
    exponent = int(np.frexp(np.abs(x).max())[1])
    return np.ldexp(x, -exponent), exponent
