"""Claims on personas: undecided without their controls, or if answers follow no stated belief."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mores.experiments.claims.verdicts import Verdict
from mores.experiments.run import run_scenario
from mores.experiments.scenario.loading import load_scenario
from tests.cells import expand_and_verify
from tests.refusals import refused

SCENARIO = """\
name: audit
about: Respondents by rule, with a persona effect and a position bias.
env:
  kind: survey
  num_people: 4
  questions: [{kind: attitudes, names: [taxes, guns]}]
policies:
  person: {kind: biased_respondent, persona_effect: 1.0, position_bias: 1.0, belief_effect: 0.5}
rounds: 8
replicates: 16
seed: 5
metrics: [persona_effect, persona_effect_nats, num_orders, num_templates, persona_total_share,
  order_total_share, belief_effect]
control: main
arms:
  main: {}
  verbatim: {env.stated_belief: verbatim}
  paraphrased: {env.stated_belief: paraphrased}
  one_order: {env.num_orders: 1}
  one_template: {env.num_templates: 1}
  deaf: {policies.person.belief_effect: 0.0}
  deaf_verbatim: {env.stated_belief: verbatim, policies.person.belief_effect: 0.0}
  deaf_paraphrased: {env.stated_belief: paraphrased, policies.person.belief_effect: 0.0}
  one_order_verbatim: {env.stated_belief: verbatim, env.num_orders: 1}
  one_order_paraphrased: {env.stated_belief: paraphrased, env.num_orders: 1}
claims:
"""
CLAIM = (
    "  - {{statement: Personas, kind: persona, metric: {metric}, arm: {arm}, bound: {{{bound}}}"
    "{control}}}\n"
)
CONTROL = ", stated_belief: {verbatim: verbatim, paraphrased: paraphrased}"


def claim(
    control: str = CONTROL,
    arm: str = "main",
    metric: str = "persona_effect",
    bound: str = "above: 0",
) -> str:
    return CLAIM.format(metric=metric, arm=arm, bound=bound, control=control)


CASES = {  # text of a claim; verdict, and a part of its reason
    "passes": (claim(), "holds", ""),
    "its own interval": (claim(bound="below: 0"), "fails", ""),
    "no control": (claim(""), "undecided", "no control with stated beliefs"),
    "one order": (claim(arm="one_order"), "undecided", "both orders"),
    "one order in the control": (
        claim(
            ", stated_belief: {verbatim: one_order_verbatim, paraphrased: one_order_paraphrased}"
        ),
        "undecided",
        "both orders",
    ),
    "one order in the other arm": (claim(f"{CONTROL}, compare_to: one_order"), "undecided", "both"),
    "one question": (claim(metric='"persona_effect[1]"'), "holds", ""),
    "one template": (claim(arm="one_template"), "undecided", "two templates"),
    "not recorded": (claim(metric="persona_effect_nats"), "undecided", "not recorded"),
    "deaf": (
        claim(
            ", stated_belief: {verbatim: deaf_verbatim, paraphrased: deaf_paraphrased}",
            arm="deaf",
            bound="below: 0",
        ),
        "undecided",
        "does not follow a verbatim belief",
    ),
}


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Verdict], Path]:
    folder = tmp_path_factory.mktemp("audit")
    file = folder / "audit.yaml"
    file.write_text(SCENARIO + "".join(text for text, _, _ in CASES.values()))
    result = run_scenario(load_scenario(str(file), []), folder / "runs")
    return list(result.verdicts), result.folder


@pytest.mark.full
@pytest.mark.cut(4)
@pytest.mark.parametrize("case", CASES)
def test_a_persona_claim_needs_its_controls(
    case: str, verdicts: tuple[list[Verdict], Path]
) -> None:
    verdict = verdicts[0][list(CASES).index(case)]
    _, status, reason = CASES[case]
    assert verdict.status == status, verdict.reason
    assert reason in verdict.reason
    assert verdict.audit is not None and (status == "undecided") == bool(verdict.audit.problem)
    assert verdict.alpha == 1 or status == "holds"


@pytest.mark.full
def test_the_audit_is_shown_and_stored(verdicts: tuple[list[Verdict], Path]) -> None:
    found, folder = verdicts
    audit = found[0].audit
    assert audit is not None
    assert (audit.orders, audit.templates) == (2, 2)
    assert 0.2 < audit.order_share < 1 and audit.persona_share > 0.2
    assert "share of variance with the persona" in str(audit)
    entry = json.loads((folder / "claims.json").read_text())[0]
    assert entry["audit"]["orders"] == 2 and entry["audit"]["beliefs"]["verbatim"]["n"] == 16
    report = (folder / "report.html").read_text()
    assert "Undecided, since there is no control with stated beliefs" in report


@pytest.mark.full
def test_an_interval_over_questions_has_one_value_for_each(tmp_path: Path) -> None:
    names = "[taxes, guns, abortion, welfare]"
    text = SCENARIO.replace("[taxes, guns]", names).replace("rounds: 8", "rounds: 16")
    text += (
        claim()
        .replace("kind: persona", "kind: statistical, interval: components")
        .replace(CONTROL, "")
    )
    file = tmp_path / "audit.yaml"
    file.write_text(text)
    verdict = run_scenario(load_scenario(str(file), []), tmp_path / "runs").verdicts[0]
    assert verdict.estimate.n == 4
    assert verdict.estimate.value == pytest.approx(0.36, abs=0.1)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (claim(", stated_belief: {verbatim: verbatm, paraphrased: main}"), "unknown_name"),
        (claim(", stated_belief: {verbatim: verbatim, paraphrased: verbatim}"), "conflict"),
        (claim(", stated_belief: {verbatim: verbatim}"), "missing"),
        (claim().replace("kind: persona", "kind: statistical"), "conflict"),
        (claim(", interval: parameters"), "conflict"),
        (claim(", stated_belief: {verbatim: verbatim, paraphrased: deaf_paraphrased}"), "conflict"),
        (claim(", stated_belief: {verbatim: paraphrased, paraphrased: verbatim}"), "conflict"),
        (
            claim(", interval: components, compare_to: verbatim, references: [deaf, deaf]"),
            "conflict",
        ),
        (
            claim(", interval: components", metric="distance_from_control(persona_effect)"),
            "conflict",
        ),
        (claim(", interval: components", metric="num_orders"), "conflict"),
    ],
)
def test_what_cannot_be_audited_is_refused(text: str, code: str, tmp_path: Path) -> None:
    file = tmp_path / "audit.yaml"
    file.write_text(SCENARIO + text)
    with refused(code):
        expand_and_verify(load_scenario(str(file), []))
