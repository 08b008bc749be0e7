"""Studentized bootstrap of a root mean square (rms, sd), for one arm and for paired arms.

Each resample draws the replicates with replacement. The deviation of its statistic is divided by
its own standard error: t* = (T* - T) / se*. The interval runs from T - se t*_(1-a/2) to
T - se t*_(a/2). For one arm, T is the log of the root, whose error hardly depends on its size.

Only moments up to the fourth enter, so all resamples are one matrix product: resampling counts of
each replicate times columns of powers. The counts depend only on n and a fixed seed, so equal
replicates always have equal intervals.

Sources: Efron 1982, The Jackknife, the Bootstrap and Other Resampling Plans, ch. 10;
Hall 1988, Ann. Stat. 16, 927.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from mores.analysis.replicate_statistics import normal_quantile

NUM_RESAMPLES = 9_999  # (NUM_RESAMPLES + 1) * 0.025 is a whole rank
SEED = 20_240_229
MAX_COUNTS_PER_BATCH = 2**21  # entries of the count matrix that are drawn at a time
MAX_SINGLE_THREAD_SIZE = 2**18  # BLAS splits larger products among threads, which costs more
MAX_BOOTSTRAP_REPLICATES = 2_000  # above: normal error without resampling
ROUNDING_TOLERANCE = 1e-12  # relative size below which a difference counts as rounding

Moments = Mapping[tuple[int, int], np.ndarray]  # E[x^i y^j] in each resample
StatisticWithError = tuple[np.ndarray, np.ndarray]  # statistic, standard error times sqrt(n)


def mean_interval(x: Float[np.ndarray, " replicate"], level: float) -> tuple[float, float]:
    """Interval of the mean of `x`; an end is infinite where many resamples have no spread.

    More than `MAX_BOOTSTRAP_REPLICATES` need no resampling: the normal error.
    """
    n, mean = len(x), float(x.mean())
    deviation, mirrored = np.sort(x - mean), np.sort(mean - x)
    if mirrored.tolist() > deviation.tolist():  # the interval of -x is exactly that of x, mirrored
        low, high = mean_interval(-x, level)
        return -high, -low
    error = math.sqrt(float((deviation**2).mean()))
    if n > MAX_BOOTSTRAP_REPLICATES:
        margin = error * normal_quantile(level) / math.sqrt(n)
        return mean - margin, mean + margin
    low, high = _quantiles(_studentized_means(deviation.tobytes()), level)
    return mean - error * high, mean - error * low


@functools.lru_cache(maxsize=4)
def _studentized_means(deviations: bytes) -> np.ndarray:
    """Mean over standard error of all resamples, sorted; kept for the next levels."""
    deviation = np.frombuffer(deviations)
    columns = np.stack([deviation, deviation**2]) / len(deviation)
    means, squares = _resampled_sums(columns, _resample_counts(len(deviation)))
    variance = squares - means**2
    errors = np.sqrt(np.where(variance > ROUNDING_TOLERANCE * squares, variance, 0.0))
    return _sorted_ratios(means, errors)


def rms_interval(
    x: Float[np.ndarray, " replicate"], centered: bool, level: float
) -> tuple[float, float]:
    """Interval of the root mean square of `x`; of its standard deviation if `centered`."""
    low, high = _studentized_interval(x, None, centered, level)
    scale = _bias_correction(len(x), centered)
    return scale * math.exp(low), scale * math.exp(high) if high < 700.0 else math.inf


def rms_difference_interval(
    x: Float[np.ndarray, " replicate"],
    y: Float[np.ndarray, " replicate"],
    centered: bool,
    level: float,
) -> tuple[float, float]:
    """Interval of rms(x) - rms(y), or sd(x) - sd(y) if `centered`, paired by replicate."""
    low, high = _studentized_interval(x, y, centered, level)
    scale = _bias_correction(len(x), centered)
    return scale * low, scale * high


def _bias_correction(n: int, centered: bool) -> float:
    return math.sqrt(n / (n - 1)) if centered else 1.0


def _studentized_interval(
    x: np.ndarray, y: np.ndarray | None, centered: bool, level: float
) -> tuple[float, float]:
    """Interval of the log of the rms of `x`, or of its difference from the rms of `y`."""
    n, statistic = len(x), _log_rms if y is None else _rms_difference
    if centered:  # the moments below then lose no digits to cancellation
        x, y = x - x.mean(), None if y is None else y - y.mean()
    (value,), (error,) = statistic(_moments(x, y, np.ones((n, 1)), centered))
    if error == 0.0:  # centered: two values in equal numbers, whose sd has no first-order error
        return (-math.inf, math.inf) if centered else (float(value), float(value))
    if n > MAX_BOOTSTRAP_REPLICATES:
        margin = error * normal_quantile(level) / math.sqrt(n)
        return float(value - margin), float(value + margin)
    ratios = _studentized_spreads(x.tobytes(), None if y is None else y.tobytes(), centered)
    low, high = _quantiles(ratios, level)
    return float(value - error * high), float(value - error * low)


@functools.lru_cache(maxsize=4)
def _studentized_spreads(x: bytes, y: bytes | None, centered: bool) -> np.ndarray:
    """As `_studentized_means`, of the log of the rms of `x`, or of its difference from `y`'s."""
    a, b = np.frombuffer(x), None if y is None else np.frombuffer(y)
    n, statistic = len(a), _log_rms if b is None else _rms_difference
    (value,), _ = statistic(_moments(a, b, np.ones((n, 1)), centered))
    values, errors = statistic(_moments(a, b, _resample_counts(n), centered))
    return _sorted_ratios(values - value, errors)


def _sorted_ratios(deviations: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Deviations of all resamples, each over its own standard error, sorted."""
    with np.errstate(divide="ignore", invalid="ignore"):
        # A resample of n copies of one replicate has no error: its t is infinite.
        return np.sort(np.where(errors > 0.0, deviations / errors, np.copysign(np.inf, deviations)))


def _quantiles(t: np.ndarray, level: float) -> tuple[float, float]:
    """Quantiles of sorted ratios."""
    rank = round((NUM_RESAMPLES + 1) * (1.0 - level) / 2.0)
    if rank < 1:  # more than so many resamples can tell
        return -math.inf, math.inf
    return float(t[rank - 1]), float(t[NUM_RESAMPLES - rank])


def _log_rms(m: Moments) -> StatisticWithError:
    with np.errstate(divide="ignore"):
        value = 0.5 * np.log(m[2, 0])
    variance = _safe_divide(_variance_of_squares(m[4, 0], m[2, 0]), m[2, 0] ** 2)
    return value, 0.5 * np.sqrt(variance)


def _rms_difference(m: Moments) -> StatisticWithError:
    rms_x, rms_y = np.sqrt(m[2, 0]), np.sqrt(m[0, 2])
    variance_sum = _safe_divide(_variance_of_squares(m[4, 0], m[2, 0]), m[2, 0])
    variance_sum += _safe_divide(_variance_of_squares(m[0, 4], m[0, 2]), m[0, 2])
    variance = variance_sum - 2.0 * _safe_divide(m[2, 2] - m[2, 0] * m[0, 2], rms_x * rms_y)
    variance = np.where(variance > ROUNDING_TOLERANCE * variance_sum, variance, 0.0)
    return rms_x - rms_y, 0.5 * np.sqrt(variance)


def _safe_divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient, or 0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0.0)


def _variance_of_squares(fourth: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Variance of squared deviations."""
    variance = fourth - second**2
    return np.where(variance > ROUNDING_TOLERANCE * fourth, variance, 0.0)


def _moments(x: np.ndarray, y: np.ndarray | None, counts: np.ndarray, centered: bool) -> Moments:
    """Second and fourth moments of resamples with these counts, `[resample]` each.

    If `centered`, the binomial theorem converts moments about zero to moments about the mean.
    """
    powers = [(2, 0), (4, 0)] + ([(1, 0), (3, 0)] if centered else [])
    if y is not None:
        powers += [(0, 2), (0, 4), (2, 2)]
        powers += [(0, 1), (0, 3), (1, 1), (2, 1), (1, 2)] if centered else []
    columns = np.stack([x**i if y is None else x**i * y**j for i, j in powers]) / len(x)
    m = dict(zip(powers, _resampled_sums(columns, counts), strict=True))
    if not centered:
        return m
    a, central = m[1, 0], {}
    central[2, 0], central[4, 0] = _central_moments(a, m[2, 0], m[3, 0], m[4, 0])
    if y is not None:
        b = m[0, 1]
        central[0, 2], central[0, 4] = _central_moments(b, m[0, 2], m[0, 3], m[0, 4])
        central[2, 2] = m[2, 2] - 2.0 * (b * m[2, 1] + a * m[1, 2]) + b * b * m[2, 0]
        central[2, 2] += a * a * m[0, 2] + a * b * (4.0 * m[1, 1] - 3.0 * a * b)
    return central


def _resampled_sums(columns: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Sums of the columns in each resample, `[column, resample]`."""
    size = max(1, MAX_SINGLE_THREAD_SIZE // columns.size)
    products = [columns @ counts[:, c : c + size] for c in range(0, counts.shape[1], size)]
    return np.concatenate(products, axis=1)


def _central_moments(
    mean: np.ndarray, second: np.ndarray, third: np.ndarray, fourth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    square = mean * mean
    central = second - square
    nonzero = central > ROUNDING_TOLERANCE * second  # else: n copies of one replicate
    fourth = fourth - 4.0 * mean * third + square * (6.0 * second - 3.0 * square)
    return np.where(nonzero, central, 0.0), np.where(nonzero, fourth, 0.0)


@functools.lru_cache(maxsize=2)
def _resample_counts(n: int) -> np.ndarray:
    """Number of copies of each of n replicates in each resample, `[replicate, resample]`.

    float64 for a small matrix, uint16 (a quarter of the memory) for a large one.
    """
    generator, batch_size = np.random.default_rng(SEED), max(1, MAX_COUNTS_PER_BATCH // n)
    is_small = n * NUM_RESAMPLES <= MAX_COUNTS_PER_BATCH
    counts = np.empty((NUM_RESAMPLES, n), np.float64 if is_small else np.uint16)
    for start in range(0, NUM_RESAMPLES, batch_size):
        batch = counts[start : start + batch_size]
        drawn = generator.integers(0, n, batch.shape) + n * np.arange(len(batch))[:, None]
        batch[:] = np.bincount(drawn.ravel(), minlength=batch.size).reshape(batch.shape)
    return counts.T
