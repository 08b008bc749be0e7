"""Statistics of replicates, and the parts of intervals of means and medians."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from jaxtyping import Float

Statistic = Literal["mean", "median", "rms", "sd"]
STATISTICS: tuple[Statistic, ...] = ("mean", "median", "rms", "sd")

ReplicateValues = Float[np.ndarray, " replicate"]


def compute_statistic(x: ReplicateValues, statistic: Statistic) -> float:
    """Mean, median, rms (root of the mean square) or sd (with n - 1; nan for one replicate).

    Equal replicates return their value to the last bit, which a sum over n would not.
    """
    if statistic == "sd":
        if len(x) == 1:
            return math.nan
        return 0.0 if is_constant(x) else float(x.std(ddof=1))
    if statistic == "rms":
        x = np.abs(x)
    if is_constant(x):
        return float(x[0])
    if statistic == "rms":
        return math.sqrt(float((x * x).mean()))
    return float(x.mean() if statistic == "mean" else np.median(x))


def median_interval(x: ReplicateValues, level: float) -> tuple[float, float, float]:
    """Innermost pair of order statistics with coverage `level`; minimum and maximum if none has.

    P(x_(k) <= median <= x_(n+1-k)) >= 1 - 2 P(Binomial(n, 1/2) < k), with equality for continuous
    distributions (David and Nagaraja 2003, Order Statistics, 7.1).

    Returns:
        The two order statistics and their coverage.
    """
    from scipy.special import bdtr

    n, ordered = len(x), np.sort(x)
    covered = 1.0 - 2.0 * bdtr(np.arange(n // 2), n, 0.5)
    rank = max(1, int((covered >= level).sum()))
    return float(ordered[rank - 1]), float(ordered[n - rank]), float(covered[rank - 1])


def t_quantile(n: int, level: float) -> float:
    """Upper quantile of Student's t with n - 1 degrees of freedom, for a two-sided level."""
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, 0.5 + level / 2.0))


def t_margin(
    x: Float[np.ndarray, "replicate *column"], level: float
) -> Float[np.ndarray, "*column"] | float:
    """Half the length of Student's t interval of a mean over replicates, or of several."""
    return t_quantile(len(x), level) * x.std(0, ddof=1) / math.sqrt(len(x))


def normal_quantile(level: float) -> float:
    """Upper quantile of the normal distribution, for a two-sided level."""
    from scipy.special import ndtri

    return float(ndtri(0.5 + level / 2.0))


def is_binary(x: np.ndarray) -> bool:
    """Whether all entries are 0 or 1."""
    return bool(np.isin(x, (0.0, 1.0)).all())


def is_constant(x: np.ndarray) -> bool:
    """Whether all entries are equal."""
    return bool((x == x[0]).all())
