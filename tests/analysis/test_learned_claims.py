"""Learned claims: the bound holds in the arm and not in the ablation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from mores.experiments.claims.claim_estimates import ClaimData, estimate_claim
from mores.experiments.claims.verdicts import (
    combine_verdicts,
    evaluate_claim,
    evaluate_claim_over_draws,
)
from mores.experiments.scenario.specification import Claim
from tests.refusals import check_message, refused

# Sixteen normal quantiles, scaled: the interval of the mean is 0 - 1.89587 to 0 + 1.85122.
SAMPLE = 3.5 * scipy.stats.norm.ppf((np.arange(16) + 0.5) / 16)
HIGH = 1.851222
REORDERED = SAMPLE[[9, 3, 14, 0, 7, 12, 2, 15, 5, 10, 8, 1, 13, 6, 11, 4]]  # nearly uncorrelated


def make_claim(**fields: Any) -> Claim:
    defaults = {"statement": "-", "kind": "learned", "metric": "m", "arm": "a", "ablation": "b"}
    return Claim.model_validate({**defaults, "bound": {"above": 0.0}, **fields})


def status_of(values: np.ndarray, ablated: np.ndarray, **fields: Any) -> str:
    return evaluate_claim(make_claim(**fields), values, ablation=ClaimData(ablated)).status


@pytest.mark.parametrize(
    ("values", "ablated", "status"),
    [
        (2.0 + SAMPLE, -2.0 + SAMPLE, "holds"),  # -3.83739 to -0.162614 is not above 0
        (9.0 + SAMPLE, 0.0 + REORDERED, "holds"),  # partly above 0, but the difference is
        (2.0 + SAMPLE, 1.5 + REORDERED, "undecided"),  # the difference is partly above 0
        (9.0 + SAMPLE, 2.0 + REORDERED, "fails"),  # the ablation is above 0, too
        (1.0 + SAMPLE, -9.0 + SAMPLE, "undecided"),  # partly above 0
        (-2.0 + SAMPLE, -9.0 + SAMPLE, "fails"),
        (2.0 + SAMPLE, 1.5 + 0.9 * SAMPLE, "holds"),  # paired: a difference of .5 +- .19
        (2.0 + SAMPLE, 1.5 + SAMPLE, "undecided"),  # the difference has no spread
        (2.0 + SAMPLE, np.append(SAMPLE[1:], math.nan), "fails"),
        (np.array([7.0]), np.array([-7.0]), "undecided"),  # no interval
    ],
)
def test_status_of_a_learned_claim(values, ablated, status) -> None:
    verdict = evaluate_claim(make_claim(), values, ablation=ClaimData(ablated))
    assert verdict.status == status, verdict.reason
    assert (verdict.alpha <= 0.05) == (status == "holds")
    check_message(verdict.reason)
    assert verdict.ablation_estimate is not None
    ablation = estimate_claim(make_claim(), ClaimData(ablated))
    assert (verdict.ablation_estimate.value, verdict.ablation_estimate.low) == pytest.approx(
        (ablation.value, ablation.low), nan_ok=True
    )


def test_both_arms_have_the_same_reference() -> None:
    """The ablation, too, is compared with the third arm of the claim."""
    twin = np.arange(16.0)
    learned = make_claim(compare_to="twin")
    verdict = evaluate_claim(
        learned, twin + 2.0 + SAMPLE, twin, ablation=ClaimData(twin - 2.0 + SAMPLE, twin)
    )
    assert verdict.ablation_estimate is not None
    assert verdict.ablation_estimate.value == pytest.approx(-2.0)
    assert verdict.estimate.high - 2.0 == pytest.approx(HIGH, abs=1e-5)
    assert verdict.status == "holds"
    with refused("missing", "ablation"):
        evaluate_claim(learned, twin, twin)
    report = Claim.model_validate({"statement": "so", "kind": "report", "metric": "m"})
    with refused("conflict", "ablation"):
        evaluate_claim(report, twin, ablation=ClaimData(twin))


def test_each_arm_has_its_own_analytic_value() -> None:
    """Within a tenth of the optimum, which differs in the ablation."""
    relative = make_claim(analytic="optimum", relative=True, bound={"within": (-0.1, 0.1)})
    values = 10.0 + 0.1 * SAMPLE

    def status(ablation_values: np.ndarray, optimum: float) -> str:
        ablation = ClaimData(ablation_values, optimum)
        return evaluate_claim(relative, values, 10.0, ablation=ablation).status

    assert status(values / 2, 10.0) == "holds"
    assert status(values / 2, 5.0) == "fails"  # the ablation is optimal, too
    assert status(0.9 * values, 10.0) == "holds"  # at the bound, and clearly below the arm
    absolute = make_claim(analytic="law", bound={"above": 0.0})
    ablation = ClaimData(5.0 + REORDERED, 5.0)
    for shift, expected in ((2.0, "undecided"), (9.0, "holds")):
        verdict = evaluate_claim(absolute, shift + SAMPLE, 0.0, ablation=ablation)
        assert verdict.status == expected


@pytest.mark.parametrize("statistic", ["median", "rms", "sd"])
def test_other_statistics(statistic: str) -> None:
    rng = np.random.default_rng(4)
    values, ablated = 5.0 + 3.0 * rng.normal(size=60), 0.1 * rng.normal(size=60)
    assert status_of(values, ablated, statistic=statistic, bound={"above": 1.0}) == "holds"
    assert status_of(values, values[::-1], statistic=statistic, bound={"above": 1.0}) == "fails"


def test_over_uncertain_parameters() -> None:
    """Each arm has one value per draw; the ablation's values are compared with the arm's."""
    rng = np.random.default_rng(0)
    learned = make_claim(interval="parameters")

    def draws(level: float) -> list[ClaimData]:
        return [ClaimData(np.full(3, level + 0.1 * rng.normal())) for _ in range(39)]

    assert evaluate_claim_over_draws(learned, draws(3.0), draws(-3.0)).status == "holds"
    assert evaluate_claim_over_draws(learned, draws(3.0), draws(2.0)).status == "fails"
    assert evaluate_claim_over_draws(learned, draws(3.0), draws(0.0)).status == "holds"
    rising = [ClaimData(np.full(3, x)) for x in np.linspace(0.1, 0.7, 39)]
    falling = [ClaimData(np.full(3, x)) for x in np.linspace(0.5, -0.1, 39)]
    verdict = evaluate_claim_over_draws(learned, rising, falling)
    assert verdict.status == "undecided"
    check_message(verdict.reason)


def test_combined_verdict_has_the_ablation_of_the_deciding_point() -> None:
    holds = evaluate_claim(make_claim(), 2.0 + SAMPLE, ablation=ClaimData(-3.0 + SAMPLE))
    fails = evaluate_claim(make_claim(), 2.0 + SAMPLE, ablation=ClaimData(2.0 + SAMPLE))
    combined = combine_verdicts(make_claim(), [holds, fails])
    assert combined.status == "fails"
    assert combined.ablation_estimate is fails.ablation_estimate


SAMPLES = st.lists(st.floats(-20, 20), min_size=16, max_size=16).map(np.array)
SEVERITY = {"holds": 2, "undecided": 1, "fails": 0}


@given(SAMPLES, SAMPLES, st.floats(-5, 5))
def test_an_ablation_makes_no_claim_easier(values, ablated, x) -> None:
    bound = {"above": x}
    plain = Claim.model_validate(
        {"statement": "so", "kind": "statistical", "metric": "m", "bound": bound}
    )
    learned = SEVERITY[status_of(values, ablated, bound=bound)]
    assert learned <= SEVERITY[evaluate_claim(plain, values).status]


@given(SAMPLES, st.floats(-5, 5))
def test_equal_arms_are_not_learned(values, x) -> None:
    assert status_of(values, values, bound={"above": x}) != "holds"


def test_false_positive_rate_of_learned_claims() -> None:
    """At most 5 % where each arm satisfies the bound in half of 100 experiments (seed 3).

    The rate of the rule is 2 %; at most 8 of 100 pass with probability .999. Without the
    condition that the arms differ, a quarter would pass.
    """
    rng = np.random.default_rng(3)
    num_passed = num_without_rule = 0
    plain = Claim.model_validate(
        {"statement": "so", "kind": "statistical", "metric": "m", "bound": {"above": 0.0}}
    )
    for _ in range(100):
        values, ablated = 0.465 + rng.normal(size=(2, 20))
        num_passed += status_of(values, ablated) == "holds"
        num_without_rule += (
            evaluate_claim(plain, values).status == "holds" != evaluate_claim(plain, ablated).status
        )
    assert num_passed <= 8
    assert num_without_rule > 12


def test_a_learned_claim_has_the_larger_alpha_of_its_two_conditions() -> None:
    """Otherwise the adjustment would leave the ablation at 5 %."""
    rng = np.random.default_rng(5)
    values, noise = 0.5 + 0.2 * rng.normal(size=20), rng.normal(size=20)
    ablated = values - 0.4 - 0.7 * (noise - noise.mean())
    close = evaluate_claim(make_claim(), values, ablation=ClaimData(ablated))
    clear = evaluate_claim(make_claim(), values, ablation=ClaimData(values - 5.0 - noise))
    assert close.status == clear.status == "holds"
    assert clear.alpha < 1e-3 < close.alpha <= 0.05
