"""Influence as it is played: against the solver, whose answers it knows nothing of."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from mores.envs.influence.alignment_objectives import (
    ALIGNMENT_OBJECTIVES,
    RETURN_CRITERIA,
    evaluate_policy,
    optimal_action_sequences,
    solve,
)
from mores.envs.influence.dr_mdp import DRMDP
from mores.envs.influence.dr_mdp_planner import DRMDPPlanner
from mores.envs.influence.person_dr_mdp import PersonDRMDP
from mores.registry import make
from mores.sim.simulation import simulate
from mores.sim.simulator import Simulator
from tests.oracles.test_influence import TOY, drawn
from tests.refusals import refused

PAID = ["real_time", "final", "initial", "natural_shift", "constrained", "privileged", "pareto"]


@pytest.mark.parametrize("objective", PAID)
@pytest.mark.parametrize("horizon", [1, 2, 3, 5])
def test_every_sequence_played(objective: str, horizon: int) -> None:
    """All sequences at once, a world each, by somebody outside who knows nothing of a solver."""
    acts = list(itertools.product((0, 1), repeat=horizon))
    game = DRMDP(num_people=1, horizon=horizon, objective=objective)
    table = Simulator(game, {}, {"assistant": [0]}, len(acts), rounds=99)
    table.reset(0)
    pay, allowed = torch.zeros(len(acts)), torch.ones(len(acts), dtype=torch.bool)
    for action in torch.tensor(acts).T:
        turn = table.step({"assistant": action[:, None]})
        pay += turn.reward["assistant"][:, 0]
        allowed &= ~turn.projected["assistant"][:, 0]
    assert table.all_finished and bool(turn.terminated.all())
    top = pay[allowed].max()
    assert top == solve(TOY, objective, horizon).value
    best = {acts[i] for i in torch.nonzero(allowed & (pay == top))[:, 0].tolist()}
    assert best == set(optimal_action_sequences(TOY, objective, horizon))


@pytest.mark.parametrize("objective", ALIGNMENT_OBJECTIVES)
def test_pay_sums_to_the_return_whenever_one_stops(objective: str) -> None:
    game = game_of(drawn(3, 3), people=5, objective=objective, ideal=1)
    table = Simulator(game, {}, {"assistant": range(5)}, 40, rounds=4)
    table.reset(1)
    rng = torch.Generator().manual_seed(0)
    pay = torch.zeros(40, 5)
    while not table.all_finished:
        action = torch.randint(2, (40, 5), generator=rng)
        pay += table.step({"assistant": action}).reward["assistant"]
        now = game.metrics(table.state)
        name = RETURN_CRITERIA[objective]
        assert pay.mean(1).numpy() == pytest.approx(now["paid"].numpy(), abs=1e-5)
        if name != "everybody":
            assert torch.equal(now["paid"], now[f"return_{name}"])


def game_of(model: PersonDRMDP, **more) -> DRMDP:
    return DRMDP(
        rewards=model.rewards,
        natural_transitions=model.natural_transitions,
        influenced_transitions=model.influenced_transitions,
        initial_distribution=model.initial_distribution,
        **{"susceptibility": model.susceptibility, "horizon": 6, **more},
    )


@pytest.mark.parametrize("objective", ALIGNMENT_OBJECTIVES)
def test_what_is_predicted_is_what_happens(objective: str) -> None:
    """Means of 40,000 people of two kinds, each 4.5 standard errors from the formula at most."""
    model = drawn(7, 3)
    model = game_of(model, susceptibility=0.75).person_dr_mdp(0.75)
    game = game_of(
        model, people=40, objective=objective, susceptible_share=0.3, susceptibility_of_others=0.25
    )
    formulas = game.analytic_values(game.default_policies(), 8)
    names = [name for name in formulas if name not in ("optimum", "switch", "at_once")]
    assert len(names) == 12
    played = simulate(game, worlds=1000, rounds=8, seed=5, metrics=names)
    for name in names:
        rows = played.metrics[name].double().numpy()
        error = rows.std(0, ddof=1) / math.sqrt(len(rows))
        assert (np.abs(rows.mean(0) - formulas[name]) <= 4.5 * error + 1e-5).all(), name
    assert formulas["paid"][-1] == pytest.approx(formulas["optimum"], abs=1e-12)


@pytest.mark.parametrize("objective", ["real_time", "final", "natural_shift"])
def test_others_earn_no_more_than_the_optimum(objective: str) -> None:
    game = game_of(drawn(7, 3), objective=objective)
    best = game.analytic_values({}, 6)["optimum"]
    for notion in ALIGNMENT_OBJECTIVES:
        theirs = game.analytic_values({"assistant": DRMDPPlanner(objective=notion)}, 6)["paid"][-1]
        assert theirs <= best + 1e-12
    chance = np.random.default_rng(0).uniform(size=(6, 3, 3, 3, 7))
    model = game.person_dr_mdp(game.susceptibility)
    assert evaluate_policy(model, chance, 6).returns[RETURN_CRITERIA[objective]][-1] <= best + 1e-12


def test_only_those_who_give_in_are_targeted_where_one_can_tell() -> None:
    few = {"people": 50, "susceptible_share": 0.04, "horizon": 8}
    for told, gap in ((True, 1.0), (False, 0.0)):
        game = DRMDP(observe_susceptibility=told, **few)
        played = simulate(game, worlds=3, rounds=8, metrics=["targeting_gap", "influence_share"])
        assert (played.metrics["targeting_gap"][:, -1] == gap).all()
        assert game.analytic_values(game.default_policies(), 8)["targeting_gap"][-1] == gap
    alike = simulate(DRMDP(num_people=4), worlds=2, rounds=2, metrics=["targeting_gap"])
    assert alike.metrics["targeting_gap"].isnan().all()


def test_a_planner_takes_what_it_is_told_to_where_it_is_a_tie() -> None:
    for tied, share in (("noop", 0.0), ("influence", 1.0)):
        players = {"assistant": DRMDPPlanner(tie_break=tied)}
        played = simulate(DRMDP(horizon=2), players, 2, 2, metrics=["influence_share", "paid"])
        assert (played.metrics["influence_share"][:, -1] == share).all()
        assert (played.metrics["paid"][:, -1] == 2.0).all()


def test_the_closed_form_is_published_where_it_holds() -> None:
    for horizon, takes in itertools.product((1, 2, 4, 9), (0.4, 0.51, 0.55, 1.0)):
        game = DRMDP(horizon=horizon, susceptibility=takes)
        found = game.analytic_values({}, horizon)
        at_once = simulate(game, worlds=2, rounds=1, metrics=["influenced_at_once"])
        measured = at_once.metrics["influenced_at_once"][:, -1]
        assert (measured == found["at_once"]).all()
        assert ("switch" in found) == (horizon > 1)
    assert DRMDP(horizon=3).analytic_values({}, 3)["switch"] == pytest.approx(0.618034, abs=1e-6)
    for other in ({"natural": [[1, 0], [0, 1]]}, {"start": [0.5, 0.5]}, {"rewards": [[1, 2]] * 2}):
        assert "switch" not in DRMDP(**other).analytic_values({}, 20)
    assert "at_once" not in DRMDP(susceptible_share=0.5).analytic_values({}, 20)


def test_left_alone_people_are_as_nature_has_them_bit_for_bit() -> None:
    game = game_of(drawn(11, 3), people=30, objective="constrained")
    played = simulate(game, {"assistant": DRMDPPlanner(objective="constrained")}, 20, 6)
    assert torch.equal(played.state.preference, played.state.natural_preference)


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
        simulate(
            DRMDP(),
            {"assistant": DRMDPPlanner(objective="privileged", privileged_preference=4)},
            1,
            1,
        )
