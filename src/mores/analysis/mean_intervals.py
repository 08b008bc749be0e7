"""Intervals of a mean over replicates: of shares, of bounded values, of values of unknown shape.

| values | interval |
|---|---|
| all 0 or 1 | Clopper and Pearson |
| bounded, fewer than 16 replicates, or all equal | bounded mean (Gaffke) |
| fewer than 16 replicates | Student's t, which supports no verdict |
| others | the wider end of Student's t and of the studentized bootstrap, on either side |

Student's t covers too little for skewed values, the studentized bootstrap for heavy tails; their
wider ends cover at least as much as the better one. Both see only what the sample has: an outcome
that occurred in none of n replicates may have a probability of up to 3.7 / n (95 %).
docs/explanation/intervals.md has the measured coverage.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mores.analysis import bootstrap
from mores.analysis.replicate_statistics import (
    ReplicateValues,
    is_binary,
    is_constant,
    t_margin,
)

MIN_REPLICATES = 16  # below: the mean of values of unknown shape and without bounds is not decided
MAX_SKEWNESS = 1.5  # of a sample: above, an interval comes with a warning
NUM_WEIGHTS = 9_999  # draws of Gaffke's weights: (NUM_WEIGHTS + 1) * 0.025 is a whole rank
MAX_WEIGHTS_PER_BATCH = 2**21
SEED = 20_241_129

Ends = tuple[float, float]


def clopper_pearson_interval(successes: int, n: int, level: float) -> Ends:
    """Exact interval of a probability from the number of successes in n replicates.

    It covers at least its level for every probability: 0 of 8 gives [0, .37]. Clopper and Pearson
    1934, Biometrika 26, 404.
    """
    from scipy.special import betaincinv

    tail = (1.0 - level) / 2.0
    low = betaincinv(successes, n - successes + 1, tail) if successes else 0.0
    high = betaincinv(successes + 1, n - successes, 1.0 - tail) if successes < n else 1.0
    return float(low), float(high)


def bounded_mean_interval(x: ReplicateValues, bounds: Ends, level: float) -> Ends:
    """Interval of the mean of values between two bounds, without any assumption on their shape.

    The upper end is a quantile of the weighted mean of the values and the upper bound, with
    uniform (Dirichlet) weights over all n + 1; the lower end likewise. For values at the bounds it
    equals Clopper and Pearson's interval. Gaffke 2005; Learned-Miller and Thomas 2019,
    arXiv:1905.06208, with evidence that it covers at least its level, and no proof.
    """
    low, high = bounds
    ordered = np.clip(np.sort(x), low, high)
    extended = np.stack([np.append(ordered, low), np.append(ordered, high)], -1)
    means = np.sort(_weighted_means(extended), 0)
    rank = max(1, round((NUM_WEIGHTS + 1) * (1.0 - level) / 2.0))
    return float(means[rank - 1, 0]), float(means[NUM_WEIGHTS - rank, 1])


class MeanInterval(NamedTuple):
    """Interval of a mean.

    Attributes:
        low, high: its ends.
        method: name of the method.
        undecided: why it supports no verdict; empty if it does.
        warning: why it may cover less than its level; empty if nothing is known against it.
    """

    low: float
    high: float
    method: str
    undecided: str = ""
    warning: str = ""


def mean_interval(
    x: ReplicateValues, level: float, bounds: Ends | None = None, few_values: bool = False
) -> MeanInterval:
    """Interval of the mean of at least two replicates: see the table above.

    Args:
        x: one value per replicate.
        level: nominal coverage.
        bounds: smallest and largest possible value; None: not known.
        few_values: a difference of two outcomes, each 0 or 1.
    """
    n, constant = len(x), is_constant(x)
    undecided = no_spread(n) if constant and bounds is None else ""
    if not few_values and is_binary(x) and bounds in (None, (0.0, 1.0)):
        ends = clopper_pearson_interval(int(x.sum()), n, level)
        return MeanInterval(*ends, "Clopper and Pearson, for values 0 and 1", undecided)
    if few_values and not constant:
        bounds = bounds or (-1.0, 1.0)
    if bounds is not None and (constant or few_values or n < MIN_REPLICATES):
        ends = bounded_mean_interval(x, bounds, level)
        return MeanInterval(*ends, f"Gaffke, for values from {bounds[0]:g} to {bounds[1]:g}")
    mean = float(x.mean())
    if constant:
        return MeanInterval(float(x[0]), float(x[0]), f"equal in all {n} replicates", undecided)
    margin = float(t_margin(x, level))
    low, high = mean - margin, mean + margin
    if n < MIN_REPLICATES:
        return MeanInterval(low, high, "Student's t", too_few(n))
    resampled = bootstrap.mean_interval(x, level)
    low, high = min(low, resampled[0]), max(high, resampled[1])
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    skew, warning = skewness(x), ""
    if abs(skew) > MAX_SKEWNESS:
        warning = f"skewed values (skewness {skew:.1f}): the interval may cover too rarely"
    method = "wider of Student's t and studentized bootstrap"
    return MeanInterval(low, high, method, warning=warning)


def no_spread(n: int) -> str:
    """Why equal replicates support no verdict."""
    return f"no spread in {n} replicates"


def too_few(n: int) -> str:
    """Why few replicates of unknown shape support no verdict."""
    return f"{n} replicates are too few for values of unknown shape: {MIN_REPLICATES} are needed"


def skewness(x: ReplicateValues) -> float:
    """Sample skewness: the third central moment over the 3/2th power of the second."""
    deviation = x - x.mean()
    second = float((deviation**2).mean())
    return float((deviation**3).mean()) / second**1.5 if second > 0.0 else 0.0


def _weighted_means(values: Float[np.ndarray, "value column"]) -> Float[np.ndarray, "draw column"]:
    """Means with uniform random weights that sum to 1, the same weights for every sample."""
    generator = np.random.default_rng(SEED)
    size = max(1, MAX_WEIGHTS_PER_BATCH // len(values))
    batches = []
    for start in range(0, NUM_WEIGHTS, size):
        count = min(size, NUM_WEIGHTS - start)
        gaps = generator.standard_exponential((count, len(values)))
        batches.append(gaps @ values / gaps.sum(1, keepdims=True))
    return np.concatenate(batches)
