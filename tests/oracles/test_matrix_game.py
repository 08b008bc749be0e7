"""Matrix games against equilibria of nashpy and closed forms; Axelrod: test_axelrod.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

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


def nashpy_equilibria(bimatrix: Bimatrix) -> np.ndarray:
    """Equilibria computed by nashpy, `[equilibrium, option]`, row and column strategy joined."""
    game = nashpy.Game(np.array(bimatrix.row_payoffs), np.array(bimatrix.column_payoffs))
    return sort_rows(np.concatenate(pair) for pair in game.vertex_enumeration())


def mores_equilibria(bimatrix: Bimatrix) -> np.ndarray:
    equilibria = nash_equilibria(bimatrix)
    assert equilibria is not None
    return sort_rows(np.concatenate([e.row_strategy, e.column_strategy]) for e in equilibria)


def sort_rows(rows: Iterable[np.ndarray]) -> np.ndarray:
    return np.array(sorted(rows, key=lambda row: tuple(row.round(5) + 0.0)))


@pytest.mark.parametrize("name", NAMED_GAMES)
def test_equilibria_of_named_games(name):
    bimatrix = NAMED_GAMES[name]
    expected = nashpy_equilibria(bimatrix)
    assert mores_equilibria(bimatrix) == pytest.approx(expected, abs=1e-8)
    first, second = np.array(bimatrix.row_payoffs), np.array(bimatrix.column_payoffs)
    options = len(first)
    pairs = [(e[:options], e[options:]) for e in expected]
    means = [float(x @ (first + second) @ y) / 2 for x, y in pairs]
    values = MatrixGame(payoffs=name).analytic_values({}, 1)
    assert values["num_equilibria"] == len(expected)
    assert values["worst_equilibrium_payoff"] == pytest.approx(min(means), abs=1e-8)
    assert values["best_equilibrium_payoff"] == pytest.approx(max(means), abs=1e-8)
    assert values["max_mean_payoff"] == (first + second).max() / 2
    mixed = [pair for pair in pairs if min(pair[0].min(), pair[1].min()) > 0]
    payoff, cooperation = "mixed_equilibrium_payoff", "mixed_equilibrium_cooperation_rate"
    assert (payoff in values) == bool(mixed)
    for x, y in mixed:
        assert values[cooperation] == pytest.approx((x[0] + y[0]) / 2, abs=1e-8)
        assert values[payoff] == pytest.approx(x @ (first + second) @ y / 2, abs=1e-8)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(2, 4), st.integers(2, 4))
def test_equilibria_of_random_games(seed, rows, columns):
    """Payoffs without ties: the games are nondegenerate."""
    rng = np.random.default_rng(seed)
    first, second = (rng.normal(size=(rows, columns)) for _ in range(2))
    bimatrix = Bimatrix(tuple(map(tuple, first.tolist())), tuple(map(tuple, second.tolist())))
    equilibria = mores_equilibria(bimatrix)
    assert len(equilibria) % 2 == 1  # odd in every nondegenerate game
    assert equilibria == pytest.approx(nashpy_equilibria(bimatrix), abs=1e-6)


def test_no_equilibria_of_degenerate_games():
    """The column player is indifferent: a continuum of equilibria."""
    payoffs = (((1.0, 1.0), (0.0, 0.0)), ((2.0, 2.0), (0.0, 1.0)))
    values = MatrixGame(payoffs=payoffs).analytic_values({}, 1)
    names = {"num_equilibria", "worst_equilibrium_payoff", "mixed_equilibrium_payoff"}
    assert not names & set(values)


def test_critical_discount_factor():
    """Against a grudger, cooperation is optimal from (T - R) / (T - P), and not below."""
    threshold = MatrixGame().analytic_values({}, 1)["critical_discount_factor"]
    assert threshold == 0.5
    policies = {"player": PerAgentPolicy(policies=[UniformRandom(), Strategy(name="grudger")])}
    for continuation in (0.3, threshold - 0.05, threshold + 0.05, 0.8):
        env = MatrixGame(continuation_probability=continuation)
        best = env.analytic_values(policies, 300)["best_response_return[0]"][-1]
        cooperate, defect = 3 / (1 - continuation), 5 + continuation * 1 / (1 - continuation)
        assert (cooperate > defect) == (continuation > threshold)
        assert best == pytest.approx(max(cooperate, defect), rel=1e-9)
    for name in ("stag_hunt", "deadlock", "matching_pennies", "rock_paper_scissors"):
        values = MatrixGame(payoffs=name).analytic_values({}, 1)
        assert "critical_discount_factor" not in values


def test_public_goods_by_formula():
    """Random contributions of seven agents with five levels, in float64; dominant strategies."""
    env = MatrixGame(
        payoffs="public_goods", num_agents=7, multiplier=2.5, endowment=4.0, num_levels=5
    )
    simulator = Simulator(env, {"player": UniformRandom()}, worlds=50, rounds=9)
    simulator.reset(5)
    sums = np.zeros((50, 7))
    for _ in range(6):
        simulator.step()
        shares = 1 - simulator.state.last_action.numpy() / 4
        payoffs = 4.0 - 4.0 * shares + 2.5 * 4.0 * shares.sum(1, keepdims=True) / 7
        sums += payoffs
        assert simulator.state.last_payoff.numpy() == pytest.approx(payoffs, rel=1e-6)
    metrics = env.metrics(simulator.state)
    assert metrics["mean_payoff_by_agent"].numpy() == pytest.approx(sums / 6, rel=1e-5)
    assert metrics["efficiency"].numpy() == pytest.approx(sums.mean(1) / 6 / 10.0, rel=1e-5)
    for agents, multiplier in ((2, 1.5), (4, 3.9), (4, 4.1), (5, 0.5)):
        env = MatrixGame(payoffs="public_goods", num_agents=agents, multiplier=multiplier)
        values = env.analytic_values({}, 1)
        share = 1.0 if multiplier > agents else 0.0
        assert values["equilibrium_cooperation_rate"] == share
        payoffs = [(1 - g) + multiplier * g / agents for g in (0.0, 1.0)]
        assert (payoffs[1] > payoffs[0]) == bool(share)
        assert values["worst_equilibrium_payoff"] == (multiplier if share else 1.0)
        assert values["max_mean_payoff"] == max(1.0, multiplier)


def test_public_goods_of_two_equal_a_prisoner_s_dilemma():
    """Same actions and payoffs as with the payoff matrix."""
    half, names = 1.6 / 2, ["mean_payoff_by_agent", "efficiency"]
    matrix = ((2 * half, half), (1 + half, 1.0))
    results = [
        simulate(env, {"player": UniformRandom()}, 40, 10, metrics=names)
        for env in (MatrixGame(payoffs="public_goods"), MatrixGame(payoffs=matrix))
    ]
    for name in names:
        first, second = (result.metrics[name].values[:, 1:] for result in results)
        assert first == pytest.approx(second, rel=1e-6)
    values = MatrixGame(payoffs=matrix).analytic_values({}, 1)
    assert values["critical_discount_factor"] == pytest.approx(0.2 / 0.8)


def test_episode_lengths_are_geometric():
    """20,000 worlds; chi-square test at level .001, power .9 against a probability of .79."""
    env, worlds, name = MatrixGame(continuation_probability=0.8), 20_000, "rounds_played"
    result = simulate(env, {}, worlds, 60, seed=11, metrics=[name])
    counts = np.bincount(result.metrics[name].values[:, -1].astype(int), minlength=61)
    assert counts[0] == 0
    binned = np.append(counts[1:21], counts[21:].sum())
    probability = 0.8 ** np.arange(20) * 0.2
    expected = worlds * np.append(probability, 0.8**20)
    assert chisquare(binned, expected).pvalue > 0.001
    mean = result.metrics[name].values.mean(0, dtype=float)
    assert mean == pytest.approx(env.analytic_values({}, 60)[name], abs=5 * 4.5 / worlds**0.5)
    unlimited = simulate(MatrixGame(), {}, 3, 60, metrics=[name])
    assert (unlimited.metrics[name][:, -1] == 60).all()


@pytest.mark.parametrize(
    ("agents", "memory", "levels"), [(2, 0, 2), (2, 1, 3), (4, 3, 3), (3, 8, 2)]
)
def test_observation_contains_last_actions(agents, memory, levels):
    """Newest first, zeros before the first round, mean over other agents."""
    env = MatrixGame(
        payoffs="public_goods", num_agents=agents, memory_depth=memory, num_levels=levels
    )
    simulator = Simulator(env, {"player": UniformRandom()}, worlds=4, rounds=9)
    simulator.reset(2)
    history: list[np.ndarray] = []
    space = env.roles[0].observation_space
    for _ in range(6):
        observation = simulator.observe("player")
        assert observation.shape == (4, agents, 2 * memory * levels + 1)
        own, other = (
            space.read(observation, part).unflatten(-1, (memory, levels)).numpy()
            for part in ("own_actions", "other_actions")
        )
        assert (space.read(observation, "game_started") == bool(history)).all()
        for lag in range(memory):
            if lag >= len(history):
                assert not own[:, :, lag].any()
                assert not other[:, :, lag].any()
                continue
            one_hot = np.eye(levels)[history[-1 - lag]]  # world agent option
            assert (own[:, :, lag] == one_hot).all()
            for agent in range(agents):
                mean = np.delete(one_hot, agent, 1).mean(1)
                assert other[:, agent, lag] == pytest.approx(mean, abs=1e-6)
        simulator.step()
        history.append(simulator.state.last_action.numpy())


def test_observation_contains_nothing_else():
    """Only `action_history` changes the observation: no payoffs, sums or older actions."""
    env = MatrixGame(memory_depth=2)
    simulator = Simulator(env, {"player": UniformRandom()}, worlds=16, rounds=9)
    simulator.reset(2)
    for _ in range(4):
        simulator.step()
    observation = simulator.observe("player")
    for field in dataclasses.fields(simulator.state):
        value = getattr(simulator.state, field.name)
        value = value + 3 if field.name == "rounds_elapsed" else 1 - value
        state = dataclasses.replace(simulator.state, **{field.name: value})
        unchanged = torch.equal(env.observe(state, "player", "choose"), observation)
        assert unchanged == (field.name != "action_history"), field.name
    assert simulator.state.action_history.shape[-1] == 2


def test_trembles_are_uniform_over_other_options():
    """30,000 intended options 1 of 3, within 5 standard errors."""
    env = MatrixGame(payoffs="rock_paper_scissors", tremble_probability=0.3)
    simulator = Simulator(env, {}, {"player": [0, 1]}, worlds=15_000, rounds=9)
    simulator.reset(4)
    simulator.step({"player": torch.ones(15_000, 2, dtype=torch.int64)})
    shares = np.bincount(simulator.state.last_action.flatten().numpy(), minlength=3) / 30_000
    assert shares == pytest.approx([0.15, 0.7, 0.15], abs=5 * (0.7 * 0.3 / 30_000) ** 0.5)
    assert "num_equilibria" not in env.analytic_values({}, 1)


def test_agents_with_different_numbers_of_options():
    """Two matrices of two rows and three columns: the first agent has no third option."""
    first = ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    second = ((6.0, 5.0, 4.0), (3.0, 2.0, 9.0))
    env = MatrixGame(payoffs=(first, second))
    simulator = Simulator(env, {}, {"player": [0, 1]}, rounds=9)
    simulator.reset(0)
    mask = simulator.action_mask("player", 3)
    assert mask.tolist() == [[[True, True, False], [True, True, True]]]
    turn = simulator.step({"player": torch.tensor([[1, 2]])})
    assert turn.reward["player"].tolist() == [[6.0, 9.0]]
    turn = simulator.step({"player": torch.tensor([[2, 1]])})
    assert turn.projected["player"].tolist() == [[True, False]]
    assert turn.reward["player"].tolist() == [[2.0, 5.0]]  # projected to the first legal option
    policies, name = {"player": Strategy(name="defector")}, "mean_payoff_by_agent"
    result = simulate(env, policies, 1, 4, metrics=[name])
    assert result.metrics[name].values[0, -1].tolist() == [6.0, 9.0]
    assert env.analytic_values(policies, 4)[f"{name}[1]"][4] == 9.0
    expected = nashpy_equilibria(Bimatrix(first, second))
    assert mores_equilibria(Bimatrix(first, second)) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(
    ("parameters", "code", "path"),
    [
        ({"payoffs": "prisoner_dilemma"}, "unknown_name", "payoffs"),
        ({"payoffs": "chicken", "num_agents": 3}, "conflict", ""),
        ({"payoffs": "chicken", "multiplier": 2.0}, "conflict", ""),
        ({"payoffs": ((1.0, 2.0, 3.0), (1.0, 2.0, 3.0))}, "wrong_shape", "payoffs"),
        ({"payoffs": ((1.0, 2.0), (1.0,))}, "wrong_shape", "payoffs"),
        ({"payoffs": ((1.0,),)}, "wrong_shape", "payoffs"),
        ({"payoffs": [[1, 2], [3, "x"]]}, "wrong_type", "payoffs"),
        ({"payoffs": [[1, 2], [3, True]]}, "wrong_type", "payoffs"),
        ({"payoffs": [[1, 2], [3, float("nan")]]}, "not_finite", "payoffs.1.1"),
        ({"payoffs": [[[1, 2], [3, 4]]]}, "wrong_shape", "payoffs"),
        ({"payoffs": 3}, "wrong_type", "payoffs"),
        ({"payoffs": [1, 2]}, "wrong_type", "payoffs"),
        (
            {"payoffs": (((1.0, 2.0), (1.0, 2.0)), ((1.0, 2.0), (1.0, 2.0), (0.0, 0.0)))},
            *("wrong_shape", "payoffs"),
        ),
        ({"continuation_probability": 1.2}, "out_of_range", "continuation_probability"),
        ({"memori": 2}, "unknown_name", "memori"),
    ],
)
def test_invalid_parameters(parameters, code, path):
    with refused(code, f"matrix_game.{path}".rstrip(".")):
        make_environment("matrix_game", **parameters)


def test_all_named_games_can_be_simulated():
    for name in GAME_NAMES:
        result = simulate(MatrixGame(payoffs=name), {}, 2, 3, metrics=["mean_payoff"])
        assert result.metrics["round"].values.tolist() == [0, 1, 2, 3]
