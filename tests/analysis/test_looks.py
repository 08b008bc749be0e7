"""Looks: levels, data that count as new, and the share of false claims over several looks."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import scipy.stats

from benchmarks import looks as benchmark
from benchmarks.coverage import make_claim
from mores.analysis.intervals import estimate
from mores.experiments.claims.claim_estimates import ClaimData
from mores.experiments.claims.looks import (
    current_look,
    data_digest,
    has_looks,
    largest_false_rate,
    level_at_look,
)
from mores.experiments.claims.several_claims import SMALLEST_ALPHA
from mores.experiments.claims.verdicts import evaluate_claim, evaluate_claim_over_draws
from mores.experiments.results.run_manifest import EarlierLook
from mores.experiments.scenario.specification import Claim

STATED = json.loads(benchmark.RESULTS.read_text())
ROWS = STATED["rows"]
SHARES = [row for row in ROWS if row["values"].startswith("share")]
LEARNED = make_claim("mean", above=0.0).model_copy(update={"kind": "learned", "ablation": "b"})


def test_levels() -> None:
    """Half of the alphas, the chance of a false claim with one bound, add up to .05."""
    assert [level_at_look(0.95, look) for look in (1, 2, 3)] == [0.95, 0.975, 0.9875]
    alphas = [1.0 - level_at_look(0.95, look) for look in range(1, 40)]
    assert sum(alphas) / 2.0 == pytest.approx(0.05)
    assert level_at_look(0.95, 1000) < 1.0
    one_side, both_sides = make_claim("mean", below=0.0), make_claim("mean", differs_from=0.0)
    assert largest_false_rate(one_side, 2) == pytest.approx(0.0375)
    assert [largest_false_rate(each, 60) for each in (one_side, both_sides)] == [0.05, 0.1]


# --- false claims ---------------------------------------------------------------------------------


@pytest.mark.parametrize("row", SHARES, ids=lambda row: f"{row['values']}-{row['sizes']}")
def test_false_claims_on_shares(row: dict[str, Any]) -> None:
    """Exact: with the levels of the looks never more than the sum of their shares."""
    p, sizes = float(row["values"].split()[1].rstrip(",")), benchmark.SIZES[row["sizes"]][:3]
    rates = benchmark.share_rates(p, sizes, row["rule"], row["claim"] == "above")
    assert rates == pytest.approx(row["rates"][:3], abs=1e-5)
    if row["rule"] == "by look":
        claim = make_claim("mean", above=0.0)
        for number, rate in enumerate(row["rates"], 1):
            assert rate <= largest_false_rate(claim, number)


@pytest.mark.parametrize("rule", benchmark.RULES)
@pytest.mark.parametrize("claim", ["above", "differs_from"])
def test_false_claims_on_means(rule: str, claim: str) -> None:
    """Simulated with another seed; the same interval at each look exceeds .05."""
    (stated,) = (
        row["rates"]
        for row in ROWS
        if row["values"] == "normal, Student's t"
        and (row["sizes"], row["rule"], row["claim"]) == ("16 more", rule, claim)
    )
    trials, two_sided = 4000, claim == "differs_from"
    found = benchmark.mean_rates(benchmark.SIZES["16 more"], rule, two_sided, trials, seed=5)
    for rate, other in zip(found, stated, strict=True):
        counts = np.array([rate * trials, other * STATED["trials"]]).round()
        others = np.array([trials, STATED["trials"]]) - counts
        test: Any = scipy.stats.fisher_exact(np.stack([counts, others]))
        assert test.pvalue > 0.001
    limit = largest_false_rate(make_claim("mean", **{claim: 0.0}), len(stated))
    assert (stated[-1] <= limit) == (rule == "by look")


def test_sizes_chosen_by_the_results() -> None:
    """The levels assume that they are not: the largest rates of an adversary are stated."""
    stated = {row["rule"]: row["rates"] for row in ROWS if "adversary" in row["sizes"]}
    for rule, rates in stated.items():
        assert benchmark.adversary_rates(rule, 2) == pytest.approx(rates[:2], abs=1e-5)
    assert 0.05 < stated["by look"][-1] < 0.07 < 0.15 < stated["naive"][-1]


# --- verdicts -------------------------------------------------------------------------------------


def test_the_interval_of_a_look() -> None:
    x = np.random.default_rng(1).normal(0.5, 1.0, 40)
    claim = make_claim("mean", above=0.0)
    for look in (1, 2, 5):
        found = evaluate_claim(claim, x, look=look).estimate
        expected = estimate(x, level=level_at_look(0.95, look))
        assert (found.low, found.high) == (expected.low, expected.high)
    below = float(estimate(x).low) - 1e-6  # between the ends of the first two looks
    claim = make_claim("mean", above=below)
    assert [evaluate_claim(claim, x, look=look).status for look in (1, 2)] == [
        "holds",
        "undecided",
    ]


def test_alphas_of_different_looks_can_be_compared() -> None:
    """At look k the alpha is 2^(k - 1) times that of the first: Holm takes both."""
    x = np.repeat([1.0, 0.0], [8, 42])
    claim = make_claim("mean", below=0.4)
    alphas = [evaluate_claim(claim, x, look=look).alpha for look in (1, 2, 3)]
    assert alphas[0] > SMALLEST_ALPHA
    assert alphas == pytest.approx([alphas[0], 2 * alphas[0], 4 * alphas[0]], rel=1e-3)


def test_medians_and_draws_need_more_at_a_later_look() -> None:
    """What n allows: six replicates have a median interval of 96.9 %; 39 draws support 95 %."""
    claim = make_claim("median", above=0.0)
    x = np.arange(1.0, 7.0)
    assert [evaluate_claim(claim, x, look=k).status for k in (1, 2)] == ["holds", "undecided"]
    over = make_claim("mean", above=0.0).model_copy(update={"interval": "parameters"})
    for n, statuses in ((39, ["holds", "undecided"]), (79, ["holds", "holds"])):
        draws = [ClaimData(np.array([1.0 + k / n])) for k in range(n)]
        found = [evaluate_claim_over_draws(over, draws, look=k).status for k in (1, 2)]
        assert found == statuses


def test_an_ablation_has_the_level_of_the_look() -> None:
    """The finding vanishes if the difference of the arms excludes 0, at that level."""
    rng = np.random.default_rng(3)
    own, ablated = rng.normal(2.0, 0.1, 20), rng.normal(0.0, 1.0, 20)
    found = evaluate_claim(LEARNED, own, ablation=ClaimData(ablated), look=2)
    expected = estimate(ablated, level=0.975)
    assert found.ablation_estimate is not None
    assert (found.ablation_estimate.low, found.ablation_estimate.high) == (
        expected.low,
        expected.high,
    )


# --- what counts as a look ------------------------------------------------------------------------


def test_claims_with_looks() -> None:
    assert has_looks(make_claim("mean", above=0.0)) and has_looks(LEARNED)
    exact = make_claim("mean", above=0.0).model_copy(update={"kind": "exact"})
    assert not has_looks(exact)
    assert not has_looks(Claim(statement="-", kind="report", metric="m"))


def test_data_that_change() -> None:
    """Other values, another reference or ablation; not more replicates of certain values."""
    x = np.array([1.0, 2.0])
    base = data_digest([(ClaimData(x), None)])
    assert base == data_digest([(ClaimData(x.copy()), None)])
    others = [
        [(ClaimData(np.append(x, 3.0)), None)],
        [(ClaimData(x, 0.5), None)],
        [(ClaimData(x, x), None)],
        [(ClaimData(x), ClaimData(x))],
        [(ClaimData(x), None), (ClaimData(x), None)],
    ]
    assert len({base, *map(data_digest, others)}) == 6
    for deterministic in (True, False):
        data = [ClaimData(np.full(n, 2.0), 1.0, None, deterministic) for n in (4, 9)]
        assert (data_digest([(data[0], None)]) == data_digest([(data[1], None)])) == deterministic


def test_numbers_of_looks() -> None:
    claim = make_claim("mean", above=0.0)
    values: dict[str, Any] = {"verdict": "holds", "n": 3, "estimate": 1.0, "low": 0.0, "high": 2.0}
    before = [EarlierLook(claim=index, look=look, data=data, **values)
              for index, look, data in ((0, 1, "a"), (1, 1, "c"), (0, 2, "b"))]  # fmt: skip
    assert current_look(claim, 0, "b", before).number == 2
    assert current_look(claim, 0, "d", before).number == 3
    assert len(current_look(claim, 0, "d", before).earlier) == 2
    assert current_look(claim, 2, "d", before).number == 1
    exact = claim.model_copy(update={"kind": "exact"})
    assert current_look(exact, 0, "d", before).number == 1
