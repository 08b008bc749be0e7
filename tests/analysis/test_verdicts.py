"""Verdicts: claims that hold, fail or are undecided, with reasons."""

from __future__ import annotations

import inspect
import math
import re
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from mores.analysis.intervals import IntervalEstimate, estimate
from mores.experiments.claims.claim_estimates import without_rounding_differences
from mores.experiments.claims.replicates_needed import replicates_needed
from mores.experiments.claims.verdicts import Verdict, combine_verdicts, evaluate_claim
from mores.experiments.scenario.specification import Claim
from tests.refusals import check_message, refused

# Sixteen normal quantiles. The low end is that of the bootstrap, the high end Student's t.
SAMPLE = 5.0 + 5.9 * scipy.stats.norm.ppf((np.arange(16) + 0.5) / 16)
LOW, HIGH = 1.804108, 8.120631
NUMBERS = st.floats(-20, 20)


def make_claim(kind: str = "statistical", effect: float = 0.0, **fields: Any) -> Claim:
    names = ("above", "below", "within", "differs_from")
    bound = {name: fields.pop(name) for name in names if name in fields}
    return Claim.model_validate(
        {
            "statement": "so it is",
            "kind": kind,
            "metric": "drift",
            "bound": bound or None,
            "smallest_effect": effect,
            **fields,
        }
    )


def status_of(claim: Claim, values: Any, *reference: Any) -> str:
    return evaluate_claim(claim, np.array(values, dtype=float), *reference).status


def test_interval_of_the_sample() -> None:
    interval = estimate(SAMPLE)
    assert (interval.low, interval.high) == pytest.approx((LOW, HIGH), abs=1e-6)
    assert interval.high == pytest.approx(scipy.stats.t.interval(
        0.95, 15, SAMPLE.mean(), scipy.stats.sem(SAMPLE))[1])  # fmt: skip


@pytest.mark.parametrize(
    ("status", "bound", "effect"),
    [
        ("holds", {"above": 1.8}, 0),
        ("undecided", {"above": 1.9}, 0),
        ("undecided", {"above": 8.1}, 0),
        ("fails", {"above": 8.2}, 0),
        ("holds", {"below": 8.2}, 0),
        ("undecided", {"below": 5}, 0),
        ("fails", {"below": 1.8}, 0),
        ("holds", {"within": (1.8, 8.2)}, 0),
        ("undecided", {"within": (1.9, 8.2)}, 0),
        ("undecided", {"within": (4, 6)}, 0),
        ("undecided", {"within": (8.1, 9)}, 0),
        ("fails", {"within": (8.2, 9)}, 0),
        ("fails", {"within": (0, 1.8)}, 0),
        ("holds", {"differs_from": 1.8}, 0),
        ("holds", {"differs_from": 8.2}, 0),
        ("undecided", {"differs_from": 5}, 0),
        ("holds", {"differs_from": 0.8}, 1),
        ("undecided", {"differs_from": 0.9}, 1),
        ("holds", {"differs_from": 9.2}, 1),
        ("undecided", {"differs_from": 5}, 3.1),
        ("fails", {"differs_from": 5}, 3.2),
        ("undecided", {"differs_from": 5.1}, 3.2),
    ],
)
def test_status_of_an_interval(status: str, bound: dict[str, Any], effect: float) -> None:
    assert status_of(make_claim(effect=effect, **bound), SAMPLE) == status


EQUAL_VALUES = [
    ("fails", {"above": 0}, 0),  # a value is not above itself
    ("fails", {"below": 0}, 0),
    ("holds", {"within": (0, 0)}, 0),
    ("holds", {"within": (0, 1)}, 0),
    ("fails", {"differs_from": 0}, 0),  # and does not differ from itself
    ("fails", {"differs_from": 0.5}, 0.5),
    ("holds", {"differs_from": 0.5}, 0.25),
    ("holds", {"above": -0.125}, 0),
    ("fails", {"within": (0.125, 1)}, 0),
]


@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("kind", ["statistical", "exact", "by_construction"])
@pytest.mark.parametrize(("status", "bound", "effect"), EQUAL_VALUES)
def test_equal_values_are_certain_only_without_random_numbers(
    kind: str, drawn: bool, status: str, bound: dict[str, Any], effect: float
) -> None:
    values = np.full(20, 0.3)
    claim = make_claim(kind, effect, compare_to="twin", **bound)
    verdict = evaluate_claim(claim, values, values, deterministic=not drawn)
    expected = "undecided" if drawn and kind != "exact" else status
    assert verdict.status == expected
    check_message(verdict.reason)


@pytest.mark.parametrize(
    ("status", "n", "bound"),
    [
        ("undecided", 8, {"below": 0.3}),  # 0 of 8 is [0, .37]
        ("holds", 8, {"below": 0.4}),
        ("undecided", 64, {"below": 0.05}),
        ("holds", 64, {"below": 0.06}),
        ("holds", 64, {"within": (0, 0.06)}),
        ("undecided", 64, {"within": (0, 0)}),
    ],
)
def test_equal_values_of_bounded_metrics(status: str, n: int, bound: dict[str, Any]) -> None:
    """An interval that allows for outcomes that did not occur decides."""
    verdict = evaluate_claim(make_claim(**bound), np.zeros(n), bounds=(0.0, 1.0))
    assert verdict.status == status
    if "below" in bound:
        above = make_claim(above=-bound["below"])
        assert evaluate_claim(above, np.zeros(n), bounds=(-1.0, 0.0)).status == status


def test_few_values_of_unknown_shape_are_undecided() -> None:
    verdict = evaluate_claim(make_claim(above=0), 5.0 + SAMPLE[:15])
    assert verdict.status == "undecided"
    check_message(verdict.reason)
    assert status_of(make_claim(above=0), 5.0 + SAMPLE) == "holds"
    answers = np.array([0.0, 0.0, 1.0, 0.0])
    assert status_of(make_claim(below=0.9), answers) == "undecided"
    share = evaluate_claim(make_claim(below=0.9), answers, bounds=(0.0, 1.0))
    assert (share.status, share.estimate.high) == ("holds", pytest.approx(0.8059, abs=1e-4))


def test_warnings_of_verdicts() -> None:
    """Skewed values; bounded differences that rest on the absence of rare outcomes."""
    skewed = evaluate_claim(make_claim(above=0), np.exp(SAMPLE / 5.0))
    assert skewed.status == "holds"
    check_message(skewed.warning)
    assert not evaluate_claim(make_claim(above=0), SAMPLE).warning
    claim, zeros = make_claim(above=0, compare_to="twin"), np.zeros(16)
    small = evaluate_claim(claim, 0.03 + SAMPLE / 1000.0, zeros, bounds=(0.0, 1.0))
    assert small.status == "holds"
    check_message(small.warning)
    large = evaluate_claim(claim, 0.5 + SAMPLE / 1000.0, zeros, bounds=(0.0, 1.0))
    assert large.status == "holds" and not large.warning
    level = evaluate_claim(make_claim(above=0.4), 0.5 + SAMPLE / 1000.0, bounds=(0.0, 1.0))
    assert level.status == "holds" and not level.warning
    level = evaluate_claim(make_claim(above=0.45), 0.5 + SAMPLE / 1000.0, bounds=(0.0, 1.0))
    assert level.status == "undecided"


def test_exact_claims_require_every_replicate() -> None:
    verdict = evaluate_claim(make_claim("exact", within=(0, 1)), np.array([0.0, 0.5, 1.0]))
    assert (verdict.status, verdict.estimate.low, verdict.estimate.high) == ("holds", 0.0, 1.0)
    check_message(verdict.estimate.method)
    verdict = evaluate_claim(make_claim("exact", within=(0, 1)), np.array([0.0, 0.5, 1.1, 1.5]))
    assert verdict.status == "fails"
    check_message(verdict.reason)  # 2 of 4, and one of them has 1.5
    # Values on both sides: every replicate differs, although an interval contains the value.
    assert status_of(make_claim("exact", 0.5, differs_from=0), [-1, 1, 2]) == "holds"
    assert status_of(make_claim("exact", 0.5, differs_from=0), [-1, 0.5, 2]) == "fails"
    assert status_of(make_claim("exact", above=0), [1]) == "holds"


def test_exact_claims_compare_by_replicate() -> None:
    relative = make_claim("exact", compare_to="twin", relative=True, within=(0.5, 0.5))
    assert status_of(relative, [3.0, -3.0, 6.0], np.array([2.0, -2.0, 4.0])) == "holds"
    assert status_of(relative, [3.0, 3.0], np.array([2.0, 0.0])) == "fails"
    analytic = make_claim("exact", analytic="law", relative=True, within=(-0.25, -0.25))
    assert status_of(analytic, [3.0, 3.0], 4.0) == "holds"
    assert status_of(analytic, [3.0, 3.0], 0.0) == "fails"


def test_an_infinite_value_is_no_rounding_difference() -> None:
    values, reference = np.array([1.0, 5.0, 3.0]), np.array([1.0, math.inf, 2.0])
    for other in (reference, -reference):
        np.testing.assert_array_equal(without_rounding_differences(other, values), other)
        np.testing.assert_array_equal(without_rounding_differences(values, other), values)


@pytest.mark.parametrize("kind", ["statistical", "exact", "by_construction"])
def test_non_finite_values_fail(kind: str) -> None:
    claim = make_claim(kind, within=(-1e300, 1e300), compare_to="twin")
    verdict = evaluate_claim(claim, np.array([1.0, math.nan, 2.0]), np.array([math.inf, 1.0, 1.0]))
    assert verdict.status == "fails"
    check_message(verdict.reason)  # 2 of 3
    assert math.isnan(verdict.estimate.value)


def test_too_few_replicates_are_undecided() -> None:
    verdict = evaluate_claim(make_claim(above=0), np.array([7.0]))
    assert verdict.status == "undecided"
    check_message(verdict.reason)
    verdict = evaluate_claim(make_claim("report"), np.array([7.0]))
    check_message(verdict.reason)
    values = np.arange(1.0, 6.0)
    verdict = evaluate_claim(make_claim(above=0, statistic="median"), values)
    assert verdict.status == "undecided"
    check_message(verdict.reason)
    assert status_of(make_claim(above=0, statistic="median"), np.arange(1.0, 7.0)) == "holds"
    assert status_of(make_claim(below=0, statistic="median"), values) == "undecided"


def test_interval_over_respondents_does_not_shrink() -> None:
    """Each replicate is one resampled survey: more replicates do not increase its precision."""
    spread = float(SAMPLE.std())
    verdict = evaluate_claim(make_claim(above=-8, interval="people"), np.tile(SAMPLE, 100))
    assert verdict.status == "holds"
    assert verdict.estimate.low == pytest.approx(5 - 1.962 * spread, abs=0.01)
    verdict = evaluate_claim(make_claim(above=2, interval="people"), np.tile(SAMPLE, 100))
    assert verdict.status == "undecided"
    check_message(verdict.reason)


def test_reports_have_no_verdict() -> None:
    verdict = evaluate_claim(make_claim("report"), SAMPLE)
    assert verdict.status == "report"
    check_message(verdict.reason)  # 1.80411 to 8.12063
    assert status_of(make_claim("report"), [math.nan, 1.0]) == "report"


def test_missing_references() -> None:
    with refused("missing", "compare_to"):
        evaluate_claim(make_claim(above=0, compare_to="twin"), SAMPLE)
    with refused("conflict", "analytic"):
        evaluate_claim(make_claim(above=0), SAMPLE, 1.0)
    exact = make_claim("exact", above=0, compare_to="b")
    with refused("wrong_shape", "compare_to"):
        inspect.unwrap(evaluate_claim)(exact, np.ones(3), np.ones(2))


def test_reasons_are_sentences_with_numbers() -> None:
    for claim, numbers in [
        (make_claim(above=1), "95 1.80411 8.12063 1"),
        (make_claim(effect=4, differs_from=5), "95 1.80411 8.12063 4 5"),
        (make_claim(within=(0, 6)), "95 1.80411 8.12063 0 6 160"),
    ]:
        reason = evaluate_claim(claim, SAMPLE).reason
        assert re.findall(r"[0-9.]+", reason) == numbers.split()
        check_message(reason)


@pytest.mark.parametrize(
    ("fields", "value", "expected"),
    [
        ({"above": 0.0}, 0.5, 80),  # half of the half-width: four times the number
        ({"below": 0.0}, -0.5, 80),
        ({"above": 0.0}, -0.5, 80),
        ({"within": (0.0, 1.2)}, 0.8, 130),  # the nearer end
        ({"differs_from": 0.0, "effect": 0.5}, 1.0, 80),
        ({"above": 0.0}, 0.99, 21),
        ({"above": 0.0}, 0.05, 8000),
        ({"above": 0.0}, 0.04, None),
        ({"above": 0.0}, 0.0, None),
        ({"above": 0.0, "statistic": "median"}, 0.5, None),
        ({"above": 0.0, "interval": "people"}, 0.5, None),
    ],
)
def test_number_of_replicates_that_would_decide(
    fields: dict[str, Any], value: float, expected: int | None
) -> None:
    """Of 20 replicates, with an interval of half-width 1."""
    claim = make_claim(**fields)
    found = IntervalEstimate(value, value - 1.0, value + 1.0, 20, "t")
    assert replicates_needed(claim, found) == expected


# --- over a sweep -------------------------------------------------------------------------------


def point_verdicts(claim: Claim, *values: float | str) -> list[Verdict]:
    """One verdict per value: of a constant for a number, of a sample for a string."""
    samples = (
        SAMPLE - 5 + float(v) if isinstance(v, str) else np.full(2, float(v)) for v in values
    )
    return [evaluate_claim(claim, sample, deterministic=True) for sample in samples]


@pytest.mark.parametrize(
    ("bound", "values", "status", "expected"),
    [
        ({"above": 0}, [3, 1, 2], "holds", 1),
        ({"above": 0}, [3, "1", 2], "undecided", 1),
        ({"above": 0}, [3, -1, "1", -2, 2], "fails", -2),
        ({"below": 0}, [-3, -1, -2], "holds", -1),
        ({"below": 0}, [5, 7, -2], "fails", 7),
        ({"within": (0, 10)}, [5, 9, 3], "holds", 9),
        ({"within": (0, 10)}, [12, -3, 5], "fails", -3),
        ({"differs_from": 5}, [1, 7, 9], "holds", 7),
        ({"differs_from": 5}, [5, 7, 9], "fails", 5),
        ({"above": 0}, [2, 1, 1], "holds", 1),
    ],
)
def test_sweep_claims_require_every_point(
    bound: dict[str, Any], values: list[Any], status: str, expected: float
) -> None:
    claim = make_claim(**bound)
    combined = combine_verdicts(claim, point_verdicts(claim, *values))
    assert (combined.status, combined.num_points) == (status, len(values))
    assert combined.estimate.value == pytest.approx(expected)
    check_message(combined.reason)


def test_non_finite_points_decide_a_sweep() -> None:
    claim = make_claim(above=0)
    combined = combine_verdicts(claim, point_verdicts(claim, 1, -4, math.nan))
    assert combined.status == "fails" and math.isnan(combined.estimate.value)


def test_sweeps_of_reports_and_empty_sweeps() -> None:
    claim = make_claim("report")
    combined = combine_verdicts(claim, point_verdicts(claim, 3, 1, 2))
    assert combined.status == "report"
    check_message(combined.reason)  # from 1 to 3, over 3
    lacking = combine_verdicts(claim, point_verdicts(claim, 3, math.nan, 2))
    assert (lacking.status, lacking.range) == ("report", (2, 3))
    check_message(lacking.reason)  # at 1 of 3
    check_message(lacking.at_points[1].reason)  # how many replicates
    with refused("missing", "verdicts"):
        combine_verdicts(claim, [])


# --- properties ---------------------------------------------------------------------------------

SAMPLES = st.lists(NUMBERS, min_size=2, max_size=20).map(np.array)
SEVERITY = {"holds": 2, "undecided": 1, "fails": 0}


@given(SAMPLES, NUMBERS, st.floats(0, 10), st.sampled_from(["mean", "median", "rms", "sd"]))
def test_a_stricter_bound_is_not_easier(values, x, slack, statistic) -> None:
    def severity(**bound: Any) -> int:
        return SEVERITY[status_of(make_claim(statistic=statistic, **bound), values)]

    assert severity(above=x + slack) <= severity(above=x)
    assert severity(below=x - slack) <= severity(below=x)
    assert severity(within=(x, x + 1)) <= severity(within=(x - slack, x + 1 + slack))
    assert severity(differs_from=x, effect=slack) <= severity(differs_from=x)


@given(SAMPLES, NUMBERS, st.sampled_from(["statistical", "exact"]))
def test_opposite_claims_do_not_both_hold(values, x, kind) -> None:
    claims = (make_claim(kind, above=x), make_claim(kind, below=x))
    above, below = (status_of(claim, values) for claim in claims)
    if "holds" in (above, below):
        assert "fails" in (above, below)
    if kind == "statistical":
        different = status_of(make_claim(kind, differs_from=x), values)
        assert (different == "holds") == ("holds" in (above, below))
