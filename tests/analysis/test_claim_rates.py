"""False and true positive rates of `evaluate_claim`.

Each rate is a share of 150 to 2,000 independent small experiments with a fixed seed. An exact
binomial test at level 0.001 compares it with its nominal value.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from scipy.special import log_ndtr
from statsmodels.stats.power import TTestPower

from mores.analysis.intervals import estimate
from mores.analysis.replicate_statistics import STATISTICS, Statistic
from mores.experiments.claims.verdicts import evaluate_claim
from mores.experiments.scenario.specification import Claim

NUM_EXPERIMENTS = 2_000
NUM_REPLICATES = 60
NoiseTransform = Callable[[np.ndarray], np.ndarray]

NOISE_TRANSFORMS: dict[str, NoiseTransform] = {
    "normal": lambda z: z,
    "shifted": lambda z: z + 5.0,
    "skewed": lambda z: -log_ndtr(-z),  # exponential, mean 1
}


def sample_arms(noise: str, replicates: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two arms with equal distributions and correlation 0.5: `[experiment, replicate]`."""
    z, independent = np.random.default_rng(seed).standard_normal((2, NUM_EXPERIMENTS, replicates))
    correlated = 0.5 * z + np.sqrt(0.75) * independent
    return NOISE_TRANSFORMS[noise](z), NOISE_TRANSFORMS[noise](correlated)


def difference_claim(statistic: Statistic, relative: bool = False) -> Claim:
    return Claim.model_validate(
        {
            "statement": "the arms differ",
            "kind": "statistical",
            "metric": "drift",
            "compare_to": "twin",
            "statistic": statistic,
            "relative": relative,
            "bound": {"differs_from": 0.0},
        }
    )


def count_held(claim: Claim, a: np.ndarray, b: np.ndarray) -> int:
    return sum(evaluate_claim(claim, x, y).status == "holds" for x, y in zip(a, b, strict=True))


def assert_at_most(count: int, rate: float, trials: int = NUM_EXPERIMENTS) -> None:
    test = scipy.stats.binomtest(count, trials, rate, alternative="greater")
    assert test.pvalue > 0.001, f"{count / trials:.4f} is above {rate:.4f}"


def assert_rate(count: int, rate: float, trials: int = NUM_EXPERIMENTS) -> None:
    test = scipy.stats.binomtest(count, trials, rate)
    assert test.pvalue > 0.001, f"{count / trials:.4f} is not {rate:.4f}"


@pytest.mark.cut(6)
@pytest.mark.parametrize(
    ("noise", "statistic", "relative"),
    [
        *((noise, statistic, False) for noise in ("normal", "skewed") for statistic in STATISTICS),
        *((noise, statistic, True) for noise in ("shifted", "skewed") for statistic in STATISTICS),
        ("normal", "rms", True),
    ],
)
def test_false_positive_rate_of_a_difference(
    noise: str, statistic: Statistic, relative: bool
) -> None:
    """About 5 %; below it for means, whose interval is the wider of two."""
    trials = 250
    a, b = (arm[:trials] for arm in sample_arms(noise, NUM_REPLICATES, seed=11))
    count = count_held(difference_claim(statistic, relative), a, b)
    assert_at_most(count, 0.05, trials)
    test = scipy.stats.binomtest(count, trials, 0.03, alternative="less")
    assert test.pvalue > 0.001, f"{count / trials:.4f} is below .03"


@pytest.mark.cut(6)
@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("statistic", STATISTICS)
def test_false_positive_rate_with_16_replicates(statistic: Statistic, relative: bool) -> None:
    """With fewer replicates, no difference of values of unknown shape is decided."""
    a, b = (arm[:150] for arm in sample_arms("skewed", 16, seed=12))
    claim = difference_claim(statistic, relative)
    assert_at_most(count_held(claim, a, b), 0.05, 150)
    assert not count_held(claim, a[:30, :15], b[:30, :15] + 10.0)


@pytest.mark.full
def test_false_positive_rate_of_a_one_sided_claim_is_at_most_2_5_percent() -> None:
    above = Claim.model_validate({**difference_claim("mean").model_dump(), "bound": {"above": 0.0}})
    a, b = sample_arms("skewed", 20, seed=13)
    assert_at_most(count_held(above, a, b), 0.025)
    assert_at_most(count_held(above, b, a), 0.025)


@pytest.mark.parametrize("replicates", [6, 15, 50])
def test_false_positive_rate_of_a_median_is_its_stated_confidence(replicates: int) -> None:
    """Order statistics have only certain levels, which are exact for any distribution."""
    values = np.random.default_rng(14).exponential(size=(300, replicates))
    claim = Claim.model_validate(
        {
            "statement": "the median differs from itself",
            "kind": "statistical",
            "metric": "drift",
            "statistic": "median",
            "bound": {"differs_from": float(np.log(2.0))},
        }
    )
    count = sum(evaluate_claim(claim, x).status == "holds" for x in values)
    assert_rate(count, 1.0 - estimate(values[0], "median").confidence, 300)


@pytest.mark.cut(3)
@pytest.mark.parametrize("effect", [0.3, 0.5, 0.8])
def test_power_agrees_with_theory(effect: float) -> None:
    """Noncentral t of the paired difference, with standard deviation 1.

    Fieller's interval is this test; that of a difference is wider, at the cost of up to 4 % power.
    """
    a, b = (arm[:200] for arm in sample_arms("shifted", 30, seed=15))
    power = TTestPower().power(effect, nobs=30, alpha=0.05)
    relative = count_held(difference_claim("mean", relative=True), a + effect, b)
    assert_rate(relative, power, 200)
    count = count_held(difference_claim("mean"), a + effect, b)
    assert relative - 0.04 * 200 <= count <= relative


def test_equivalence_with_a_smallest_effect() -> None:
    """The claim fails only where two one-sided t-tests at 2.5 % reject, and in nearly all cases."""
    claim = Claim.model_validate({**difference_claim("mean").model_dump(), "smallest_effect": 0.5})
    a, b = (arm[:200] for arm in sample_arms("normal", 30, seed=16))
    fails = np.array(
        [evaluate_claim(claim, x, y).status == "fails" for x, y in zip(a, b, strict=True)]
    )
    above, below = (
        scipy.stats.ttest_rel(a, b + shift, axis=1, alternative=side).pvalue <= 0.025
        for shift, side in ((-0.5, "greater"), (0.5, "less"))
    )
    assert not (fails & ~(above & below)).any()
    assert 0.2 < fails.mean() <= (above & below).mean() < fails.mean() + 0.06
