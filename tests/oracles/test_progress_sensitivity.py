"""Findings of the scenario `progress` over r and over errors of reading."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import progress_sensitivity as sensitivity
from mores.agents.people.survey_respondent import SurveyRespondent
from mores.envs.dynamics.history import History
from mores.envs.opinion.coevolution import Coevolution
from mores.experiments.scenario.loading import load_scenario
from mores.sim.simulation import simulate
from tests.oracles.progress_reference import ROWS, V, coevolve_score, expected

PAGE = Path(__file__).parents[2] / "docs/explanation/progress.md"


def test_skills_equal_the_reference() -> None:
    rows = sensitivity.digitized_rows()
    assert rows == pytest.approx(V)
    kinds = {"persistence": sensitivity.PERSISTENCE, "linear": sensitivity.LINEAR}
    kinds |= {"quadratic": sensitivity.QUADRATIC, "lifelong": sensitivity.LIFELONG}
    for name, assistant in kinds.items():
        skill = sensitivity.coevolve_skill(assistant, rows, 0.3)
        assert skill == pytest.approx(expected(ROWS[name][1], "coevolve", 1)[1], abs=1e-9)
    for order, name in enumerate(("persistence", "linear", "quadratic")):
        for horizon in (1, 2, 3):
            skill = sensitivity.predict_skill(order, horizon, rows)
            reference = expected(ROWS[name][1], "predict", horizon)[1]
            assert skill == pytest.approx(reference, abs=1e-9)
    assert sensitivity.static_follow_score(rows, 0.0) == pytest.approx(
        expected((0, 0.0, False), "follow", 1)[0]
    )
    scale = coevolve_score(list(V)) - coevolve_score([V[0]] * 9)
    assert sensitivity.raw_scale(rows, 0.0) == pytest.approx(scale)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_skills_under_noise_equal_the_environment(share: float) -> None:
    """4 standard errors of 2,000 worlds, seed 5."""
    rows = sensitivity.digitized_rows()
    env = Coevolution(
        human="idealised",
        num_people=1,
        challenge="coevolve",
        history=History(trajectory="progressgym_digitized", attraction=share),
        ai_influence=1 - (1 - share) ** 2,
    )
    person = SurveyRespondent(noise_std=sensitivity.ANSWER_NOISE)
    policies = {"assistant": ROWS["quadratic"][0], "person": person}
    skill = simulate(env, policies, 2000, 8, 5, ["skill_score"]).metrics["skill_score"][:, -1]
    exact = sensitivity.coevolve_skill(sensitivity.QUADRATIC, rows, share, sensitivity.ANSWER_NOISE)
    values = skill.values.astype(float)
    assert values.mean() == pytest.approx(exact, abs=4 * values.std() / 2000**0.5)


def test_two_findings_change_their_sign() -> None:
    rows = sensitivity.digitized_rows()
    gain, noisy_gain = sensitivity.order_gain, sensitivity.noisy_order_gain
    assert sensitivity.sign_change(gain, 0.05, 0.6) == pytest.approx(0.421, abs=5e-4)
    assert sensitivity.sign_change(noisy_gain, 0.05, 0.6) == pytest.approx(0.201, abs=5e-4)
    for share in np.arange(1, 20) / 20:
        assert (gain(rows, share) > 0) == (share < 0.421)
        assert (noisy_gain(rows, share) > 0) == (share < 0.201)
        assert sensitivity.learner_cost(rows, share) < 0


@pytest.mark.full
def test_the_documented_tables() -> None:
    text = PAGE.read_text("utf-8")
    assert sensitivity.coevolve_table() in text
    assert sensitivity.other_table() in text


def test_only_the_protocol_is_exact_in_the_scenario() -> None:
    """Claims that rest on the digits are `by_construction`."""
    claims = load_scenario("progress", []).scenario.claims
    exact = {claim.statement.split(",")[0] for claim in claims if claim.kind == "exact"}
    assert exact == {
        "Follow and Coevolve score 8 centuries",
        "Predict by k centuries scores 8 - k centuries",
        "Follow scores the first answer against the second century",
        "An oracle predicts three centuries ahead without error",
        "In Follow a static assistant has no skill",
    }
    assert {claim.kind for claim in claims} == {"exact", "by_construction", "report"}
