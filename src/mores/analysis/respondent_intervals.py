"""Intervals that cover the choice of respondents, where every replicate drew them anew.

A replicate whose people are a resample of the respondents, with replacement, is one draw of the
bootstrap (Efron 1979): figures vary between replicates as they would between surveys of that size,
plus what chance adds within a replicate. The interval is therefore made from the *spread* of the
replicates; unlike an interval of their mean it does not shrink as replicates are added.
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
    """Mean over resamples of a figure, or of its difference from another, with its spread.

    Args:
        values: one figure a replicate, each with its own resample of the respondents.
        reference: what is taken off: the same resamples in another arm, or one number.
        relative: divide by it, replicate by replicate.
        level: share of surveys whose interval should cover the truth.
    """
    figures = np.asarray(values, dtype=np.float64)
    if reference is not None:
        figures = figures - reference
        if relative:
            with np.errstate(divide="ignore", invalid="ignore"):
                figures = figures / reference
    n = len(figures)
    if bad := int((~np.isfinite(figures)).sum()):
        return IntervalEstimate(
            np.nan, np.nan, np.nan, n, f"{bad} of {n} replicates not finite", np.nan
        )
    value = float(figures.mean())
    if n < 2:
        return IntervalEstimate(value, -np.inf, np.inf, n, "one resample has no spread", 1.0)
    chance = (1.0 + 1.0 / n) ** 0.5  # the centre, too, is known only as well as n replicates allow
    reach = t_quantile(n, level) * float(figures.std(ddof=1)) * chance
    return IntervalEstimate(
        value, value - reach, value + reach, n, "spread over resampled respondents"
    )
