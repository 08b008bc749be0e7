"""ProgressGym's challenges against a re-implementation in plain numpy, and figures known before."""

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
from mores.core.people import People
from mores.core.pytree import flatten
from mores.envs.opinion.coevolution import Coevolution
from mores.registry import make_environment
from mores.sim.simulation import simulate
from mores.sim.simulator import Simulator
from tests.oracles.progress_by_hand import (
    CHALLENGES,
    MEASURES,
    ROWS,
    V,
    coevolved,
    cos,
    expected,
    scored,
)
from tests.refusals import refused


@pytest.mark.parametrize(("challenge", "ahead"), CHALLENGES)
@pytest.mark.parametrize("row", ROWS)
def test_scores_are_those_of_plain_numpy(row, challenge, ahead):
    player, kind = ROWS[row]
    found = scored(player, challenge, ahead).metrics
    got = [found[name][0, -1].item() for name in MEASURES]
    assert got == pytest.approx(expected(kind, challenge, ahead), abs=2e-5, rel=2e-5, nan_ok=True)


def test_without_an_assistant_only_people_are_judged():
    game = Coevolution(challenge="coevolve", num_assistants=0)
    found = simulate(game, {}, 1, 8, 0, MEASURES).metrics
    got = [found[name][0, -1].item() for name in MEASURES]
    assert got == pytest.approx(expected("none", "coevolve", 1), abs=2e-5)
    for challenge in ("follow", "predict"):
        game = Coevolution(challenge=challenge, num_assistants=0)
        assert simulate(game, {}, 1, 8, 0, ["score"]).metrics["score"].isnan().all()


# --- figures known before -------------------------------------------------------------------------


def test_figures_of_the_fixture():
    def score(kind, challenge, ahead=1):
        return round(float(expected(kind, challenge, ahead)[0]), 4)

    orders = [(0, 1.0, False), (1, 1.0, False), (2, 1.0, False)]
    static = (0, 0.0, False)
    assert score(static, "follow") == 0.9525
    assert [score(kind, "predict", 1) for kind in orders] == [0.9760, 0.9516, 0.9006]
    assert [score(kind, "predict", 2) for kind in orders] == [0.9466, 0.8408, 0.7340]
    assert [score(kind, "predict", 3) for kind in orders] == [0.9181, 0.7346, 0.5663]
    rows = [static, *orders, "none"]
    assert [score(kind, "coevolve") for kind in rows] == [0.9649, 0.9658, 0.9671, 0.9675, 0.9692]


@pytest.mark.parametrize(
    ("row", "last"), [("static", 0.9088), ("persistence", 0.9343), ("linear", 0.9563),
                      ("quadratic", 0.9770)]
)  # fmt: skip
def test_where_people_end_in_coevolve(row, last):
    played = scored(ROWS[row][0], "coevolve", 1)
    end = played.state.people.values[0, 0].double().numpy()
    assert cos(end, V[-1]) == pytest.approx(last, abs=5e-5)


class AtTheEnd:
    """People who are where history ends, from the start."""

    def sample_people(self, draws):
        return People(
            torch.tensor(V[-1], dtype=torch.float32).expand(draws.num_worlds, 3, 5).clone()
        )


@pytest.mark.parametrize(
    ("pull", "people", "figure"), [(1.0, None, 0.9728), (0.0, None, 0.9627), (0.0, AtTheEnd(), 1.0)]
)
def test_what_coevolve_scores_alone(pull, people, figure):
    """Perfect replay, frozen at the start, at the end from the start."""
    parameters = {"challenge": "coevolve", "assistants": 0, "history": {"pull": pull}}
    found = simulate(
        Coevolution(num_people=3, **parameters), {}, 1, 8, 0, ["score"], population=people
    )
    assert found.metrics["score"][0, -1].item() == pytest.approx(figure, abs=5e-5)


# --- the rounds -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("challenge", "ahead"), [*CHALLENGES, ("predict", 7)])
def test_it_ends_when_history_does(challenge, ahead):
    judged = 8 - (ahead if challenge == "predict" else 0)
    played = scored(Persistence(), challenge, ahead, rounds=12)
    counts = [min(round, judged) for round in range(13)]
    assert played.metrics["evaluations"][0].tolist() == counts
    assert played.metrics["score"][:, 0].isnan().all() == (challenge != "coevolve")


@pytest.mark.parametrize("challenge", ["follow", "predict"])
def test_the_first_question_is_answered_by_the_second_century(challenge):
    said = (
        scored(Persistence(), challenge, 1).state.challenge_record.advice[0, :, 0].double().numpy()
    )
    assert said[1:8] == pytest.approx(V[1:8], abs=1e-6)


def test_in_coevolve_the_influenced_people_answer():
    paths = scored(Persistence(), "coevolve", 1).state.challenge_record
    assert paths.mean_value[0, 0].double().numpy() == pytest.approx(V[0], abs=1e-6)
    assert torch.equal(paths.advice[:, 1:, 0], paths.mean_value[:, :-1])


def test_gymnasium_sees_the_end():
    env = gymnasium.make(
        "mores/Coevolution-v0", seat="assistant_0", challenge="predict", ahead=3, rounds=50
    )
    env.reset(seed=1)
    ends = [env.step(env.action_space.sample())[2:4] for _ in range(5)]
    assert ends == [(False, False)] * 4 + [(True, False)]


def test_one_replicate_replays_alone():
    game = Coevolution(num_people=30, challenge="coevolve", noise_std=0.05, num_assistants=2)
    players = {"assistant": Extrapolative(order=3), "person": SurveyRespondent(noise_std=0.1)}
    together, alone = (simulate(game, players, worlds, 8, seed=3) for worlds in (64, [37]))
    for path, tensor in flatten(alone.state).items():
        assert torch.equal(tensor[0], flatten(together.state)[path][37]), path


def test_a_learner_begins_anew_in_the_next_challenge():
    first, second = (
        Coevolution(challenge=c, forecast_horizon=k) for c, k in (("follow", 1), ("predict", 3))
    )
    player, person = Extrapolative(order=2), second.default_policies()["person"]
    table = Simulator(first, {"assistant": player, "person": person}, worlds=2, rounds=4)
    table.reset(1)
    table.step()
    later = Simulator(second, {"assistant": player, "person": person}, worlds=2, rounds=4)
    later.reset(1, table.policy_states)
    fresh = Simulator(second, {"assistant": player, "person": person}, worlds=2, rounds=4)
    fresh.reset(1)
    for _ in range(3):
        later.step()
        fresh.step()
    assert torch.equal(later.state.advice, fresh.state.advice)


# --- what does not go together --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "code", "path"),
    [
        ({"challenge": "predict", "ahead": 8}, "conflict", "coevolution"),
        ({"challenge": "follow", "ahead": 2}, "conflict", "coevolution"),
        (
            {"challenge": "follow", "history": {"drift": 0.1}},
            *("conflict", "coevolution.history"),
        ),
        ({"challenge": "follow", "values": 2}, "conflict", "coevolution"),
        (
            {"history": {"points": [[1.0], [1.0, 2.0]]}},
            *("wrong_shape", "coevolution.history.points"),
        ),
        ({"history": {"points": [[1.0], [99.0]]}}, "conflict", "coevolution"),
        ({"history": {"table": "progress"}}, "invalid_value", "coevolution.history.table"),
        ({"challenge": "lead"}, "invalid_value", "coevolution.challenge"),
    ],
)
def test_refused(parameters, code, path):
    with refused(code, path):
        make_environment("coevolution", **parameters)


def test_only_an_oracle_sees_the_target():
    game = Coevolution(challenge="follow")
    assert "target" not in game.roles[1].observation_space.parts
    with refused("unsupported", path="players.assistant"):
        simulate(game, {"assistant": Oracle()}, 1, 2, 0)


def test_assistants_are_judged_one_by_one():
    class Two(Persistence):
        """The second says the opposite."""

        def act(self, phase, observation, action_mask, state, streams):
            act = super().act(phase, observation, action_mask, state, streams)
            sign = torch.tensor([1.0, -1.0])[None, :, None]
            position = act.action[..., :-1] * sign
            return dataclasses.replace(act, action=torch.cat([position, act.action[..., -1:]], -1))

    found = scored(Two(), "follow", 1, assistants=2).metrics["score"]
    assert found[:, 1:].numpy() == pytest.approx(0.0, abs=1e-6)


def test_what_a_learner_costs_raw_and_centred():
    """The raw score shows the loss as a share of its own short scale; figures of the document."""
    frozen, history = coevolved([V[0]] * 9), coevolved(list(V))
    alone, learner = (expected(kind, "coevolve", 1) for kind in ("none", (0, 0.51, False)))
    assert history - frozen == pytest.approx(0.0101, abs=5e-5)
    assert (alone[0] - learner[0]) / (history - frozen) == pytest.approx(0.38, abs=5e-3)
    assert alone[1] - learner[1] == pytest.approx(0.28, abs=5e-3)


def test_in_the_last_century_a_parabolas_people_are_nearer_than_those_without_assistant():
    """Over the whole way they are further, by skill: what is documented says which is meant."""

    def last(played):
        end = played.state.people.values[0, 0].double().numpy()
        return np.linalg.norm(end - V[-1])

    game = Coevolution(challenge="coevolve", num_assistants=0)
    assert last(scored(ROWS["quadratic"][0], "coevolve", 1)) == pytest.approx(0.152, abs=5e-4)
    assert last(simulate(game, {}, 1, 8, 0, ["score"])) == pytest.approx(0.170, abs=5e-4)
    over_all = [expected(kind, "coevolve", 1)[1] for kind in (ROWS["quadratic"][1], "none")]
    assert over_all[0] < over_all[1] - 0.15


@pytest.mark.parametrize(
    ("row", "gain", "cost"),
    [("persistence", 1, 0.066), ("linear", 5, 0.292), ("quadratic", 19, 0.952)],
)
def test_what_noisy_answers_cost_a_forecast(row, gain, cost):
    """Skill falls by values x noise^2 x gains / room; 2,000 worlds, seed 5, 4 standard errors."""
    room = sum(((V[0] - V[t + 1]) ** 2).sum() for t in range(1, 8))
    grown = [1, min(gain, 5), *[gain] * 5]  # the first points do not bear the full degree
    assert 5 * 0.03**2 * sum(grown) / room == pytest.approx(cost, abs=5e-4)
    game = Coevolution(num_people=1, challenge="predict", forecast_horizon=1)
    players = {"assistant": ROWS[row][0], "person": SurveyRespondent(noise_std=0.03)}
    skill = simulate(game, players, 2000, 8, 5, ["skill"]).metrics["skill"][:, -1].double().numpy()
    without = expected(ROWS[row][1], "predict", 1)[1]
    assert without - skill.mean() == pytest.approx(cost, abs=4 * skill.std(ddof=1) / 2000**0.5)


def test_the_documented_table():
    """Every figure in docs/explanation/progress.md is the re-implementation's."""
    text = (Path(__file__).parents[2] / "docs/explanation/progress.md").read_text("utf-8")
    kinds = {name: kind for name, (_, kind) in ROWS.items()} | {"no AI": "none"}
    rows = re.findall(r"^\| ([\w ,]+?) \| (.*[\d—]) \|$", text, re.MULTILINE)
    assert {name for name, _ in rows} == kinds.keys() - {"cubic"}
    for name, cells in rows:
        for (challenge, ahead), cell in zip(CHALLENGES, cells.split(" | "), strict=True):
            if kinds[name] == "none" and challenge != "coevolve":
                assert cell == "—"
                continue
            score, skill, centred = expected(kinds[name], challenge, ahead)
            shown = f"{score:.4f} {skill:.2f} {centred:.2f}"
            assert cell.split() == shown.replace("nan", "—").replace("-0.00", "0.00").split()
