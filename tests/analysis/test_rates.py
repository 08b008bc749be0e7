"""The claim engine itself: how often `evaluate_claim` finds what is not there, and what is.

Each rate is a share of 2,000 independent small experiments with a fixed seed, held against the
rate that it should have by an exact binomial test at level 0.001.
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

EXPERIMENTS = 2_000
REPLICATES = 60
Noise = Callable[[np.ndarray], np.ndarray]

NOISES: dict[str, Noise] = {
    "normal": lambda z: z,
    "shifted": lambda z: z + 5.0,
    "skewed": lambda z: -log_ndtr(-z),  # exponential, mean 1
}


def arms(noise: str, replicates: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two arms that do not differ and share half of their noise: `[experiment, replicate]`."""
    z, e = np.random.default_rng(seed).standard_normal((2, EXPERIMENTS, replicates))
    other = 0.5 * z + np.sqrt(0.75) * e
    return NOISES[noise](z), NOISES[noise](other)


def differs(statistic: Statistic, relative: bool = False) -> Claim:
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


def held(of: Claim, a: np.ndarray, b: np.ndarray) -> int:
    return sum(evaluate_claim(of, x, y).status == "holds" for x, y in zip(a, b, strict=True))


def assert_rate(count: int, rate: float, trials: int = EXPERIMENTS) -> None:
    test = scipy.stats.binomtest(count, trials, rate)
    assert test.pvalue > 0.001, f"{count / trials:.4f} is not {rate:.4f}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("noise", "statistic", "relative"),
    [
        *((noise, statistic, False) for noise in ("normal", "skewed") for statistic in STATISTICS),
        *((noise, statistic, True) for noise in ("shifted", "skewed") for statistic in STATISTICS),
        ("normal", "rms", True),
    ],
)
def test_where_nothing_differs_a_difference_holds_in_one_of_twenty(
    noise: str, statistic: Statistic, relative: bool
) -> None:
    a, b = arms(noise, REPLICATES, seed=11)
    assert_rate(held(differs(statistic, relative), a, b), 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("statistic", STATISTICS)
def test_few_replicates_do_not_make_it_more(statistic: Statistic, relative: bool) -> None:
    """With ten the intervals of all but the mean are wide: fewer than one of twenty, not more."""
    a, b = (arm[:500] for arm in arms("skewed", 10, seed=12))
    count = held(differs(statistic, relative), a, b)
    assert scipy.stats.binomtest(count, 500, 0.05, alternative="greater").pvalue > 0.001


def test_one_arm_is_above_the_other_in_one_of_forty() -> None:
    above = Claim.model_validate({**differs("mean").model_dump(), "bound": {"above": 0.0}})
    a, b = arms("skewed", 20, seed=13)
    assert_rate(held(above, a, b), 0.025)
    assert_rate(held(above, b, a), 0.025)


@pytest.mark.parametrize("replicates", [6, 15, 50])
def test_a_median_differs_from_itself_as_often_as_it_says(replicates: int) -> None:
    """Order statistics cannot have every level: the one they have is exact, for any noise."""
    values = np.random.default_rng(14).exponential(size=(EXPERIMENTS, replicates))
    of = Claim.model_validate(
        {
            "statement": "the median is not what it is",
            "kind": "statistical",
            "metric": "drift",
            "statistic": "median",
            "bound": {"differs_from": float(np.log(2.0))},
        }
    )
    count = sum(evaluate_claim(of, x).status == "holds" for x in values)
    assert_rate(count, 1.0 - estimate(values[0], "median").confidence)


@pytest.mark.parametrize("effect", [0.3, 0.5, 0.8])
def test_an_effect_is_found_as_often_as_theory_says(effect: float) -> None:
    """The noncentral t of the paired difference, whose standard deviation is 1 here."""
    a, b = arms("shifted", 30, seed=15)
    power = TTestPower().power(effect, nobs=30, alpha=0.05)
    count = held(differs("mean"), a + effect, b)
    assert_rate(count, power)
    if effect == 0.5:  # Fieller is the same test
        assert held(differs("mean", relative=True), a + effect, b) == count


def test_a_difference_that_does_not_matter_is_denied() -> None:
    """With a smallest effect the claim fails where two one-sided tests at 2.5 % say so."""
    of = Claim.model_validate({**differs("mean").model_dump(), "smallest_effect": 0.5})
    a, b = arms("normal", 30, seed=16)
    verdicts = [evaluate_claim(of, x, y).status for x, y in zip(a, b, strict=True)]
    larger, smaller = (
        scipy.stats.ttest_rel(a, b + shift, axis=1, alternative=side).pvalue <= 0.025
        for shift, side in ((-0.5, "greater"), (0.5, "less"))
    )
    assert [v == "fails" for v in verdicts] == list(larger & smaller)
    assert 0.2 < verdicts.count("fails") / EXPERIMENTS < 0.8
