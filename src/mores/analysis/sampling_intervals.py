"""Intervals for what more replicates do not shorten: uncertain parameters, and respondents.

**Draws of uncertain parameters.** Each draw of the parameters gives one value, the mean over its
own replicates. A new draw lies between the l-th smallest and the l-th largest of K values with
probability 1 - 2 l / (K + 1), for any distribution (order statistics; Wilks 1941, Annals of
Mathematical Statistics 12, 91): with 39 draws, between the minimum and the maximum in 95 %. This is
exact for independent draws. Draws of a Latin hypercube are more even: the share was .950 to .975
over seven functions. The interval covers the metric at parameters anywhere in their ranges, and not
its average over the ranges. It does not shrink with more draws or replicates. It includes the Monte
Carlo noise of each mean, which makes it longer. Its ends are extreme draws, and so vary with the
seed.

**Resampled respondents.** A replicate whose people are a resample of the respondents, with
replacement, is one draw of the bootstrap (Efron 1979): metrics vary between replicates as between
surveys of that size, plus the Monte Carlo noise of a replicate. The interval therefore uses the
standard deviation over the replicates, not the error of their mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from mores.analysis.intervals import ROUNDING_TOLERANCE, IntervalEstimate
from mores.analysis.mean_intervals import (
    MIN_REPLICATES,
    no_spread,
    skewness_warning,
    too_few,
)
from mores.analysis.replicate_statistics import t_quantile


def interval_over_draws(
    values: Sequence[float] | Float[np.ndarray, " draw"], level: float
) -> IntervalEstimate:
    """Median over draws of the parameters, with a prediction interval for another draw.

    Args:
        values: one number per draw.
        level: probability that another draw lies in the interval.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    if bad := int((~np.isfinite(ordered)).sum()):
        return IntervalEstimate.undefined(n, f"{bad} of {n} draws not finite")
    rank = int(np.floor((n + 1) * (1.0 - level) / 2.0 + 1e-9))
    value = float(np.median(ordered))
    if rank < 1:
        return IntervalEstimate.unbounded(value, n, "too few draws of the parameters")
    low, high = float(ordered[rank - 1]), float(ordered[n - rank])
    return IntervalEstimate(value, low, high, n, "draws of uncertain parameters", level)


def effects_by_replicate(
    values: Float[np.ndarray, " replicate"],
    reference: Float[np.ndarray, " replicate"] | float | None,
    relative: bool,
) -> Float[np.ndarray, " replicate"]:
    """Values minus a reference; if `relative`, divided by it. inf or nan relative to zero."""
    values = np.asarray(values, dtype=np.float64)
    if reference is None:
        return values
    with np.errstate(divide="ignore", invalid="ignore"):
        effects = values - reference
        return effects / reference if relative else effects


def interval_over_resamples(
    values: Float[np.ndarray, " replicate"],
    reference: Float[np.ndarray, " replicate"] | float | None = None,
    relative: bool = False,
    level: float = 0.95,
    deterministic: bool = False,
) -> IntervalEstimate:
    """Mean over resamples of a value, or of its difference from a reference, with its interval.

    Args:
        values: one value per replicate, each with its own resample of the respondents.
        reference: the same resamples in another arm, or one number; it is subtracted.
        relative: divide by the reference, replicate by replicate.
        level: nominal coverage over surveys.
        deterministic: no random number was drawn: all resamples are equal for certain.
    """
    effects = effects_by_replicate(values, reference, relative)
    n = len(effects)
    if bad := int((~np.isfinite(effects)).sum()):
        return IntervalEstimate.undefined(n, f"{bad} of {n} replicates not finite")
    value = float(effects.mean())
    if n < 2:
        return IntervalEstimate.unbounded(value, n, "one resample has no spread")
    undecided = "" if n >= MIN_REPLICATES else too_few(n)
    if np.ptp(effects) <= ROUNDING_TOLERANCE * np.abs(effects).max():
        undecided = "" if deterministic else no_spread(n)
    inflation = (1.0 + 1.0 / n) ** 0.5  # the mean over n replicates has an error too
    with np.errstate(over="ignore"):  # infinite ends
        margin = t_quantile(n, level) * float(effects.std(ddof=1)) * inflation
    method = "standard deviation over resamples"
    warning = skewness_warning(effects)
    low, high = value - margin, value + margin
    return IntervalEstimate(value, low, high, n, method, level, undecided, warning)
