"""Coverage of intervals against the tables in docs/explanation/intervals.md, with other seeds."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.special
import scipy.stats

from mores.analysis.intervals import IntervalEstimate, compare, estimate
from mores.analysis.replicate_statistics import Statistic

Sample = Callable[[np.random.Generator, int], np.ndarray]

SAMPLES: dict[str, tuple[Sample, dict[str, float]]] = {
    "normal": (lambda r, n: r.standard_normal(n), {"mean": 0.0, "rms": 1.0, "sd": 1.0}),
    "exponential": (
        lambda r, n: r.standard_exponential(n),
        {"mean": 1.0, "rms": math.sqrt(2.0), "sd": 1.0},
    ),
    "square": (
        lambda r, n: r.standard_normal(n) ** 2,
        {"mean": 1.0, "rms": math.sqrt(3.0), "sd": math.sqrt(2.0)},
    ),
}


def assert_covered(covered: int, trials: int, stated: float) -> None:
    test = scipy.stats.binomtest(covered, trials, stated)
    assert test.pvalue > 0.001, f"{covered / trials:.3f} covered, not {stated}"


def covers(interval: IntervalEstimate, truth: float) -> bool:
    return interval.low <= truth <= interval.high


@pytest.mark.cut(3)
@pytest.mark.parametrize(
    ("sample", "statistic", "n", "stated"),
    [
        ("normal", "mean", 10, 0.950),
        ("normal", "rms", 10, 0.933),
        ("normal", "sd", 10, 0.934),
        ("normal", "sd", 30, 0.937),
        ("normal", "sd", 100, 0.945),
        ("exponential", "mean", 30, 0.922),
        ("exponential", "rms", 30, 0.908),
        ("exponential", "sd", 30, 0.885),
        ("square", "mean", 30, 0.901),
        ("square", "rms", 30, 0.894),
        ("square", "sd", 30, 0.883),
    ],
)
def test_coverage_of_one_arm(sample: str, statistic: Statistic, n: int, stated: float) -> None:
    sampler, truths = SAMPLES[sample]
    rng, trials = np.random.default_rng([21, n]), 400
    estimates = (estimate(sampler(rng, n), statistic) for _ in range(trials))
    covered = sum(covers(result, truths[statistic]) for result in estimates)
    assert_covered(covered, trials, stated)


@pytest.mark.cut(3)
@pytest.mark.parametrize(
    ("statistic", "relative", "stated"),
    [
        ("mean", False, 0.938),
        ("median", False, 0.958),
        ("rms", False, 0.921),
        ("sd", False, 0.899),
        ("mean", True, 0.953),
        ("median", True, 0.965),
        ("rms", True, 0.964),
        ("sd", True, 0.957),
    ],
)
def test_coverage_of_two_arms(statistic: Statistic, relative: bool, stated: float) -> None:
    """Exponential arms with a normal copula of correlation 1/2, one scaled by 1.5."""
    truths = {"mean": 1.0, "median": math.log(2.0), "rms": math.sqrt(2.0), "sd": 1.0}
    truth = 0.5 if relative else 0.5 * truths[statistic]
    rng, trials, covered = np.random.default_rng(22), 400, 0
    for _ in range(trials):
        z, noise = rng.standard_normal((2, 30))
        a, b = (-scipy.special.log_ndtr(-x) for x in (0.5 * z + math.sqrt(0.75) * noise, z))
        covered += covers(compare(1.5 * a, b, statistic, relative), truth)
    assert_covered(covered, trials, stated)
