"""Holm's adjustment against statsmodels, and the smallest alpha at which a claim holds."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from benchmarks.coverage import make_claim
from mores.analysis.intervals import estimate
from mores.experiments.claims.several_claims import (
    SMALLEST_ALPHA,
    chance_of_luck,
    false_hold_rate,
    holm_adjusted,
    smallest_alpha,
)
from mores.experiments.claims.verdicts import evaluate_claim
from tests.cases import scaled


@settings(max_examples=scaled(40))
@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12))
def test_holms_adjustment(alphas: list[float]) -> None:
    expected = multipletests(alphas, method="holm")[1]
    assert holm_adjusted(alphas) == pytest.approx(expected)


def test_chance_that_one_of_several_false_claims_holds() -> None:
    """20 claims: .64, simulated with a standard error of .002; after the adjustment .05."""
    alphas = np.random.default_rng(1).uniform(size=(40_000, 20))
    assert chance_of_luck([0.05] * 20) == pytest.approx((alphas.min(1) <= 0.05).mean(), abs=0.01)
    adjusted = np.array([holm_adjusted(row.tolist()) for row in alphas[:4000]])
    any_holds = int((adjusted.min(1) <= 0.05).sum())
    assert scipy.stats.binomtest(any_holds, 4000, 1 - (1 - 0.05 / 20) ** 20).pvalue > 0.001


def test_rates_of_false_claims() -> None:
    """docs/explanation/intervals.md: .025, .0375, .04375 up to looks 1, 2, 3, twice two-sided."""
    above, differs = make_claim("mean", above=0.0), make_claim("mean", differs_from=0.0)
    rates = [false_hold_rate(above, k) for k in (1, 2, 3)]
    assert rates == pytest.approx([0.025, 0.0375, 0.04375])
    assert false_hold_rate(differs) == pytest.approx(0.05)


@pytest.mark.parametrize("bounds", [(0.0, 1.0), None])
def test_smallest_alpha_of_a_claim(bounds: tuple[float, float] | None) -> None:
    """The end of the interval of that level is the bound."""
    x = np.random.default_rng(2).uniform(size=30)
    claim = make_claim("mean", below=float(x.mean()) + 0.15)
    alpha = smallest_alpha(claim, functools.partial(_interval, x, bounds))
    assert 2.0 * SMALLEST_ALPHA < alpha < 0.05
    assert _interval(x, bounds, 1.0 - alpha).high == pytest.approx(x.mean() + 0.15, abs=1e-3)
    assert evaluate_claim(claim, x, bounds=bounds).alpha == pytest.approx(alpha)


def test_smallest_alpha_of_a_share_is_its_exact_test() -> None:
    """Twice the p-value of one side."""
    x = np.repeat([1.0, 0.0], [5, 35])
    p = scipy.stats.binomtest(5, 40, 0.3, alternative="less").pvalue
    verdict = evaluate_claim(make_claim("mean", below=0.3), x)
    assert verdict.alpha == pytest.approx(2.0 * p, rel=1e-4)


def test_claims_that_do_not_hold_have_alpha_1() -> None:
    x = np.random.default_rng(3).uniform(size=30)
    for bound in ({"above": 0.5}, {"above": 0.9}, {"below": 0.0}):
        assert evaluate_claim(make_claim("mean", **bound), x).alpha == 1.0
    surest = evaluate_claim(make_claim("mean", above=-10.0), x)
    assert surest.alpha == SMALLEST_ALPHA


def _interval(x: np.ndarray, bounds: tuple[float, float] | None, level: float):
    return estimate(x, level=level, bounds=bounds)
