"""Headline of the report: number, direction and interval for claims of every kind and verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from pydantic import ValidationError

from mores.core.random_streams import Worlds
from mores.experiments.claims.claim_evaluation import evaluate_claims
from mores.experiments.claims.persona_audit import PersonaAudit
from mores.experiments.claims.verdicts import Verdict, audited
from mores.experiments.results.cell_result import StageResult
from mores.experiments.scenario.specification import ClaimKind
from mores.report.figures import ReportData
from mores.report.figures.plot_data import format_interval
from mores.report.findings import metric_noun
from mores.report.headline import headline, headline_verdict
from tests.refusals import check_message
from tests.run.small_run import (
    ROUNDS,
    make_claim,
    make_metrics,
    make_report_data,
    make_results,
    make_scenario,
)

N = 32
ARMS = {"arms": {name: {"env.initial_std": 0.1} for name in ("base", "arm", "third", "last")}}
MEANS = {"base": 5.0, "arm": 5.4, "third": 5.1, "last": 5.0}
SWEEP = "env.ai_influence"
COMPARED = {"arm": "arm", "compare_to": "base"}
FORMS: dict[str, dict[str, Any]] = {  # of claims, by the quantity that they are about
    "level": {"arm": "arm"},
    "difference": COMPARED,
    "relative": {**COMPARED, "relative": True},
    "change": {**COMPARED, "references": ["third", "last"]},
    "analytic": {"arm": "arm", "analytic": "rms_distance"},
    "relative to a law": {"arm": "arm", "analytic": "rms_distance", "relative": True},
    "median": {**COMPARED, "statistic": "median"},
}


def run(
    claims: list[dict[str, Any]], mean: Callable[[str, Mapping[str, Any]], float], **fields: Any
) -> tuple[ReportData, list[Verdict]]:
    """Results with these means of a metric by arm and point of the sweep, and the verdicts."""
    scenario = make_scenario(claims=claims, replicates=N, **fields)
    rng = np.random.default_rng(1)
    common = rng.normal(scale=0.05, size=(N, 1, 1))
    cells, records = make_results(scenario)
    for cell in cells:
        values = mean(cell.arm, cell.point) + common + 0.02 * rng.normal(size=(N, 1, 1))
        metrics = make_metrics(
            {"rms_distance": values + np.zeros(len(ROUNDS))}, Worlds.of(N), ROUNDS
        )
        law = {"rms_distance": mean("base", cell.point)}
        stage = StageResult("rollout", metrics, law)
        records[cell.id] = replace(records[cell.id], stages=(stage,))
    data = ReportData.from_run(scenario, cells, records)
    return data, evaluate_claims(scenario, cells, records)


def text_of(*arguments: Any, **fields: Any) -> str:
    """The headline of such results."""
    return headline(*run(*arguments, **fields))


def bound_for(status: str, value: float) -> dict[str, Any]:
    """A bound above which the value lies, does not lie, or lies for a part of its interval."""
    return {"above": value + {"holds": -0.3, "fails": 0.3, "undecided": 0.0}[status]}


@pytest.mark.cut(7)
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("form", FORMS)
def test_direction_number_interval_and_verdict(form: str, sign: float):
    """The words of direction follow the values of the arms, whatever the sign of the reference."""
    claim = {"statement": "x", "kind": "statistical", "metric": "rms_distance", **FORMS[form]}
    data, (base,) = run([{**claim, "kind": "report"}], lambda arm, _: sign * MEANS[arm], **ARMS)
    for status in ("holds", "fails", "undecided"):
        bound = bound_for(status, base.estimate.value)
        scenario = make_scenario(claims=[{**claim, "bound": bound}], replicates=N, **ARMS)
        (verdict,) = evaluate_claims(scenario, list(data.cells), dict(data.records))
        text = headline(replace(data, scenario=scenario), [verdict])
        assert f"; the claim {'is ' * (status == 'undecided')}{status}: it requires a " in text
        assert f"n = {N} replicates" in text and "95 % interval" in text
        finding = text.split(" (")[0]
        if form != "level":
            right, wrong = ((" raises ", " above "), (" lowers ", " below "))[:: int(sign)]
            assert any(word in finding for word in right), finding
            assert not any(word in finding for word in wrong), finding
        if not claim.get("relative"):
            number, ends = format_interval(base.estimate, "{}|{} to {}").split("|")
            assert number.removeprefix("−") in finding and ends in text
        check_message(text)


@pytest.mark.cut(4)
@pytest.mark.parametrize(
    ("bound", "required"),
    [
        ({"below": 0.1}, "a difference below 0.1"),
        ({"within": [-1, 1]}, "a difference between −1 and 1"),
        ({"within": [0, 0]}, "a difference of exactly 0"),
        ({"differs_from": 0}, "a difference other than 0"),
    ],
)
def test_every_bound_has_words(bound: dict[str, Any], required: str):
    claim = {"statement": "x", "kind": "statistical", "metric": "rms_distance", **COMPARED}
    text = text_of([{**claim, "bound": bound}], lambda arm, _: MEANS[arm], **ARMS)
    assert text.endswith(f"it requires {required}.") or f"{required};" in text


def test_equivalence_of_equal_arms_names_an_interval_that_includes_zero():
    claim = {"statement": "x", "kind": "statistical", "metric": "rms_distance", **COMPARED,
             "bound": {"within": [-0.1, 0.1]}}  # fmt: skip
    text = text_of([claim], lambda arm, _: 5.0, **ARMS)
    assert "raises" not in text and "lowers" not in text
    assert "but the interval includes 0" in text and "claim holds" in text
    check_message(text)


@pytest.mark.cut(6)
@pytest.mark.parametrize("key", ["slope_in", "monotone_in"])
@pytest.mark.parametrize("slope", [2.0, -2.0, 0.0])
def test_a_trend_rises_or_falls(key: str, slope: float):
    claim = {"statement": "x", "kind": "statistical", "metric": "rms_distance", key: SWEEP,
             "bound": {"above": 0.1}}  # fmt: skip
    text = text_of([claim], lambda _, point: slope * point[SWEEP], sweep={SWEEP: [0.1, 0.3, 0.5]})
    if slope:
        assert (" rises " in text, " falls " in text) == (slope > 0, slope < 0)
    assert ("but the interval includes 0" in text) == (slope == 0.0)
    check_message(text)


def test_a_sweep_states_the_point_that_decides_the_verdict():
    claim = {"statement": "x", "kind": "statistical", "metric": "rms_distance", "arm": "main",
             "bound": {"above": 0.2}}  # fmt: skip
    text = text_of([claim], lambda _, point: point[SWEEP], sweep={SWEEP: [0.1, 0.3, 0.5]})
    assert f"at {SWEEP} = 0.1, the point of 3 that decides the verdict" in text
    assert "claim fails" in text
    check_message(text)
    report = {**claim, "kind": "report", "bound": None}
    text = text_of([report], lambda _, point: point[SWEEP], sweep={SWEEP: [0.1, 0.3, 0.5]})
    assert f"at {SWEEP} = 0.1, the first of 3 points" in text


KINDS: dict[str, dict[str, Any]] = {  # a claim of every kind that has other words
    "exact": {"kind": "exact", "bound": {"within": [0.0, 1.0]}},
    "statistical": {"kind": "statistical", "bound": {"above": 0.0}},
    "learned": {"kind": "learned", "bound": {"above": 0.0}, "ablation": "third"},
    "persona": {"kind": "persona", "bound": {"above": 0.0}},
    "reward_implied": {"kind": "reward_implied", "bound": {"within": [0, 1]}, "compare_to": None,
                       "analytic": "rms_distance"},
    "by_construction": {"kind": "by_construction", "bound": {"above": 0.0}},
    "report": {"kind": "report", "bound": None},
}  # fmt: skip


@pytest.mark.full
@pytest.mark.parametrize("kind", get_args(ClaimKind))
def test_every_kind_of_claim_has_a_headline(kind: str):
    claim = {"statement": "x", "metric": "rms_distance", **COMPARED, **KINDS[kind]}
    own = kind not in ("learned", "persona")  # those need stages, or other metrics
    evaluated = claim if own else {**claim, "kind": "statistical", "ablation": None}
    data, (verdict,) = run([evaluated], lambda arm, _: MEANS[arm], **ARMS)
    text = headline(data, [replace(verdict, claim=make_claim(**claim))])
    assert "“arm”" in text and "0.4" in text
    check_message(text)


def test_a_verdict_against_its_interval_states_the_reason():
    """As of a persona claim whose audit failed, or a learned one that remains in the ablation."""
    claim = {"statement": "x", "kind": "statistical", "metric": "rms_distance", **COMPARED,
             "bound": {"above": 0.0}}  # fmt: skip
    data, (verdict,) = run([claim], lambda arm, _: MEANS[arm], **ARMS)
    audit = PersonaAudit(1, 2, True, 0.1, 0.1, {}, "only one order of the options was asked")
    text = headline(data, [audited(verdict, audit)])
    assert "the claim is undecided" in text and "only one order" in text
    failed = replace(verdict, status="fails", reason="no model in arm was updated")
    assert headline(data, [failed]).endswith("no model in arm was updated.")


def test_values_without_an_estimate_or_an_interval():
    claim = {"statement": "x", "kind": "statistical", "metric": "rms_distance", **COMPARED,
             "bound": {"above": 0.0}}  # fmt: skip
    data, (verdict,) = run([claim], lambda arm, _: np.nan if arm == "arm" else 1.0, **ARMS)
    check_message(headline(data, [verdict]))
    one = replace(
        verdict.estimate, value=0.5, low=-np.inf, high=np.inf, n=1, method="one replicate"
    )
    check_message(headline(data, [replace(verdict, estimate=one, status="undecided")]))


def test_the_claim_of_the_headline_is_chosen_by_a_rule():
    exact = {"statement": "a", "kind": "exact", "metric": "rms_distance", "bound": {"above": 0}}
    report = {"statement": "b", "kind": "report", "metric": "rms_distance"}
    first, second = ({**exact, "statement": s, "kind": "statistical"} for s in ("first", "second"))
    for claims, expected in (
        ([report, exact, first, second], "first"),
        ([report, exact, first, {**second, "headline": True}], "second"),
        ([report, exact], "a"),
        ([report], "b"),
    ):
        data, verdicts = run(claims, lambda arm, _: 1.0)
        chosen = headline_verdict(verdicts)
        assert chosen is not None and chosen.claim.statement == expected
        if len(claims) > 1:
            assert f"claim ({verdicts.index(chosen) + 1}) " in headline(data, verdicts)
    assert headline(data, []) == ""
    with pytest.raises(ValidationError, match="a report has one headline"):
        make_scenario(claims=[{**first, "headline": True}, {**second, "headline": True}])


@pytest.mark.cut(3)
@pytest.mark.parametrize("statistic", ["rms", "sd", "mean", "median"])
@pytest.mark.parametrize("arm", ["arm", "third"])
def test_a_relative_difference_has_the_sign_of_the_statistic_of_the_reference(
    statistic: str, arm: str
):
    """Of a negative metric the rms and the sd are positive."""
    claim = {"statement": "x", "kind": "report", "metric": "rms_distance", "arm": arm,
             "compare_to": "base", "relative": True, "statistic": statistic}  # fmt: skip
    data, (verdict,) = run([claim], lambda arm, _: -MEANS[arm], **ARMS)
    text = headline(data, [verdict])
    is_negative = statistic in ("mean", "median")
    assert ("negative" in text) == is_negative
    rises = (verdict.estimate.value > 0) != is_negative
    assert any(word in text for word in (" raises ", " above ") if rises) == rises, text
    assert any(word in text for word in (" lowers ", " below ")) != rises, text
    check_message(text)


@pytest.mark.cut(4)
@pytest.mark.parametrize("key", ["slope_in", "monotone_in"])
@pytest.mark.parametrize("slopes", [(1.0, 2.0), (2.0, 1.0), (-1.0, -2.0), (-1.0, 1.0)])
def test_relative_trends_are_those_of_slopes_and_steps(key: str, slopes: tuple[float, float]):
    """The estimate is 100 % for twice the slope, also of a sweep with negative values."""
    claim = {"statement": "x", "kind": "statistical", "metric": "rms_distance", **COMPARED,
             "relative": True, key: SWEEP, "bound": {"above": 0.5}}  # fmt: skip
    slope_of = {"base": 10 * slopes[0], "arm": 10 * slopes[1]}
    text = text_of(
        [claim],
        lambda arm, point: slope_of.get(arm, 0.0) * point[SWEEP] - 9.0,
        sweep={SWEEP: [0.1, 0.3, 0.5]},
        **ARMS,
    )
    noun = "slope" if key == "slope_in" else "step"
    assert f"the {noun} of the rms distance" in text and "per unit" not in text
    assert f"it requires a relative difference of the {noun}s above 50 %" in text
    assert f"95 % interval of the relative difference of the {noun}s" in text
    assert (f" % {'above' if slopes[1] > slopes[0] else 'below'} that in “base”") in text
    assert ("which is negative" in text) == (slopes[0] < 0)
    check_message(text)


def test_names_of_metrics_in_sentences():
    data = make_report_data(make_scenario())
    record = replace(data.record("main"), value_names=("privacy", "self_rule"))
    for name, noun in {
        "mean_value[1]": "the mean of self rule",
        "return_agent": "the agent's return",
        "return_two_users": "the two users' return",
        "return_by_agent[0]": "the return by agent[0]",
        "rms_distance": "the rms distance",
    }.items():
        assert metric_noun(name, record) == noun
