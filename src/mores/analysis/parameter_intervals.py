"""Intervals that cover parameters nobody knows: the figure at points drawn from their ranges.

Each draw of the parameters gives one figure, the mean over the replicates played there, which no
other draw shares. A new draw lies between the l-th smallest and the l-th largest of K figures with
probability 1 - 2 l / (K + 1), whatever their distribution (order statistics; Wilks 1941, Annals of
Mathematical Statistics 12, 91): with 39 draws between the smallest and the largest in 95 %. That is
exact for independent draws; those of a Latin hypercube are more even, and the share was .950 to
.975 over seven functions. The interval says what the figure may be if the parameters are anywhere
in their ranges, and not what it is on average; it does not shrink as draws or replicates are
added. What chance adds to the mean of a few replicates is in it, and makes it longer. Its ends are
the most extreme draws: with others they lie elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from mores.analysis.intervals import IntervalEstimate


def interval_over_draws(
    values: Sequence[float] | Float[np.ndarray, " draw"], level: float
) -> IntervalEstimate:
    """The median of a figure over draws of the parameters, and where another draw would lie.

    Args:
        values: one number a draw.
        level: probability that a further draw lies in the interval.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    if bad := int((~np.isfinite(ordered)).sum()):
        return IntervalEstimate(np.nan, np.nan, np.nan, n, f"{bad} of {n} draws not finite", np.nan)
    from_the_end = int(np.floor((n + 1) * (1.0 - level) / 2.0 + 1e-9))
    value = float(np.median(ordered))
    if from_the_end < 1:
        return IntervalEstimate(value, -np.inf, np.inf, n, "too few draws of the parameters", 1.0)
    low, high = ordered[from_the_end - 1], ordered[n - from_the_end]
    return IntervalEstimate(
        value, float(low), float(high), n, "draws of uncertain parameters", level
    )
