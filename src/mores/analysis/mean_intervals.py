"""Intervals of a mean over replicates: of shares, of bounded values, of values of unknown shape.

| values | mean of one arm | mean difference of two arms |
|---|---|---|
| 0 or 1 | Clopper and Pearson | Gaffke, from -1 to 1 |
| bounded | Gaffke | Gaffke below 16 replicates and if all are equal; else as below |
| others, fewer than 16 replicates | Student's t, supports no verdict | the same |
| others | wider end of Student's t and of the studentized bootstrap, on either side | the same |

Student's t covers too little for skewed values, the studentized bootstrap for heavy tails; their
wider ends cover at least as much as the better one. Both see only what the sample has: an outcome
that occurred in none of n replicates may have a probability of up to 3.7 / n (95 %). An interval
that allows for such outcomes is as long as 3.7 / n of the range of the values at least, so that no
small difference could ever be found: differences of bounded values therefore use the last row from
16 replicates on, and a verdict that Gaffke's interval does not support has a warning.
docs/explanation/intervals.md has the measured coverage.
"""

from __future__ import annotations

from typing import NamedTuple

from mores.analysis import bootstrap
from mores.analysis.bounded_mean import Ends, clopper_pearson_interval, gaffke_interval
from mores.analysis.replicate_statistics import (
    ReplicateValues,
    is_binary,
    is_constant,
    t_margin,
)

MIN_REPLICATES = 16  # below: the mean of values of unknown shape and without bounds is not decided
NOT_DECLARED = (
    "values 0 and 1 are taken for a share, and others that no replicate has would change the "
    "interval: the metric does not declare its bounds"
)
MAX_SKEWNESS = 0.8  # of a sample: above, an interval comes with a warning


class MeanInterval(NamedTuple):
    """Interval of a mean.

    Attributes:
        low, high: its ends.
        method: name of the method.
        undecided: why it supports no verdict; empty if it does.
        warning: why it may cover less than its level; empty if nothing is known against it.
        any_shape: ends of the interval for any values between the bounds, where it is another.
    """

    low: float
    high: float
    method: str
    undecided: str = ""
    warning: str = ""
    any_shape: Ends | None = None


def mean_interval(
    x: ReplicateValues,
    level: float,
    bounds: Ends | None = None,
    *,
    difference: bool = False,
    binary_arms: bool = False,
) -> MeanInterval:
    """Interval of the mean of at least two replicates: see the table above.

    Args:
        x: one value per replicate.
        level: nominal coverage.
        bounds: smallest and largest possible value; None: not known.
        difference: the values are differences of two arms.
        binary_arms: both of these arms have values 0 and 1 only.
    """
    n, constant = len(x), is_constant(x)
    undecided = warning = ""
    if bounds is None:
        undecided = no_spread(n) if constant else "" if n >= MIN_REPLICATES else too_few(n)
        warning = "" if undecided else NOT_DECLARED
    if not difference and is_binary(x) and bounds in (None, (0.0, 1.0)):
        ends = clopper_pearson_interval(int(x.sum()), n, level)
        return MeanInterval(*ends, "Clopper and Pearson, for values 0 and 1", undecided, warning)
    if binary_arms and not constant and bounds is None:
        ends = gaffke_interval(x, (-1.0, 1.0), level)
        return MeanInterval(*ends, "Gaffke, for values from -1 to 1", undecided, warning)
    use_bounds = not difference or binary_arms or constant or n < MIN_REPLICATES
    if bounds is not None and use_bounds:
        ends = gaffke_interval(x, bounds, level)
        return MeanInterval(*ends, f"Gaffke, for values from {bounds[0]:g} to {bounds[1]:g}")
    if constant:
        return MeanInterval(float(x[0]), float(x[0]), f"equal in all {n} replicates", undecided)
    mean, margin = float(x.mean()), float(t_margin(x, level))
    low, high = mean - margin, mean + margin
    if n < MIN_REPLICATES:
        return MeanInterval(low, high, "Student's t", undecided)
    resampled = bootstrap.mean_interval(x, level)
    low, high = min(low, resampled[0]), max(high, resampled[1])
    any_shape = None
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
        any_shape = gaffke_interval(x, bounds, level)
    method = "wider of Student's t and studentized bootstrap"
    return MeanInterval(low, high, method, "", skewness_warning(x), any_shape)


def skewness_warning(x: ReplicateValues, limit: float = MAX_SKEWNESS) -> str:
    """Warning if the values, whose mean an interval has, are skewed."""
    skew = skewness(x)
    if abs(skew) <= limit:
        return ""
    return f"skewed values (skewness {skew:.1f}): the interval may cover too rarely"


def no_spread(n: int) -> str:
    """Why equal replicates support no verdict."""
    return f"no spread in {n} replicates"


def too_few(n: int) -> str:
    """Why few replicates of a metric of unknown distribution support no verdict."""
    needed = f"needs at least {MIN_REPLICATES} replicates; there are {n}"
    return f"a verdict on a metric of unknown distribution {needed}"


def skewness(x: ReplicateValues) -> float:
    """Sample skewness: the third central moment over the 3/2th power of the second."""
    deviation = x - x.mean()
    second = float((deviation**2).mean())
    return float((deviation**3).mean()) / second**1.5 if second > 0.0 else 0.0
