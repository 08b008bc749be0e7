"""ProgressGym's challenges against a numpy reimplementation and known numbers."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

import mores  # noqa: F401  registers the Gymnasium ids
from mores.agents.people.survey_respondent import SurveyRespondent
from mores.agents.scripted.progressgym import Extrapolative, Oracle, Persistence
from mores.core.people import People, Population
from mores.core.pytree import flatten
from mores.envs.opinion.coevolution import Coevolution
from mores.registry import make_environment
from mores.sim.simulation import simulate
from mores.sim.simulator import Simulator
from tests.oracles.progress_reference import (
    CHALLENGES,
    METRICS,
    ROWS,
    V,
    coevolve_score,
    cos,
    expected,
    score_policy,
)
from tests.refusals import refused


@pytest.mark.cut(5)
@pytest.mark.parametrize(("challenge", "horizon"), CHALLENGES)
@pytest.mark.parametrize("row", ROWS)
def test_scores_equal_reimplementation(row, challenge, horizon):
    policy, kind = ROWS[row]
    metrics = score_policy(policy, challenge, horizon).metrics
    values = [metrics[name][0, -1].item() for name in METRICS]
    reference = expected(kind, challenge, horizon)
    assert values == pytest.approx(reference, abs=2e-5, rel=2e-5, nan_ok=True)


def test_without_assistants_only_people_are_scored():
    env = Coevolution(challenge="coevolve", num_assistants=0)
    metrics = simulate(env, {}, 1, 8, 0, METRICS).metrics
    values = [metrics[name][0, -1].item() for name in METRICS]
    assert values == pytest.approx(expected("none", "coevolve", 1), abs=2e-5)
    for challenge in ("follow", "predict"):
        env = Coevolution(challenge=challenge, num_assistants=0)
        scores = simulate(env, {}, 1, 8, 0, ["cosine_score"]).metrics["cosine_score"]
        assert scores.isnull().all()


# --- known numbers --------------------------------------------------------------------------------


def test_known_scores():
    def score(kind, challenge, horizon=1):
        return round(float(expected(kind, challenge, horizon)[0]), 4)

    orders = [(0, 1.0, False), (1, 1.0, False), (2, 1.0, False)]
    static = (0, 0.0, False)
    assert score(static, "follow") == 0.9525
    assert [score(kind, "predict", 1) for kind in orders] == [0.9760, 0.9516, 0.9006]
    assert [score(kind, "predict", 2) for kind in orders] == [0.9466, 0.8408, 0.7340]
    assert [score(kind, "predict", 3) for kind in orders] == [0.9181, 0.7346, 0.5663]
    ahead = ROWS["extrapolative, 2 ahead by order 2"][1]
    assert score(ahead, "follow") == 0.8478
    assert round(float(expected(ahead, "follow", 1)[1]), 2) == -1.53
    rows = [static, *orders, "none"]
    assert [score(kind, "coevolve") for kind in rows] == [0.9649, 0.9658, 0.9671, 0.9675, 0.9692]


@pytest.mark.parametrize(
    ("row", "last"), [("static", 0.9088), ("persistence", 0.9343), ("linear", 0.9563),
                      ("quadratic", 0.9770)]
)  # fmt: skip
def test_final_values_in_coevolve(row, last):
    result = score_policy(ROWS[row][0], "coevolve", 1)
    end = result.state.people.values[0, 0].double().numpy()
    assert cos(end, V[-1]) == pytest.approx(last, abs=5e-5)


class LastRowPopulation(Population):
    """Population whose values are history's last row."""

    def sample_people(self, streams):
        return People(
            torch.tensor(V[-1], dtype=torch.float32).expand(streams.num_worlds, 3, 5).clone()
        )


@pytest.mark.parametrize(
    ("attraction", "people", "value"),
    [(1.0, None, 0.9728), (0.0, None, 0.9627), (0.0, LastRowPopulation(), 1.0)],
)
def test_coevolve_scores_without_assistants(attraction, people, value):
    """People who equal history, who never move, and who start at the end."""
    history = {"attraction": attraction}
    env = Coevolution(num_people=3, num_assistants=0, challenge="coevolve", history=history)
    result = simulate(env, {}, 1, 8, 0, ["cosine_score"], population=people)
    assert result.metrics["cosine_score"][0, -1].item() == pytest.approx(value, abs=5e-5)


# --- rounds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("challenge", "horizon"), [*CHALLENGES, ("predict", 7)])
def test_termination_with_history(challenge, horizon):
    num_scored = 8 - (horizon if challenge == "predict" else 0)
    result = score_policy(Persistence(), challenge, horizon, rounds=12)
    counts = [min(round, num_scored) for round in range(13)]
    assert result.metrics["rounds_scored"].values[0].tolist() == counts
    assert result.metrics["cosine_score"][:, 0].isnull().all() == (challenge != "coevolve")


@pytest.mark.parametrize("challenge", ["follow", "predict"])
def test_first_answer_is_second_row(challenge):
    record = score_policy(Persistence(), challenge, 1).state.challenge_record
    advice = record.advice[0, :, 0].double().numpy()
    assert advice[1:8] == pytest.approx(V[1:8], abs=1e-6)


def test_answers_in_coevolve_are_people_s_values():
    record = score_policy(Persistence(), "coevolve", 1).state.challenge_record
    assert record.mean_value[0, 0].double().numpy() == pytest.approx(V[0], abs=1e-6)
    assert torch.equal(record.advice[:, 1:, 0], record.mean_value[:, :-1])


def test_termination_in_gymnasium():
    parameters = {"challenge": "predict", "forecast_horizon": 3, "rounds": 50}
    env = gymnasium.make("mores/Coevolution-v1", agent="assistant_0", **parameters)
    env.reset(seed=1)
    ends = [env.step(env.action_space.sample())[2:4] for _ in range(5)]
    assert ends == [(False, False)] * 4 + [(True, False)]


def test_single_replicate_replays():
    env = Coevolution(num_people=30, challenge="coevolve", noise_std=0.05, num_assistants=2)
    policies = {"assistant": Extrapolative(order=3), "person": SurveyRespondent(noise_std=0.1)}
    together, alone = (simulate(env, policies, worlds, 8, seed=3) for worlds in (64, [37]))
    for path, tensor in flatten(alone.state).items():
        assert torch.equal(tensor[0], flatten(together.state)[path][37]), path


def test_learner_restarts_in_next_challenge():
    first, second = (
        Coevolution(challenge=c, forecast_horizon=k) for c, k in (("follow", 1), ("predict", 3))
    )
    policy, person = Extrapolative(order=2), "truthful"
    simulator = Simulator(first, {"assistant": policy, "person": person}, worlds=2, rounds=4)
    simulator.reset(1)
    simulator.step()
    later = Simulator(second, {"assistant": policy, "person": person}, worlds=2, rounds=4)
    later.reset(1, simulator.policy_states)
    fresh = Simulator(second, {"assistant": policy, "person": person}, worlds=2, rounds=4)
    fresh.reset(1)
    for _ in range(3):
        later.step()
        fresh.step()
    assert torch.equal(later.state.advice, fresh.state.advice)


# --- incompatible parameters ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "code", "path"),
    [
        ({"challenge": "predict", "forecast_horizon": 8}, "conflict", ""),
        ({"challenge": "follow", "forecast_horizon": 2}, "conflict", ""),
        ({"challenge": "follow", "history": {"drift": 0.1}}, "conflict", ".history"),
        ({"challenge": "follow", "num_values": 2}, "conflict", ""),
        ({"history": {"points": [[1.0], [1.0, 2.0]]}}, "wrong_shape", ".history.points"),
        ({"history": {"points": [[1.0], [99.0]]}}, "conflict", ""),
        ({"history": {"trajectory": "progress"}}, "invalid_value", ".history.trajectory"),
        ({"challenge": "lead"}, "invalid_value", ".challenge"),
    ],
)
def test_invalid_parameters(parameters, code, path):
    with refused(code, f"coevolution{path}"):
        make_environment("coevolution", **parameters)


def test_target_is_observed_only_on_request():
    env = Coevolution(challenge="follow")
    assert "target" not in env.roles[1].observation_space.parts
    with refused("unsupported", path="policies.assistant"):
        simulate(env, {"assistant": Oracle()}, 1, 2, 0)


def test_scores_are_means_over_assistants():
    class Two(Persistence):
        """Second assistant advises the opposite of the first."""

        def act(self, phase, observation, action_mask, state, streams):
            output = super().act(phase, observation, action_mask, state, streams)
            sign = torch.tensor([1.0, -1.0])[None, :, None]
            position = output.action[..., :-1] * sign
            action = torch.cat([position, output.action[..., -1:]], -1)
            return dataclasses.replace(output, action=action)

    metrics = score_policy(Two(), "follow", 1, num_assistants=2).metrics["cosine_score"]
    assert metrics.values[:, 1:] == pytest.approx(0.0, abs=1e-6)


def test_documented_loss_by_a_learner():
    """Losses in the raw score, relative to its scale, and in skill, as documented."""
    frozen, history = coevolve_score([V[0]] * 9), coevolve_score(list(V))
    alone, learner = (expected(kind, "coevolve", 1) for kind in ("none", (0, 0.51, False)))
    assert history - frozen == pytest.approx(0.0101, abs=5e-5)
    assert (alone[0] - learner[0]) / (history - frozen) == pytest.approx(0.38, abs=5e-3)
    assert alone[1] - learner[1] == pytest.approx(0.28, abs=5e-3)


def test_documented_distances_of_quadratic_extrapolation():
    """People end nearer to history than without assistant, with a lower skill over all rounds."""

    def last(result):
        end = result.state.people.values[0, 0].double().numpy()
        return np.linalg.norm(end - V[-1])

    env = Coevolution(challenge="coevolve", num_assistants=0)
    assert last(score_policy(ROWS["quadratic"][0], "coevolve", 1)) == pytest.approx(0.152, abs=5e-4)
    assert last(simulate(env, {}, 1, 8, 0)) == pytest.approx(0.170, abs=5e-4)
    skills = [expected(kind, "coevolve", 1)[1] for kind in (ROWS["quadratic"][1], "none")]
    assert skills[0] < skills[1] - 0.15


@pytest.mark.parametrize(
    ("row", "gain", "cost"),
    [("persistence", 1, 0.066), ("linear", 5, 0.292), ("quadratic", 19, 0.952)],
)
def test_documented_loss_by_answer_noise(row, gain, cost):
    """Skill loss values x noise^2 x gains / square; 2,000 worlds, seed 5, 4 standard errors."""
    target_square = sum(((V[0] - V[t + 1]) ** 2).sum() for t in range(1, 8))
    gains = [1, min(gain, 5), *[gain] * 5]  # lower degree for the first points
    assert 5 * 0.03**2 * sum(gains) / target_square == pytest.approx(cost, abs=5e-4)
    env = Coevolution(num_people=1, challenge="predict", forecast_horizon=1)
    policies = {"assistant": ROWS[row][0], "person": SurveyRespondent(noise_std=0.03)}
    result = simulate(env, policies, 2000, 8, 5, ["skill_score"])
    skill = result.metrics["skill_score"].values[:, -1].astype(float)
    noiseless = expected(ROWS[row][1], "predict", 1)[1]
    assert noiseless - skill.mean() == pytest.approx(cost, abs=4 * skill.std(ddof=1) / 2000**0.5)


def test_the_documented_table():
    """Every number in the table of docs/explanation/progress.md."""
    text = (Path(__file__).parents[2] / "docs/explanation/progress.md").read_text("utf-8")
    kinds = {name: kind for name, (_, kind) in ROWS.items()} | {"no AI": "none"}
    table = text.partition("## Results")[2].partition("\n- **Learners.**")[0]
    rows = re.findall(r"^\| ([\w ,]+?) \| (.*[\d—]) \|$", table, re.MULTILINE)
    assert {name for name, _ in rows} == kinds.keys() - {"cubic"}
    for name, cells in rows:
        for (challenge, horizon), cell in zip(CHALLENGES, cells.split(" | "), strict=True):
            if kinds[name] == "none" and challenge != "coevolve":
                assert cell == "—"
                continue
            score, skill, cosine = expected(kinds[name], challenge, horizon)
            text = f"{score:.4f} {skill:.2f} {cosine:.2f}"
            assert cell.split() == text.replace("nan", "—").replace("-0.00", "0.00").split()
