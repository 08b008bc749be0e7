"""Intervals over resampled respondents cover the population value; intervals of means do not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mores.analysis.intervals import estimate
from mores.analysis.sampling_intervals import interval_over_resamples
from mores.experiments.claims.verdicts import evaluate_claim
from mores.experiments.scenario.specification import Bound, Claim

SURVEYS, RESPONDENTS, REPLICATES = 300, 200, 40


def _surveys(seed: int) -> np.ndarray:
    """Means of resamples `[survey, replicate]` of surveys from a population with mean 0."""
    rng = np.random.default_rng(seed)
    answers = rng.standard_normal((SURVEYS, RESPONDENTS))
    indices = rng.integers(0, RESPONDENTS, (SURVEYS, REPLICATES, RESPONDENTS))
    return np.take_along_axis(answers[:, None], indices, 2).mean(2)


def test_coverage_of_the_population():
    means = _surveys(1)
    covered = sum(
        interval.low <= 0.0 <= interval.high for interval in map(interval_over_resamples, means)
    )
    assert stats.binomtest(covered, SURVEYS, 0.95).pvalue > 1e-3
    narrow_covered = sum(interval.low <= 0.0 <= interval.high for interval in map(estimate, means))
    assert narrow_covered < 0.5 * SURVEYS  # the interval of the replicates' mean


def test_more_replicates_do_not_shorten_the_interval():
    rng = np.random.default_rng(2)
    few, many = (interval_over_resamples(rng.standard_normal(n)) for n in (100, 10_000))
    assert many.high - many.low == pytest.approx(few.high - few.low, rel=0.2)


def test_claims_over_people_use_this_interval():
    claim = Claim(
        statement="x", kind="statistical", metric="x", interval="people", bound=Bound(above=0.0)
    )
    values = np.random.default_rng(3).standard_normal(400) + 0.5
    assert evaluate_claim(claim, values).status == "undecided"
    monte_carlo = claim.model_copy(update={"interval": "monte_carlo"})
    assert evaluate_claim(monte_carlo, values).status == "holds"


def test_references_are_subtracted_by_resample():
    values = np.array([1.0, 2.0, 4.0])
    interval = interval_over_resamples(values, 2 * values, relative=True)
    assert (interval.value, interval.low, interval.high) == (-0.5, -0.5, -0.5)
    assert np.isnan(interval_over_resamples(np.array([1.0, np.nan])).value)
    assert interval_over_resamples(values[:1]).high == np.inf
