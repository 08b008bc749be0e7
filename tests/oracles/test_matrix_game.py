"""Matrix games against nashpy's equilibria, closed forms, and plays of the Axelrod library."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable

import axelrod
import nashpy
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from mores.agents.composite.per_agent import PerAgentPolicy
from mores.agents.scripted.repeated_game import Strategy
from mores.agents.scripted.uniform_random import UniformRandom
from mores.envs.strategic.bimatrix_games import NAMED_GAMES, Bimatrix, nash_equilibria
from mores.envs.strategic.matrix_game import GAME_NAMES, MatrixGame
from mores.registry import make_environment
from mores.sim.simulation import simulate
from mores.sim.simulator import Simulator
from tests.refusals import refused


def theirs(tables: Bimatrix) -> np.ndarray:
    """Equilibria by nashpy's own polytopes: `[equilibrium, option]`, both sides in a row."""
    game = nashpy.Game(np.array(tables.row_payoffs), np.array(tables.column_payoffs))
    found = game.vertex_enumeration()
    return in_order(np.concatenate(pair) for pair in found)


def ours(tables: Bimatrix) -> np.ndarray:
    found = nash_equilibria(tables)
    assert found is not None
    return in_order(np.concatenate([e.row_strategy, e.column_strategy]) for e in found)


def in_order(rows: Iterable[np.ndarray]) -> np.ndarray:
    return np.array(sorted(rows, key=lambda row: tuple(row.round(5) + 0.0)))


@pytest.mark.parametrize("name", NAMED_GAMES)
def test_equilibria_of_named_games(name):
    tables = NAMED_GAMES[name]
    expected = theirs(tables)
    assert ours(tables) == pytest.approx(expected, abs=1e-8)
    first, second = np.array(tables.row_payoffs), np.array(tables.column_payoffs)
    options = len(first)
    pairs = [(e[:options], e[options:]) for e in expected]
    means = [float(x @ (first + second) @ y) / 2 for x, y in pairs]
    found = MatrixGame(payoffs=name).analytic_values({}, 1)
    assert found["equilibria"] == len(expected)
    assert found["equilibrium_low"] == pytest.approx(min(means), abs=1e-8)
    assert found["equilibrium_high"] == pytest.approx(max(means), abs=1e-8)
    assert found["best"] == (first + second).max() / 2
    mixed = [p for p in pairs if min(p[0].min(), p[1].min()) > 0]
    assert ("mixed_payoff" in found) == bool(mixed)
    for x, y in mixed:
        assert found["mixed_cooperation"] == pytest.approx((x[0] + y[0]) / 2, abs=1e-8)
        assert found["mixed_payoff"] == pytest.approx(x @ (first + second) @ y / 2, abs=1e-8)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(2, 4), st.integers(2, 4))
def test_equilibria_of_any_game(seed, rows, columns):
    """Payoffs without ties, so that nobody's enumeration is in doubt."""
    chance = np.random.default_rng(seed)
    first, second = (chance.normal(size=(rows, columns)) for _ in range(2))
    tables = Bimatrix(tuple(map(tuple, first.tolist())), tuple(map(tuple, second.tolist())))
    found = ours(tables)
    assert len(found) % 2 == 1  # as it is in every game that is not degenerate
    assert found == pytest.approx(theirs(tables), abs=1e-6)


def test_a_degenerate_game_has_no_list_of_equilibria():
    """The second is indifferent wherever the first does its best: a line of equilibria."""
    found = MatrixGame(
        payoffs=(((1.0, 1.0), (0.0, 0.0)), ((2.0, 2.0), (0.0, 1.0)))
    ).analytic_values({}, 1)
    assert not {"equilibria", "equilibrium_low", "mixed_payoff"} & set(found)


def test_how_much_the_future_must_count():
    """Against a grudger, cooperating for ever is best from (T - R) / (T - P) on, and not below."""
    least = MatrixGame().analytic_values({}, 1)["lasting"]
    assert least == 0.5
    cast = {"player": PerAgentPolicy(policies=[UniformRandom(), Strategy(name="grudger")])}
    for goes_on in (0.3, least - 0.05, least + 0.05, 0.8):
        found = MatrixGame(continuation_probability=goes_on).analytic_values(cast, 300)[
            "best_return[0]"
        ][-1]
        for_ever, once = 3 / (1 - goes_on), 5 + goes_on * 1 / (1 - goes_on)
        assert (for_ever > once) == (goes_on > least)
        assert found == pytest.approx(max(for_ever, once), rel=1e-9)
    for name in ("stag_hunt", "deadlock", "matching_pennies", "rock_paper_scissors"):
        assert "lasting" not in MatrixGame(payoffs=name).analytic_values({}, 1)


AGAINST = {
    "tit_for_tat": axelrod.TitForTat,
    "tit_for_two_tats": axelrod.TitFor2Tats,
    "grudger": axelrod.Grudger,
    "win_stay_lose_shift": axelrod.WinStayLoseShift,
    "alternator": axelrod.Alternator,
    "suspicious_tit_for_tat": axelrod.SuspiciousTitForTat,
}


@pytest.mark.parametrize("name", AGAINST)
def test_the_best_reply_is_the_best_of_all_that_can_be_done(name):
    """All 2^7 ways to play seven rounds, each played in Axelrod's library."""
    rounds, most = 7, -np.inf
    for way in itertools.product([axelrod.Action.C, axelrod.Action.D], repeat=rounds):
        match = axelrod.Match((axelrod.MockPlayer(list(way)), AGAINST[name]()), turns=rounds)
        match.play()
        most = max(most, match.final_score()[0])
    cast = {"player": PerAgentPolicy(policies=[UniformRandom(), Strategy(name=name)])}
    found = MatrixGame().analytic_values(cast, rounds)
    assert found["best_return[0]"][rounds] == pytest.approx(most)
    assert found["best_payoff[0]"][rounds] == pytest.approx(most / rounds)
    assert "payoff" not in found  # anyhow is no strategy
    assert "best_return[1]" not in found


def test_public_goods_by_their_formula():
    """Any acts of seven with five levels, worked out in float64; and what is best for oneself."""
    game = MatrixGame(
        payoffs="public_goods", num_agents=7, multiplier=2.5, endowment=4.0, num_levels=5
    )
    table = Simulator(game, {"player": UniformRandom()}, worlds=50, rounds=9)
    table.reset(5)
    sums = np.zeros((50, 7))
    for _ in range(6):
        table.step()
        given = 1 - table.state.last_action.numpy() / 4
        earned = 4.0 - 4.0 * given + 2.5 * 4.0 * given.sum(1, keepdims=True) / 7
        sums += earned
        assert table.state.paid.numpy() == pytest.approx(earned, rel=1e-6)
    measured = game.metrics(table.state)
    assert measured["payoffs"].numpy() == pytest.approx(sums / 6, rel=1e-5)
    assert measured["welfare"].numpy() == pytest.approx(sums.mean(1) / 6 / 10.0, rel=1e-5)
    for agents, multiplier in ((2, 1.5), (4, 3.9), (4, 4.1), (5, 0.5)):
        game = MatrixGame(payoffs="public_goods", num_agents=agents, multiplier=multiplier)
        found = game.analytic_values({}, 1)
        share = 1.0 if multiplier > agents else 0.0
        assert found["equilibrium_cooperation"] == share
        alone = [(1 - g) + multiplier * g / agents for g in (0.0, 1.0)]
        assert (alone[1] > alone[0]) == bool(share)
        assert found["equilibrium_low"] == (multiplier if share else 1.0)
        assert found["best"] == max(1.0, multiplier)


def test_two_players_of_public_goods_are_a_prisoner_s_dilemma():
    """The same payoffs from a table: the same play, bit for bit."""
    half = 1.6 / 2
    table = ((2 * half, half), (1 + half, 1.0))
    both = [
        simulate(game, {"player": UniformRandom()}, 40, 10, metrics=["payoffs", "welfare"])
        for game in (MatrixGame(payoffs="public_goods"), MatrixGame(payoffs=table))
    ]
    for name in ("payoffs", "welfare"):
        first, second = (played.metrics[name][:, 1:].numpy() for played in both)
        assert first == pytest.approx(second, rel=1e-6)
    assert MatrixGame(payoffs=table).analytic_values({}, 1)["lasting"] == pytest.approx(0.2 / 0.8)


def test_lengths_of_episodes_are_geometric():
    """20,000 worlds; chi-square at a level of .001. It would notice .8 that is .79 nine in ten."""
    game, worlds = MatrixGame(continuation_probability=0.8), 20_000
    played = simulate(game, {}, worlds, 60, seed=11, metrics=["rounds"])
    last = played.metrics["rounds"][:, -1].numpy()
    counts = np.bincount(last.astype(int), minlength=61)
    assert counts[0] == 0
    binned = np.append(counts[1:21], counts[21:].sum())
    chance = 0.8 ** np.arange(20) * 0.2
    expected = worlds * np.append(chance, 0.8**20)
    assert chisquare(binned, expected).pvalue > 0.001
    mean = played.metrics["rounds"].double().mean(0).numpy()
    assert mean == pytest.approx(game.analytic_values({}, 60)["rounds"], abs=5 * 4.5 / worlds**0.5)
    endless = simulate(MatrixGame(), {}, 3, 60, metrics=["rounds"])
    assert (endless.metrics["rounds"][:, -1] == 60).all()


@pytest.mark.parametrize(
    ("agents", "memory", "levels"), [(2, 0, 2), (2, 1, 3), (4, 3, 3), (3, 8, 2)]
)
def test_everybody_sees_the_last_acts(agents, memory, levels):
    """The newest first, zeros before there were any, others on average."""
    game = MatrixGame(
        payoffs="public_goods", num_agents=agents, memory_depth=memory, num_levels=levels
    )
    table = Simulator(game, {"player": UniformRandom()}, worlds=4, rounds=9)
    table.reset(2)
    done: list[np.ndarray] = []
    sees = game.roles[0].observation_space
    for _ in range(6):
        seen = table.observe("player")
        assert seen.shape == (4, agents, 2 * memory * levels + 1)
        own = sees.read(seen, "own").unflatten(-1, (memory, levels)).numpy()
        others = sees.read(seen, "others").unflatten(-1, (memory, levels)).numpy()
        assert (sees.read(seen, "begun") == bool(done)).all()
        for back in range(memory):
            if back >= len(done):
                assert not own[:, :, back].any()
                assert not others[:, :, back].any()
                continue
            marks = np.eye(levels)[done[-1 - back]]  # world seat option
            assert (own[:, :, back] == marks).all()
            for seat in range(agents):
                rest = np.delete(marks, seat, 1).mean(1)
                assert others[:, seat, back] == pytest.approx(rest, abs=1e-6)
        table.step()
        done.append(table.state.last_action.numpy())


def test_nothing_else_is_seen():
    """Payoffs, sums and older acts change no sight; what is remembered does."""
    game = MatrixGame(memory_depth=2)
    table = Simulator(game, {"player": UniformRandom()}, worlds=16, rounds=9)
    table.reset(2)
    for _ in range(4):
        table.step()
    before = table.observe("player")
    for field in dataclasses.fields(table.state):
        held = getattr(table.state, field.name)
        state = dataclasses.replace(table.state, **{field.name: 1 - held})
        if field.name == "rounds":
            state = dataclasses.replace(table.state, rounds=held + 3)
        same = torch.equal(game.observe(state, "player", "choose"), before)
        assert same == (field.name != "past"), field.name
    assert table.state.past.shape[-1] == 2


def test_hands_tremble_towards_any_other_option():
    """30,000 acts that meant option 1 of 3: within 5 standard errors of a third of .3 more."""
    game = MatrixGame(payoffs="rock_paper_scissors", tremble_probability=0.3)
    table = Simulator(game, {}, {"player": [0, 1]}, worlds=15_000, rounds=9)
    table.reset(4)
    table.step({"player": torch.ones(15_000, 2, dtype=torch.int64)})
    shares = np.bincount(table.state.last_action.flatten().numpy(), minlength=3) / 30_000
    assert shares == pytest.approx([0.15, 0.7, 0.15], abs=5 * (0.7 * 0.3 / 30_000) ** 0.5)
    assert "equilibria" not in game.analytic_values({}, 1)


def test_two_with_unlike_options():
    """Two tables of two rows and three columns: the first has no third option."""
    first = ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    second = ((6.0, 5.0, 4.0), (3.0, 2.0, 9.0))
    game = MatrixGame(payoffs=(first, second))
    table = Simulator(game, {}, {"player": [0, 1]}, rounds=9)
    table.reset(0)
    assert table.action_mask("player", 3).tolist() == [[[True, True, False], [True, True, True]]]
    turn = table.step({"player": torch.tensor([[1, 2]])})
    assert turn.reward["player"].tolist() == [[6.0, 9.0]]
    turn = table.step({"player": torch.tensor([[2, 1]])})
    assert turn.projected["player"].tolist() == [[True, False]]
    assert turn.reward["player"].tolist() == [[2.0, 5.0]]  # the first open option instead
    pair = {"player": Strategy(name="defector")}
    played = simulate(game, pair, 1, 4, metrics=["payoffs"])
    assert played.metrics["payoffs"][0, -1].tolist() == [6.0, 9.0]
    assert game.analytic_values(pair, 4)["payoffs[1]"][4] == 9.0
    expected = theirs(Bimatrix(first, second))
    assert ours(Bimatrix(first, second)) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(
    ("parameters", "code", "path"),
    [
        ({"payoffs": "prisoner_dilemma"}, "unknown_name", "payoffs"),
        ({"payoffs": "chicken", "agents": 3}, "conflict", ""),
        ({"payoffs": "chicken", "multiplier": 2.0}, "conflict", ""),
        ({"payoffs": ((1.0, 2.0, 3.0), (1.0, 2.0, 3.0))}, "wrong_shape", "payoffs"),
        ({"payoffs": ((1.0, 2.0), (1.0,))}, "wrong_shape", "payoffs"),
        ({"payoffs": ((1.0,),)}, "wrong_shape", "payoffs"),
        ({"payoffs": [[1, 2], [3, "x"]]}, "wrong_type", "payoffs"),
        ({"payoffs": [[1, 2], [3, True]]}, "wrong_type", "payoffs"),
        ({"payoffs": [[1, 2], [3, float("nan")]]}, "wrong_type", "payoffs"),
        ({"payoffs": [[[1, 2], [3, 4]]]}, "wrong_shape", "payoffs"),
        ({"payoffs": 3}, "wrong_type", "payoffs"),
        ({"payoffs": [1, 2]}, "wrong_type", "payoffs"),
        (
            {"payoffs": (((1.0, 2.0), (1.0, 2.0)), ((1.0, 2.0), (1.0, 2.0), (0.0, 0.0)))},
            *("wrong_shape", "payoffs"),
        ),
        ({"continuation": 1.2}, "out_of_range", "continuation"),
        ({"memori": 2}, "unknown_name", "memori"),
    ],
)
def test_bad_parameters(parameters, code, path):
    with refused(code, f"matrix_game.{path}".rstrip(".")):
        make_environment("matrix_game", **parameters)


def test_every_name_is_a_game():
    for name in GAME_NAMES:
        assert simulate(MatrixGame(payoffs=name), {}, 2, 3, metrics=["payoff"]).rounds == (
            0,
            1,
            2,
            3,
        )
