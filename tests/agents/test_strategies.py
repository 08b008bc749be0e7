"""Named strategies against those of the Axelrod library, and against Markov chains by hand."""

from __future__ import annotations

import itertools

import axelrod
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mores.agents.composite.per_agent import PerAgentPolicy
from mores.agents.scripted.named_strategies import STRATEGIES
from mores.agents.scripted.repeated_game import Strategy
from mores.core.random_streams import Worlds
from mores.envs.strategic.matrix_game import MatrixGame
from mores.registry import make_policy
from mores.sim.simulation import simulate
from mores.sim.simulator import Simulator
from tests.refusals import refused

THEIRS = {
    "cooperator": axelrod.Cooperator,
    "defector": axelrod.Defector,
    "tit_for_tat": axelrod.TitForTat,
    "suspicious_tit_for_tat": axelrod.SuspiciousTitForTat,
    "tit_for_two_tats": axelrod.TitFor2Tats,
    "grudger": axelrod.Grudger,
    "win_stay_lose_shift": axelrod.WinStayLoseShift,
    "alternator": axelrod.Alternator,
}
TOSSING = {
    "random": lambda: axelrod.Random(0.5),
    "generous_tit_for_tat": lambda: axelrod.GTFT(p=1 / 3),
    "extort_2": axelrod.ZDExtort2,
}
EVERYBODY = {**THEIRS, **TOSSING}
DILEMMA = np.array([[3.0, 0.0], [5.0, 1.0]])  # by own act and the other's


def moves(player, turns, worlds, game=None, replicates=1):
    """What was done in each round, `[round, world, seat]`."""
    game = game or MatrixGame()
    table = Simulator(
        game, {"player": player}, worlds=Worlds.grid(replicates, worlds), rounds=turns
    )
    table.reset(0)
    done = []
    for _ in range(turns):
        table.step()
        done.append(table.state.last_action)
    return torch.stack(done)


def test_every_pair_moves_as_in_axelrod():
    """All pairs of strategies without chance, 100 turns, in one batch of worlds."""
    names = tuple(THEIRS)
    done = moves(Strategy(name=names), 100, len(names) ** 2)
    for world, (row, column) in enumerate(itertools.product(names, names)):
        match = axelrod.Match((THEIRS[row](), THEIRS[column]()), turns=100)
        theirs = [[int(act == axelrod.Action.D) for act in both] for both in match.play()]
        assert done[:, world].tolist() == theirs, (row, column)


def test_four_of_axelrod_s_tournament():
    """Means of 100 turns without self-play; and their tournament, not ours, says what they are."""
    names = ("cooperator", "defector", "tit_for_tat", "grudger")
    entrants = [THEIRS[name]() for name in names]
    theirs = axelrod.Tournament(entrants, turns=100, repetitions=1).play(progress_bar=False)
    game = MatrixGame()
    played = simulate(
        game,
        {"player": Strategy(name=names)},
        Worlds.grid(1, 16),
        100,
        metrics=["payoffs"],
        metric_rounds=[100],
    )
    payoffs = played.metrics["payoffs"][:, 0, 0].view(4, 4).double()
    ours = (payoffs.sum(1) - payoffs.diag()) / 3
    assert ours.tolist() == pytest.approx([s[0] for s in theirs.normalised_scores], abs=1e-6)
    assert ours.tolist() == pytest.approx([2.00, 2.36, 2.33, 2.33], abs=1e-6)


@pytest.mark.parametrize("row", EVERYBODY)
def test_slips_and_tosses_come_to_what_they_do_in_axelrod(row):
    """20 turns of 150 matches a pair: their mean is 4.5 of its standard errors from our exact one.

    44 comparisons (both seats' cooperation), each with a false alarm in 7e-6 of the seeds.
    """
    turns, matches, noise = 20, 150, 0.1
    for column in ("tit_for_tat", "grudger", "win_stay_lose_shift", "extort_2"):
        pair = PerAgentPolicy(
            policies=[
                Strategy(name=row, noise_probability=noise),
                Strategy(name=column, noise_probability=noise),
            ]
        )
        expected = MatrixGame().analytic_values({"player": pair}, turns)
        shares = []
        for seed in range(matches):
            players = (EVERYBODY[row](), EVERYBODY[column]())
            match = axelrod.Match(players, turns=turns, noise=noise, seed=seed)
            match.play()
            shares.append(match.normalised_cooperation())
        for seat in range(2):
            theirs = np.array(shares)[:, seat]
            error = theirs.std(ddof=1) / matches**0.5
            ours = expected[f"cooperations[{seat}]"][turns]
            assert abs(theirs.mean() - ours) < 4.5 * error, (row, column, seat)


@pytest.mark.parametrize("row", [*EVERYBODY, "memory_one"])
def test_what_is_played_is_what_is_predicted(row):
    """4,000 worlds of 12 rounds: within 5 standard errors of the exact expectation."""
    more = {"chances": (0.9, 0.3, 0.6, 0.2), "first": 0.4} if row == "memory_one" else {}
    first = Strategy(name=row, noise_probability=0.05, **more)
    pair = {
        "player": PerAgentPolicy(
            policies=[first, Strategy(name="generous_tit_for_tat", noise_probability=0.1)]
        )
    }
    game = MatrixGame(tremble_probability=0.02, continuation_probability=0.9)
    expected = game.analytic_values(pair, 12)
    names = ["cooperations", "payoffs", "returns"]
    played = simulate(game, pair, 4000, 12, seed=3, metrics=names, metric_rounds=[1, 5, 12])
    for name, seat, (place, round) in itertools.product(names, (0, 1), enumerate((1, 5, 12))):
        ours = played.metrics[name][:, place, seat].double().numpy()
        error = ours.std(ddof=1) / 4000**0.5
        assert abs(ours.mean() - expected[f"{name}[{seat}]"][round]) < 5 * error + 1e-9


CHANCE = st.floats(0, 1, width=32)
FOUR = st.tuples(CHANCE, CHANCE, CHANCE, CHANCE)


@settings(max_examples=40)
@given(FOUR, FOUR, CHANCE, CHANCE)
def test_memory_one_is_the_chain_of_four_states(mine, yours, first, other):
    """Nowak and Sigmund's matrix over CC, CD, DC, DD as the first sees them, by its powers."""
    players = [
        Strategy(
            name="memory_one", cooperation_probabilities=mine, initial_cooperation_probability=first
        ),
        Strategy(
            name="memory_one",
            cooperation_probabilities=yours,
            initial_cooperation_probability=other,
        ),
    ]
    expected = MatrixGame().analytic_values({"player": PerAgentPolicy(policies=players)}, 9)
    p, q = np.array(mine), np.array(yours)[[0, 2, 1, 3]]
    matrix = np.stack([p * q, p * (1 - q), (1 - p) * q, (1 - p) * (1 - q)], 1)
    state = np.array([first * other, first * (1 - other), (1 - first) * other, 0.0])
    state[3] = 1 - state.sum()
    earned = []
    for _ in range(9):
        earned.append((state @ DILEMMA.flatten(), state @ DILEMMA.T.flatten()))
        state = state @ matrix
    means = np.array(earned).cumsum(0) / np.arange(1, 10)[:, None]
    for seat in range(2):
        assert expected[f"payoffs[{seat}]"][1:] == pytest.approx(means[:, seat], abs=1e-6)


@pytest.mark.parametrize("other", ["random", "generous_tit_for_tat", "win_stay_lose_shift"])
def test_extortion(other):
    """In the long run the surplus over mutual defection is twice the other's."""
    pair = PerAgentPolicy(policies=[Strategy(name="extort_2"), Strategy(name=other)])
    expected = MatrixGame().analytic_values({"player": pair}, 4000)
    late = [
        (4000 * expected[f"payoffs[{i}]"][4000] - 2000 * expected[f"payoffs[{i}]"][2000]) / 2000
        for i in range(2)
    ]
    assert late[0] - 1 == pytest.approx(2 * (late[1] - 1), abs=1e-9)
    assert late[1] > 1.1


def test_several_names_go_through_all_ways_to_be_seated():
    """The first seat's digit is the slowest, in every replicate, also after worlds began anew."""
    names = ("cooperator", "defector", "alternator")
    first = {"cooperator": 0, "defector": 1, "alternator": 0}
    second = {"cooperator": 0, "defector": 1, "alternator": 1}
    ways = list(itertools.product(names, names)) * 2
    done = moves(Strategy(name=names), 2, 9, replicates=2)
    assert done[0].tolist() == [[first[a], first[b]] for a, b in ways]
    assert done[1].tolist() == [[second[a], second[b]] for a, b in ways]
    game = MatrixGame(continuation_probability=0.5)
    table = Simulator(
        game, {"player": Strategy(name=names)}, worlds=Worlds.grid(2, 9), rounds=9, autoreset=True
    )
    table.reset(1)
    anew = 0
    for _ in range(8):
        turn = table.step()
        state = table.state if turn.final_state is None else turn.final_state
        begun = (state.rounds == 1).nonzero()[:, 0].tolist()
        anew += len(begun)
        for world in begun:
            assert state.last_action[world].tolist() == [
                first[ways[world][0]],
                first[ways[world][1]],
            ]
    assert anew > 18 + 36  # 18 worlds begin once; half of them anew after every round
    row = Strategy(name=names, worlds_per_matchup=3)
    pair = moves(PerAgentPolicy(policies=[row, Strategy(name=names)]), 2, 9)
    assert torch.equal(pair, done[:, :9])
    assert row.automata_by_world(1) == tuple(
        (STRATEGIES[name],) for name in names for _ in range(3)
    )


def test_one_against_many_sees_how_many_cooperated():
    """Conditional cooperators among free riders: by hand for four thresholds, three others each."""
    game = MatrixGame(payoffs="public_goods", num_agents=4, multiplier=2.0)
    for threshold, goes_on in ((0.2, 0), (1 / 3, 0), (0.34, 1), (1.0, 1)):
        players = [
            Strategy(name="conditional_cooperator", threshold=threshold),
            Strategy(name="free_rider"),
        ]
        cast = PerAgentPolicy(policies=players, agents_per_policy=(2, 2))
        done = moves(cast, 3, 1, game)[:, 0].tolist()
        assert done == [[0, 0, 1, 1], [goes_on, goes_on, 1, 1], [goes_on, goes_on, 1, 1]]
        exact = game.analytic_values({"player": cast}, 3)
        played = simulate(game, {"player": cast}, 1, 3, metrics=["payoffs"])
        for seat in range(4):
            ours = played.metrics["payoffs"][0, 1:, seat].tolist()
            assert exact[f"payoffs[{seat}]"][1:] == pytest.approx(ours, rel=1e-6)


def test_half_a_contribution_is_half_cooperation():
    """Of three levels the middle one counts for half; the last one is to defect."""
    game = MatrixGame(payoffs="public_goods", num_agents=2, num_levels=3)
    for threshold, answer in ((0.5, 0), (0.51, 2)):
        player = Strategy(name="conditional_cooperator", threshold=threshold)
        table = Simulator(game, {"player": player}, {"player": [1]}, rounds=9)
        table.reset(0)
        for _ in range(2):
            table.step({"player": torch.tensor([[1]])})
        assert table.state.last_action.tolist() == [[answer, 1]]


@pytest.mark.parametrize(
    ("parameters", "code", "path"),
    [
        ({"name": "tit_for_tatt"}, "unknown_name", "strategy.name"),
        ({"name": ["grudger", "pavlow"]}, "unknown_name", "strategy.name"),
        ({"name": []}, "wrong_shape", "strategy.name"),
        ({"name": "memory_one"}, "missing", "strategy.chances"),
        ({"name": "memory_one", "chances": [1, 0, 1]}, "wrong_shape", "strategy.chances.3"),
        ({"name": "memory_one", "chances": [1, 0, 1, 2]}, "out_of_range", "strategy.chances"),
        ({"name": "grudger", "chances": [1, 0, 1, 0]}, "conflict", "strategy"),
        ({"name": "grudger", "first": 1.0}, "conflict", "strategy"),
        ({"name": "grudger", "nois": 0.1}, "unknown_name", "strategy.nois"),
    ],
)
def test_bad_parameters(parameters, code, path):
    with refused(code, path):
        make_policy("strategy", **parameters)


def test_seats_that_a_strategy_cannot_fill():
    forgetful = MatrixGame(memory_depth=0)
    with refused("unsupported", path="players.player"):
        simulate(forgetful, {"player": Strategy(name=("defector", "tit_for_tat"))}, rounds=2)
    done = moves(Strategy(name=("alternator", "defector")), 3, 4, forgetful)
    assert done[:, 1].tolist() == [[0, 1], [1, 1], [0, 1]]
    from mores.envs.opinion.lock_in import LockIn

    with refused("unsupported", path="players.person"):
        simulate(LockIn(num_people=2), {"person": Strategy(name="defector")}, rounds=2)
