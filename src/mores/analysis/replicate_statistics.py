"""Statistics of replicates: their values, and how far a mean or a median may be off."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

Statistic = Literal["mean", "median", "rms", "sd"]
STATISTICS: tuple[Statistic, ...] = ("mean", "median", "rms", "sd")

ReplicateValues = Float[np.ndarray, " replicate"]


class PairedEstimate(NamedTuple):
    """Two figures of the same replicates, and the covariance matrix of their errors."""

    first: float
    second: float
    first_variance: float
    covariance: float
    second_variance: float


class MedianInterval(NamedTuple):
    """Two order statistics, and how often they hold the median between them."""

    low: float
    high: float
    coverage: float


def compute_statistic(x: ReplicateValues, statistic: Statistic) -> float:
    """Mean, median, rms (root of the mean square) or sd (with n - 1; nan of one replicate).

    Equal replicates give their own value to the last bit, which a sum over n would not.
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


def pseudovalues(x: ReplicateValues, statistic: Statistic) -> ReplicateValues:
    """Numbers whose mean is the mean, the square of the rms, or the variance.

    For the variance these are its jackknife pseudo-values.
    """
    if statistic == "mean":
        return x
    if statistic == "rms":
        return x * x
    n = len(x)
    return (n * (x - x.mean()) ** 2 - x.var(ddof=1)) / (n - 2)


def paired_means(u: ReplicateValues, v: ReplicateValues) -> PairedEstimate:
    """The means of two columns of the same replicates."""
    (variance_u, covariance), (_, variance_v) = np.cov(u, v) / len(u)
    return PairedEstimate(
        float(u.mean()), float(v.mean()), float(variance_u), float(covariance), float(variance_v)
    )


def paired_medians(a: ReplicateValues, b: ReplicateValues) -> PairedEstimate:
    """The medians of two columns of the same replicates, after Bonett and Price 2020.

    Each error comes from order statistics. The covariance comes from the share of replicates that
    lie on the same side of both medians, drawn towards none as they do; a tie counts half.
    """
    middle_a, middle_b = float(np.median(a)), float(np.median(b))
    side_a, side_b = np.sign(a - middle_a), np.sign(b - middle_b)
    replicates = math.sqrt((side_a**2).sum() * (side_b**2).sum())
    alike = float((side_a * side_b).sum()) / (replicates + 1.0)
    error_a, error_b = median_standard_error(a), median_standard_error(b)
    return PairedEstimate(middle_a, middle_b, error_a**2, alike * error_a * error_b, error_b**2)


def median_standard_error(x: ReplicateValues) -> float:
    """Standard error of a median: the width of two order statistics over its normal quantiles.

    Price and Bonett 2001, J. Stat. Comput. Simul. 68, 295.
    """
    from scipy.special import bdtr, ndtri

    n, ordered = len(x), np.sort(x)
    rank = max(1, round(n / 2 - math.sqrt(n)))
    quantiles = -2.0 * ndtri(bdtr(rank - 1, n, 0.5))
    return float((ordered[n - rank] - ordered[rank - 1]) / quantiles)


def median_interval(x: ReplicateValues, level: float) -> MedianInterval:
    """The innermost pair of order statistics that holds the level; else the outermost there is.

    P(x_(k) <= median <= x_(n+1-k)) >= 1 - 2 P(Binomial(n, 1/2) < k), with equality where no two
    replicates can be equal (David and Nagaraja 2003, Order Statistics, 7.1).
    """
    from scipy.special import bdtr

    n, ordered = len(x), np.sort(x)
    held = 1.0 - 2.0 * bdtr(np.arange(n // 2), n, 0.5)
    rank = max(1, int((held >= level).sum()))
    return MedianInterval(float(ordered[rank - 1]), float(ordered[n - rank]), float(held[rank - 1]))


def wilson_interval(proportion: float, n: int, level: float) -> tuple[float, float]:
    """Wilson's interval of a share, which lies in [0, 1].

    It holds the shares p for which |share - p| <= z sqrt(p (1 - p) / n).
    """
    z = normal_quantile(level)
    shrink = 1.0 + z * z / n
    centre = (proportion + z * z / (2 * n)) / shrink
    reach = z * math.sqrt(proportion * (1.0 - proportion) / n + (z / (2 * n)) ** 2) / shrink
    return centre - reach, centre + reach


def t_quantile(n: int, level: float) -> float:
    """Upper quantile of Student's t with n - 1 degrees of freedom, for a two-sided level."""
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, 0.5 + level / 2.0))


def normal_quantile(level: float) -> float:
    """Upper quantile of the normal distribution, for a two-sided level."""
    from scipy.special import ndtri

    return float(ndtri(0.5 + level / 2.0))


def is_binary(x: np.ndarray) -> bool:
    """All entries are 0 or 1."""
    return bool(np.isin(x, (0.0, 1.0)).all())


def is_constant(x: np.ndarray) -> bool:
    """All entries are equal."""
    return bool((x == x[0]).all())
