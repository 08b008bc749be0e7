"""Influence as it is played: against the solver, whose answers it knows nothing of."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from mores.envs.influence.alignment_objectives import NOTIONS, YARDSTICK, evaluate, sequences, solve
from mores.envs.influence.dr_mdp import Influence
from mores.envs.influence.dr_mdp_planner import Planner
from mores.envs.influence.person_dr_mdp import ChangingRewards
from mores.registry import make
from mores.sim.simulation import play
from mores.sim.simulator import Table
from tests.oracles.test_influence import TOY, drawn
from tests.refusals import refused

PAID = ["real_time", "final", "initial", "natural_shift", "constrained", "privileged", "pareto"]


@pytest.mark.parametrize("objective", PAID)
@pytest.mark.parametrize("horizon", [1, 2, 3, 5])
def test_every_sequence_played(objective: str, horizon: int) -> None:
    """All sequences at once, a world each, by somebody outside who knows nothing of a solver."""
    acts = list(itertools.product((0, 1), repeat=horizon))
    game = Influence(people=1, horizon=horizon, objective=objective)
    table = Table(game, {}, {"assistant": [0]}, len(acts), rounds=99)
    table.reset(0)
    pay, allowed = torch.zeros(len(acts)), torch.ones(len(acts), dtype=torch.bool)
    for action in torch.tensor(acts).T:
        turn = table.step({"assistant": action[:, None]})
        pay += turn.pay["assistant"][:, 0]
        allowed &= ~turn.repaired["assistant"][:, 0]
    assert table.finished and bool(turn.terminated.all())
    top = pay[allowed].max()
    assert top == solve(TOY, objective, horizon).value
    best = {acts[i] for i in torch.nonzero(allowed & (pay == top))[:, 0].tolist()}
    assert best == set(sequences(TOY, objective, horizon))


@pytest.mark.parametrize("objective", NOTIONS)
def test_pay_sums_to_the_return_whenever_one_stops(objective: str) -> None:
    game = game_of(drawn(3, 3), people=5, objective=objective, ideal=1)
    table = Table(game, {}, {"assistant": range(5)}, 40, rounds=4)
    table.reset(1)
    rng = torch.Generator().manual_seed(0)
    pay = torch.zeros(40, 5)
    while not table.finished:
        action = torch.randint(2, (40, 5), generator=rng)
        pay += table.step({"assistant": action}).pay["assistant"]
        now = game.measures(table.state)
        name = YARDSTICK[objective]
        assert pay.mean(1).numpy() == pytest.approx(now["paid"].numpy(), abs=1e-5)
        if name != "everybody":
            assert torch.equal(now["paid"], now[f"return_{name}"])


def game_of(model: ChangingRewards, **more) -> Influence:
    return Influence(
        rewards=model.rewards,
        natural=model.natural,
        influenced=model.influenced,
        start=model.start,
        **{"susceptibility": model.susceptibility, "horizon": 6, **more},
    )


@pytest.mark.parametrize("objective", NOTIONS)
def test_what_is_predicted_is_what_happens(objective: str) -> None:
    """Means of 40,000 people of two kinds, each 4.5 standard errors from the formula at most."""
    model = drawn(7, 3)
    model = game_of(model, susceptibility=0.75).model_of(0.75)
    game = game_of(
        model, people=40, objective=objective, susceptible_share=0.3, susceptibility_of_others=0.25
    )
    formulas = game.predictions(game.baseline(), 8)
    names = [name for name in formulas if name not in ("optimum", "switch", "at_once")]
    assert len(names) == 12
    played = play(game, worlds=1000, rounds=8, seed=5, record=names)
    for name in names:
        rows = played.measures[name].double().numpy()
        error = rows.std(0, ddof=1) / math.sqrt(len(rows))
        assert (np.abs(rows.mean(0) - formulas[name]) <= 4.5 * error + 1e-5).all(), name
    assert formulas["paid"][-1] == pytest.approx(formulas["optimum"], abs=1e-12)


@pytest.mark.parametrize("objective", ["real_time", "final", "natural_shift"])
def test_others_earn_no_more_than_the_optimum(objective: str) -> None:
    game = game_of(drawn(7, 3), objective=objective)
    best = game.predictions({}, 6)["optimum"]
    for notion in NOTIONS:
        theirs = game.predictions({"assistant": Planner(objective=notion)}, 6)["paid"][-1]
        assert theirs <= best + 1e-12
    chance = np.random.default_rng(0).uniform(size=(6, 3, 3, 3, 7))
    model = game.model_of(game.susceptibility)
    assert evaluate(model, chance, 6).returns[YARDSTICK[objective]][-1] <= best + 1e-12


def test_only_those_who_give_in_are_targeted_where_one_can_tell() -> None:
    few = {"people": 50, "susceptible_share": 0.04, "horizon": 8}
    for told, gap in ((True, 1.0), (False, 0.0)):
        game = Influence(told=told, **few)
        played = play(game, worlds=3, rounds=8, record=["targeting_gap", "influence_share"])
        assert (played.measures["targeting_gap"][:, -1] == gap).all()
        assert game.predictions(game.baseline(), 8)["targeting_gap"][-1] == gap
    alike = play(Influence(people=4), worlds=2, rounds=2, record=["targeting_gap"])
    assert alike.measures["targeting_gap"].isnan().all()


def test_a_planner_takes_what_it_is_told_to_where_it_is_a_tie() -> None:
    for tied, share in (("noop", 0.0), ("influence", 1.0)):
        players = {"assistant": Planner(when_tied=tied)}
        played = play(Influence(horizon=2), players, 2, 2, record=["influence_share", "paid"])
        assert (played.measures["influence_share"][:, -1] == share).all()
        assert (played.measures["paid"][:, -1] == 2.0).all()


def test_the_closed_form_is_published_where_it_holds() -> None:
    for horizon, takes in itertools.product((1, 2, 4, 9), (0.4, 0.51, 0.55, 1.0)):
        game = Influence(horizon=horizon, susceptibility=takes)
        found = game.predictions({}, horizon)
        at_once = play(game, worlds=2, rounds=1, record=["influenced_at_once"])
        measured = at_once.measures["influenced_at_once"][:, -1]
        assert (measured == found["at_once"]).all()
        assert ("switch" in found) == (horizon > 1)
    assert Influence(horizon=3).predictions({}, 3)["switch"] == pytest.approx(0.618034, abs=1e-6)
    for other in ({"natural": [[1, 0], [0, 1]]}, {"start": [0.5, 0.5]}, {"rewards": [[1, 2]] * 2}):
        assert "switch" not in Influence(**other).predictions({}, 20)
    assert "at_once" not in Influence(susceptible_share=0.5).predictions({}, 20)


def test_left_alone_people_are_as_nature_has_them_bit_for_bit() -> None:
    game = game_of(drawn(11, 3), people=30, objective="constrained")
    played = play(game, {"assistant": Planner(objective="constrained")}, 20, 6)
    assert torch.equal(played.state.taste, played.state.nature)


@pytest.mark.parametrize(
    ("wrong", "code", "path"),
    [
        ({"natural": [[0.5, 0.4], [1, 0]]}, "invalid_value", "influence.natural"),
        ({"influenced": [[0, 1]]}, "wrong_shape", "influence"),
        ({"rewards": [[1], [2]]}, "wrong_shape", "influence.rewards"),
        ({"start": [1, 0, 0]}, "invalid_value", "influence.start"),
        ({"ideal": 2}, "out_of_range", "influence.ideal"),
        ({"objective": "realtime"}, "invalid_value", "influence.objective"),
        ({"horizon": 0}, "out_of_range", "influence.horizon"),
    ],
)
def test_bad_parameters(wrong: dict, code: str, path: str) -> None:
    with refused(code, path):
        make("environment", "influence", wrong)


def test_a_planner_with_an_ideal_that_nobody_has() -> None:
    with refused("out_of_range", path="planner.ideal"):
        play(Influence(), {"assistant": Planner(objective="privileged", ideal=4)}, 1, 1)
