"""Intervals that cover the choice of respondents, for replicates that resample the respondents.

A replicate whose people are a resample of the respondents, with replacement, is one draw of the
bootstrap (Efron 1979): metrics vary between replicates as between surveys of that size, plus the
Monte Carlo noise of a replicate. The interval therefore uses the standard deviation over the
replicates, not the error of their mean, and does not shrink with more replicates.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from mores.analysis.intervals import IntervalEstimate
from mores.analysis.replicate_statistics import t_quantile


def interval_over_resamples(
    values: Float[np.ndarray, " replicate"],
    reference: Float[np.ndarray, " replicate"] | float | None = None,
    relative: bool = False,
    level: float = 0.95,
) -> IntervalEstimate:
    """Mean over resamples of a value, or of its difference from a reference, with its interval.

    Args:
        values: one value per replicate, each with its own resample of the respondents.
        reference: the same resamples in another arm, or one number; it is subtracted.
        relative: divide by the reference, replicate by replicate.
        level: nominal coverage over surveys.
    """
    effects = np.asarray(values, dtype=np.float64)
    if reference is not None:
        effects = effects - reference
        if relative:
            with np.errstate(divide="ignore", invalid="ignore"):
                effects = effects / reference
    n = len(effects)
    if bad := int((~np.isfinite(effects)).sum()):
        return IntervalEstimate(
            np.nan, np.nan, np.nan, n, f"{bad} of {n} replicates not finite", np.nan
        )
    value = float(effects.mean())
    if n < 2:
        return IntervalEstimate(value, -np.inf, np.inf, n, "one resample has no spread", 1.0)
    inflation = (1.0 + 1.0 / n) ** 0.5  # the mean over n replicates has an error too
    margin = t_quantile(n, level) * float(effects.std(ddof=1)) * inflation
    return IntervalEstimate(
        value, value - margin, value + margin, n, "standard deviation over resamples"
    )
