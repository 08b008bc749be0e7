"""What holds, what fails, what stays undecided, and why."""

from __future__ import annotations

import inspect
import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mores.analysis.intervals import estimate
from mores.experiments.claims.verdicts import Verdict, combine_verdicts, evaluate_claim
from mores.experiments.scenario.specification import Claim
from tests.refusals import check_message, refused

# The interval of these four is 5 -+ 3.182 * 2 / 2.
SPREAD = np.array([5 - math.sqrt(3), 5 - math.sqrt(3), 5 + math.sqrt(3), 5 + math.sqrt(3)])
LOW, HIGH = 5 - 3.18244630528371, 5 + 3.18244630528371
NUMBERS = st.floats(-20, 20)


def claim(kind: str = "statistical", effect: float = 0.0, **rest: Any) -> Claim:
    names = ("above", "below", "within", "differs_from")
    bound = {name: rest.pop(name) for name in names if name in rest}
    return Claim.model_validate(
        {
            "statement": "so it is",
            "kind": kind,
            "metric": "drift",
            "bound": bound or None,
            "smallest_effect": effect,
            **rest,
        }
    )


def word(of: Claim, values: Any, *rest: Any) -> str:
    return evaluate_claim(of, np.array(values, dtype=float), *rest).status


def test_the_example_is_what_it_says() -> None:
    found = estimate(SPREAD)
    assert (found.low, found.high) == pytest.approx((LOW, HIGH))


@pytest.mark.parametrize(
    ("verdict", "bound", "effect"),
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
def test_an_interval_against_a_bound(verdict: str, bound: dict[str, Any], effect: float) -> None:
    assert word(claim(effect=effect, **bound), SPREAD) == verdict


@pytest.mark.parametrize("kind", ["statistical", "exact", "by_construction"])
@pytest.mark.parametrize(
    ("verdict", "bound", "effect"),
    [
        ("fails", {"above": 0}, 0),  # nothing is above itself
        ("fails", {"below": 0}, 0),
        ("holds", {"within": (0, 0)}, 0),
        ("holds", {"within": (0, 1)}, 0),
        ("fails", {"differs_from": 0}, 0),  # and nothing differs from itself
        ("fails", {"differs_from": 0.5}, 0.5),
        ("holds", {"differs_from": 0.5}, 0.25),
        ("holds", {"above": -0.125}, 0),
        ("fails", {"within": (0.125, 1)}, 0),
    ],
)
def test_without_spread_nothing_is_undecided(
    kind: str, verdict: str, bound: dict[str, Any], effect: float
) -> None:
    twins = np.array([0.3, 0.1, 0.7])
    assert word(claim(kind, effect, against="twin", **bound), twins, twins) == verdict


def test_an_exact_claim_asks_every_replicate() -> None:
    found = evaluate_claim(claim("exact", within=(0, 1)), np.array([0.0, 0.5, 1.0]))
    assert (found.status, found.estimate.low, found.estimate.high) == ("holds", 0.0, 1.0)
    check_message(found.estimate.method)
    found = evaluate_claim(claim("exact", within=(0, 1)), np.array([0.0, 0.5, 1.1, 1.5]))
    assert found.status == "fails"
    check_message(found.reason)  # 2 of 4, and one of them has 1.5
    # Some on either side: no interval would say so, but each replicate differs.
    assert word(claim("exact", 0.5, differs_from=0), [-1, 1, 2]) == "holds"
    assert word(claim("exact", 0.5, differs_from=0), [-1, 0.5, 2]) == "fails"
    assert word(claim("exact", above=0), [1]) == "holds"


def test_an_exact_claim_compares_replicate_by_replicate() -> None:
    relative = claim("exact", against="twin", relative=True, within=(0.5, 0.5))
    assert word(relative, [3.0, -3.0, 6.0], np.array([2.0, -2.0, 4.0])) == "holds"
    assert word(relative, [3.0, 3.0], np.array([2.0, 0.0])) == "fails"
    predicted = claim("exact", prediction="law", relative=True, within=(-0.25, -0.25))
    assert word(predicted, [3.0, 3.0], None, 4.0) == "holds"
    assert word(predicted, [3.0, 3.0], None, 0.0) == "fails"


@pytest.mark.parametrize("kind", ["statistical", "exact", "by_construction"])
def test_what_is_not_finite_does_not_pass(kind: str) -> None:
    of = claim(kind, within=(-1e300, 1e300), against="twin")
    found = evaluate_claim(of, np.array([1.0, math.nan, 2.0]), np.array([math.inf, 1.0, 1.0]))
    assert found.status == "fails"
    check_message(found.reason)  # 2 of 3
    assert math.isnan(found.estimate.value)


def test_too_few_replicates_decide_nothing() -> None:
    found = evaluate_claim(claim(above=0), np.array([7.0]))
    assert found.status == "undecided"
    check_message(found.reason)
    found = evaluate_claim(claim("report"), np.array([7.0]))
    check_message(found.reason)
    five = np.arange(1.0, 6.0)
    found = evaluate_claim(claim(above=0, statistic="median"), five)
    assert found.status == "undecided"
    check_message(found.reason)
    assert word(claim(above=0, statistic="median"), np.arange(1.0, 7.0)) == "holds"
    assert word(claim(below=0, statistic="median"), five) == "undecided"


def test_an_interval_over_respondents_is_as_wide_as_surveys_differ() -> None:
    """Each replicate is a survey drawn anew: more of them do not make one survey more precise."""
    found = evaluate_claim(claim(above=0, interval="people"), np.tile(SPREAD, 100))
    assert found.status == "holds"
    assert found.estimate.low == pytest.approx(5 - 1.966 * math.sqrt(3), abs=0.01)
    found = evaluate_claim(claim(above=2, interval="people"), np.tile(SPREAD, 100))
    assert found.status == "undecided"
    check_message(found.reason)


def test_a_report_has_no_verdict() -> None:
    found = evaluate_claim(claim("report"), SPREAD)
    assert found.status == "report"
    check_message(found.reason)  # 1.81755 to 8.18245
    assert word(claim("report"), [math.nan, 1.0]) == "report"


def test_what_it_is_compared_with_must_be_there() -> None:
    with refused("missing", "against"):
        evaluate_claim(claim(above=0, against="twin"), SPREAD)
    with refused("conflict", "prediction"):
        evaluate_claim(claim(above=0), SPREAD, None, 1.0)
    with refused("wrong_shape", "against"):
        inspect.unwrap(evaluate_claim)(claim("exact", above=0, against="b"), np.ones(3), np.ones(2))


def test_reasons_are_sentences_with_numbers() -> None:
    for of, numbers in [
        (claim(above=1), "95 1.81755 8.18245 1"),
        (claim(effect=4, differs_from=5), "95 1.81755 8.18245 4 5"),
        (claim(within=(0, 6)), "95 1.81755 8.18245 0 6"),
    ]:
        reason = evaluate_claim(of, SPREAD).reason
        assert re.findall(r"[0-9.]+", reason) == numbers.split()
        check_message(reason)


# --- over a sweep -------------------------------------------------------------------------------


def points(of: Claim, *values: float | str) -> list[Verdict]:
    """A point for each value: one without spread, or one with where it is written as a string."""
    return [
        evaluate_claim(
            of, SPREAD - 5 + float(v) if isinstance(v, str) else np.array([v, v], dtype=float)
        )
        for v in values
    ]


@pytest.mark.parametrize(
    ("bound", "values", "verdict", "shown"),
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
def test_a_sweep_needs_every_point(
    bound: dict[str, Any], values: list[Any], verdict: str, shown: float
) -> None:
    of = claim(**bound)
    found = combine_verdicts(of, points(of, *values))
    assert (found.status, found.num_points) == (verdict, len(values))
    assert found.estimate.value == pytest.approx(shown)
    check_message(found.reason)


def test_a_point_without_a_figure_decides_a_sweep() -> None:
    of = claim(above=0)
    found = combine_verdicts(of, points(of, 1, -4, math.nan))
    assert found.status == "fails" and math.isnan(found.estimate.value)


def test_a_sweep_of_reports_and_of_nothing() -> None:
    of = claim("report")
    found = combine_verdicts(of, points(of, 3, 1, 2))
    assert found.status == "report"
    check_message(found.reason)  # from 1 to 3, over 3
    with refused("missing", "verdicts"):
        combine_verdicts(of, [])


# --- properties ---------------------------------------------------------------------------------

SAMPLES = st.lists(NUMBERS, min_size=2, max_size=12).map(np.array)
SEVERITY = {"holds": 2, "undecided": 1, "fails": 0}


@given(SAMPLES, NUMBERS, st.floats(0, 10), st.sampled_from(["mean", "median", "rms", "sd"]))
def test_a_stricter_bound_is_not_easier(values, x, by, statistic) -> None:
    def severity(**bound: Any) -> int:
        return SEVERITY[word(claim(statistic=statistic, **bound), values)]

    assert severity(above=x + by) <= severity(above=x)
    assert severity(below=x - by) <= severity(below=x)
    assert severity(within=(x, x + 1)) <= severity(within=(x - by, x + 1 + by))
    assert severity(differs_from=x, effect=by) <= severity(differs_from=x)


@given(SAMPLES, NUMBERS, st.sampled_from(["statistical", "exact"]))
def test_opposite_claims_do_not_both_hold(values, x, kind) -> None:
    above, below = word(claim(kind, above=x), values), word(claim(kind, below=x), values)
    if "holds" in (above, below):
        assert "fails" in (above, below)
    if kind == "statistical":
        apart = word(claim(kind, differs_from=x), values)
        assert (apart == "holds") == ("holds" in (above, below))
