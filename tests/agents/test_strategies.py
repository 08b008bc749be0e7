"""Named strategies against Markov chains by hand; against Axelrod: oracles/test_axelrod.py."""

from __future__ import annotations

import itertools

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

NAMES = (
    *("cooperator", "defector", "tit_for_tat", "suspicious_tit_for_tat", "tit_for_two_tats"),
    *("grudger", "win_stay_lose_shift", "alternator", "random", "generous_tit_for_tat"),
    *("extort_2", "memory_one"),
)
DILEMMA = np.array([[3.0, 0.0], [5.0, 1.0]])  # by own action and the other's


def simulate_actions(policy, rounds, worlds, environment=None, replicates=1):
    """Actions of each round, `[round, world, agent]`."""
    environment, addresses = environment or MatrixGame(), Worlds.grid(replicates, worlds)
    simulator = Simulator(environment, {"player": policy}, worlds=addresses, rounds=rounds)
    simulator.reset(0)
    actions = []
    for _ in range(rounds):
        simulator.step()
        actions.append(simulator.state.last_action)
    return torch.stack(actions)


@pytest.mark.parametrize("row", NAMES)
def test_simulation_matches_analytic_values(row):
    """4,000 worlds of 12 rounds: within 5 standard errors of the exact expectation."""
    parameters = {}
    if row == "memory_one":
        parameters["cooperation_probabilities"] = (0.9, 0.3, 0.6, 0.2)
        parameters["initial_cooperation_probability"] = 0.4
    first = Strategy(name=row, noise_probability=0.05, **parameters)
    second = Strategy(name="generous_tit_for_tat", noise_probability=0.1)
    pair = {"player": PerAgentPolicy(policies=[first, second])}
    environment = MatrixGame(tremble_probability=0.02, continuation_probability=0.9)
    expected = environment.analytic_values(pair, 12)
    names = ["cooperation_rate_by_agent", "mean_payoff_by_agent", "return_by_agent"]
    rounds = [1, 5, 12]
    result = simulate(environment, pair, 4000, 12, seed=3, metrics=names, metric_rounds=rounds)
    for name, agent, (i, round) in itertools.product(names, (0, 1), enumerate(rounds)):
        values = result.metrics[name].values[:, i, agent].astype(float)
        error = values.std(ddof=1) / 4000**0.5
        assert abs(values.mean() - expected[f"{name}[{agent}]"][round]) < 5 * error + 1e-9


PROBABILITY = st.floats(0, 1, width=32)
MEMORY_ONE = st.tuples(st.tuples(*[PROBABILITY] * 4), PROBABILITY)  # later rounds, first round


@settings(max_examples=40)
@given(MEMORY_ONE, MEMORY_ONE)
def test_memory_one_is_the_chain_of_four_states(first, second):
    """Powers of Nowak and Sigmund's matrix over CC, CD, DC, DD (the first agent's action first)."""
    policies = [
        Strategy(
            name="memory_one",
            cooperation_probabilities=later,
            initial_cooperation_probability=start,
        )
        for later, start in (first, second)
    ]
    expected = MatrixGame().analytic_values({"player": PerAgentPolicy(policies=policies)}, 9)
    p, q = np.array(first[0]), np.array(second[0])[[0, 2, 1, 3]]
    matrix = np.stack([p * q, p * (1 - q), (1 - p) * q, (1 - p) * (1 - q)], 1)
    p0, q0 = first[1], second[1]
    state = np.array([p0 * q0, p0 * (1 - q0), (1 - p0) * q0, 0.0])
    state[3] = 1 - state.sum()
    payoffs = []
    for _ in range(9):
        payoffs.append((state @ DILEMMA.flatten(), state @ DILEMMA.T.flatten()))
        state = state @ matrix
    means = np.array(payoffs).cumsum(0) / np.arange(1, 10)[:, None]
    for agent in range(2):
        values = expected[f"mean_payoff_by_agent[{agent}]"][1:]
        assert values == pytest.approx(means[:, agent], abs=1e-6)


@pytest.mark.parametrize("other", ["random", "generous_tit_for_tat", "win_stay_lose_shift"])
def test_extortion(other):
    """In the long run the surplus over mutual defection is twice the other's."""
    pair = PerAgentPolicy(policies=[Strategy(name="extort_2"), Strategy(name=other)])
    expected = MatrixGame().analytic_values({"player": pair}, 4000)
    means = [expected[f"mean_payoff_by_agent[{agent}]"] for agent in range(2)]
    late = [(4000 * mean[4000] - 2000 * mean[2000]) / 2000 for mean in means]
    assert late[0] - 1 == pytest.approx(2 * (late[1] - 1), abs=1e-9)
    assert late[1] > 1.1


def test_several_names_go_through_all_assignments():
    """The first agent's name changes most slowly, in every replicate, also after resets."""
    names = ("cooperator", "defector", "alternator")
    first = {"cooperator": 0, "defector": 1, "alternator": 0}
    second = {"cooperator": 0, "defector": 1, "alternator": 1}
    pairs = list(itertools.product(names, names)) * 2
    actions = simulate_actions(Strategy(name=names), 2, 9, replicates=2)
    assert actions[0].tolist() == [[first[a], first[b]] for a, b in pairs]
    assert actions[1].tolist() == [[second[a], second[b]] for a, b in pairs]
    environment, policies = (
        MatrixGame(continuation_probability=0.5),
        {"player": Strategy(name=names)},
    )
    worlds = Worlds.grid(2, 9)
    simulator = Simulator(
        environment, policies, worlds=worlds, rounds=9, autoreset_mode="same_step"
    )
    simulator.reset(1)
    episodes = 0
    for _ in range(8):
        turn = simulator.step()
        state = simulator.state if turn.final_state is None else turn.final_state
        started = (state.rounds_elapsed == 1).nonzero()[:, 0].tolist()
        episodes += len(started)
        for world in started:
            assert state.last_action[world].tolist() == [first[name] for name in pairs[world]]
    assert episodes > 18 + 36  # one in each of 18 worlds; half of them end in every round
    row = Strategy(name=names, worlds_per_matchup=3)
    pair = PerAgentPolicy(policies=[row, Strategy(name=names)])
    assert torch.equal(simulate_actions(pair, 2, 9), actions[:, :9])
    assert row.automata_by_world(1) == tuple(
        (STRATEGIES[name],) for name in names for _ in range(3)
    )


def test_cooperation_depends_on_the_share_of_cooperating_others():
    """Conditional cooperators among free riders: by hand for four thresholds, three others each."""
    environment = MatrixGame(payoffs="public_goods", num_agents=4, multiplier=2.0)
    for threshold, action in ((0.2, 0), (1 / 3, 0), (0.34, 1), (1.0, 1)):
        conditional = Strategy(name="conditional_cooperator", threshold=threshold)
        policy = PerAgentPolicy(
            policies=[conditional, Strategy(name="free_rider")], agents_per_policy=(2, 2)
        )
        actions = simulate_actions(policy, 3, 1, environment)[:, 0].tolist()
        assert actions == [[0, 0, 1, 1], [action, action, 1, 1], [action, action, 1, 1]]
        expected = environment.analytic_values({"player": policy}, 3)
        metric = "mean_payoff_by_agent"
        result = simulate(environment, {"player": policy}, 1, 3, metrics=[metric])
        for agent in range(4):
            payoffs = result.metrics[metric].values[0, 1:, agent].tolist()
            assert expected[f"{metric}[{agent}]"][1:] == pytest.approx(payoffs, rel=1e-6)


def test_half_a_contribution_is_half_cooperation():
    """The middle one of three levels counts one half; the last level is to defect."""
    environment = MatrixGame(payoffs="public_goods", num_agents=2, num_levels=3)
    for threshold, action in ((0.5, 0), (0.51, 2)):
        policy = Strategy(name="conditional_cooperator", threshold=threshold)
        simulator = Simulator(environment, {"player": policy}, {"player": [1]}, rounds=9)
        simulator.reset(0)
        for _ in range(2):
            simulator.step({"player": torch.tensor([[1]])})
        assert simulator.state.last_action.tolist() == [[action, 1]]


LATER = "cooperation_probabilities"


@pytest.mark.parametrize(
    ("parameters", "code", "path"),
    [
        ({"name": "tit_for_tatt"}, "unknown_name", "strategy.name"),
        ({"name": ["grudger", "pavlow"]}, "unknown_name", "strategy.name"),
        ({"name": []}, "wrong_shape", "strategy.name"),
        ({"name": "memory_one"}, "missing", f"strategy.{LATER}"),
        ({"name": "memory_one", LATER: [1, 0, 1]}, "wrong_shape", f"strategy.{LATER}.3"),
        ({"name": "memory_one", LATER: [1, 0, 1, 2]}, "out_of_range", f"strategy.{LATER}"),
        ({"name": "grudger", LATER: [1, 0, 1, 0]}, "conflict", "strategy"),
        ({"name": "grudger", "initial_cooperation_probability": 1.0}, "conflict", "strategy"),
        ({"name": "grudger", "nois": 0.1}, "unknown_name", "strategy.nois"),
    ],
)
def test_bad_parameters(parameters, code, path):
    with refused(code, path):
        make_policy("strategy", **parameters)


def test_roles_that_a_strategy_does_not_support():
    environment = MatrixGame(memory_depth=0)
    with refused("unsupported", path="policies.player"):
        simulate(environment, {"player": Strategy(name=("defector", "tit_for_tat"))}, rounds=2)
    policy = Strategy(name=("alternator", "defector"))
    actions = simulate_actions(policy, 3, 4, environment)
    assert actions[:, 1].tolist() == [[0, 1], [1, 1], [0, 1]]
    from mores.envs.opinion.lock_in import LockIn

    with refused("unsupported", path="policies.person"):
        simulate(LockIn(num_people=2), {"person": Strategy(name="defector")}, rounds=2)
