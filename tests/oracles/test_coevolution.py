"""Peer influence, tracking lag and twin arms against networkx, scipy and closed forms."""

from __future__ import annotations

import dataclasses

import networkx as nx
import numpy as np
import pytest
import scipy.linalg
import torch

from mores.agents.scripted.assistants import LinearTrend, Mirror, Persuader, Silent
from mores.core.policy import ActionOutput
from mores.envs.dynamics import degroot, friedkin_johnsen
from mores.envs.graphs.karate_club import karate_club_graph
from mores.envs.opinion.coevolution import Coevolution
from mores.envs.opinion.scripted_policies import Truthful
from mores.sim.simulation import simulate
from mores.sim.simulator import Simulator

KARATE = karate_club_graph().matrix().toarray()


def test_karate_consensus_weights():
    weights = degroot.consensus_weights(KARATE)
    degrees = np.array([d for _, d in nx.karate_club_graph().degree()])
    assert weights == pytest.approx((degrees + 1) / (degrees + 1).sum(), abs=1e-12)
    assert weights[0] == pytest.approx(17 / 190, abs=1e-12)
    assert weights[33] == pytest.approx(18 / 190, abs=1e-12)
    graph = nx.karate_club_graph()
    nx.set_edge_attributes(graph, 1, "weight")
    graph.add_edges_from(((i, i) for i in graph), weight=1)
    walk = nx.google_matrix(graph, alpha=1.0)  # row-stochastic walk of networkx
    assert np.asarray(walk) == pytest.approx(KARATE, abs=1e-12)


def test_karate_contraction():
    assert degroot.contraction_factor(KARATE) == pytest.approx(0.896142, abs=5e-7)
    assert degroot.half_life(KARATE) == pytest.approx(6.3211, abs=5e-5)


def test_degroot_converges_to_consensus():
    env = Coevolution(
        human="idealised",
        num_people=34,
        num_values=3,
        num_assistants=0,
        peers={"graph": "karate_club", "rule": "degroot"},
    )
    result = simulate(env, worlds=5, rounds=200, seed=3)
    initial, end = result.state.anchor.double().numpy(), result.state.people.values.double().numpy()
    consensus = np.einsum("a,wad->wd", degroot.consensus_weights(KARATE), initial)
    assert end == pytest.approx(np.repeat(consensus[:, None], 34, 1), abs=1e-5)


@pytest.mark.parametrize("susceptibility", [0.0, 0.3, 0.9])
def test_friedkin_johnsen_converges_to_equilibrium(susceptibility):
    matrix = friedkin_johnsen.equilibrium_matrix(KARATE, susceptibility)
    assert matrix.sum(1) == pytest.approx(1.0, abs=1e-12)
    inverse = scipy.linalg.inv(np.eye(34) - susceptibility * KARATE)
    assert matrix == pytest.approx(inverse * (1 - susceptibility), abs=1e-12)
    rule = {"kind": "friedkin_johnsen", "susceptibility": susceptibility}
    peers = {"graph": "karate_club", "rule": rule}
    result = simulate(
        Coevolution(human="idealised", num_people=34, num_assistants=0, peers=peers),
        worlds=5,
        rounds=250,
        seed=3,
    )
    equilibrium = np.einsum("ab,wbd->wad", matrix, result.state.anchor.double().numpy())
    assert result.state.people.values.double().numpy() == pytest.approx(equilibrium, abs=1e-5)


GRID = [(a, e, h) for a in (0.05, 0.2, 0.5) for e in (0.05, 0.1, 0.5) for h in (0, 5, 20)]


@pytest.mark.cut(14)
@pytest.mark.parametrize(("alpha", "eta", "horizon"), GRID)
def test_tracking_lag(alpha, eta, horizon):
    """Velocity and lag of simulated assistants equal the closed form."""
    drift = 0.01
    env = Coevolution(
        human="idealised",
        num_people=6,
        num_values=2,
        history={"drift_share": 1.0, "drift": drift},
        ai_influence=alpha,
        value_limit=1000.0,
    )
    assistant = LinearTrend(learning_rate=eta, forecast_horizon=horizon)
    names = ["velocity", "tracking_lag"]
    result = simulate(env, {"assistant": assistant}, 2, 400, 0, names, metric_rounds=[400])
    velocity = drift * eta * (1 + alpha * horizon) / (alpha + eta)
    lag = drift * (1 - eta * horizon) / (alpha + eta)
    assert result.metrics["velocity"].values == pytest.approx(velocity, rel=0.01)
    assert result.metrics["tracking_lag"].values == pytest.approx(lag, rel=0.01, abs=1e-5)


def test_tracking_lag_numbers():
    """Known numbers: 50 %, 9.1 % and 166.7 % of the drift."""

    def velocity(alpha: float, eta: float, horizon: float) -> float:
        env = Coevolution(
            human="idealised", history={"drift_share": 1.0, "drift": 1.0}, ai_influence=alpha
        )
        return env.analytic_values(
            {"assistant": LinearTrend(learning_rate=eta, forecast_horizon=horizon)}, 1
        )["velocity"]

    assert velocity(0.5, 0.5, 0) == pytest.approx(0.5)
    assert velocity(0.5, 0.05, 0) == pytest.approx(0.0909, abs=5e-5)
    assert velocity(0.2, 0.1, 20) == pytest.approx(1.667, abs=5e-4)
    assert velocity(0.3, 0.25, 4) == pytest.approx(1.0)


class Opinionated(LinearTrend):
    """Assistant whose initial estimate is 3."""

    def initial_state(self, role, phases, streams):
        state = super().initial_state(role, phases, streams)
        ones = torch.ones_like(state.belief)
        return dataclasses.replace(state, belief=3.0 * ones, initialized=state.initialized | True)


@pytest.mark.cut(3)
@pytest.mark.parametrize(("alpha", "eta"), [(0.2, 0.3), (0.05, 0.5), (0.4, 0.1)])
def test_without_drift_a_weighted_sum_is_conserved(alpha, eta):
    """eta h + alpha a is constant; the limit is (eta h0 + alpha a0) / (eta + alpha)."""
    env = Coevolution(human="idealised", num_people=5, num_values=1, ai_influence=alpha)
    assistant = {"assistant": Opinionated(learning_rate=eta)}
    initial = simulate(env, assistant, 3, 1, 2).state.anchor.mean(1)
    limit = (eta * initial + alpha * 3.0) / (eta + alpha)
    assert (limit - initial).abs().min() > 0.1  # the limit is not the start
    for rounds in (5, 300):
        result = simulate(env, assistant, 3, rounds, seed=2)
        people, belief = (
            result.state.people.values.mean(1),
            result.policy_states["assistant"].belief[:, 0],
        )
        conserved = (eta * people + alpha * belief) / (eta + alpha)
        assert conserved.numpy() == pytest.approx(limit.numpy(), abs=1e-5)
    assert people.numpy() == pytest.approx(limit.numpy(), abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "assistant"),
    [
        ({}, Silent()),
        ({}, Persuader(goal=[1.0, 1.0])),
        ({"confidence_bound": 0.3}, LinearTrend()),
        ({"peers": {"rule": "friedkin_johnsen"}}, LinearTrend()),
        ({"ai_influence": 1.0}, LinearTrend(learning_rate=1.0)),
        ({"history": {"drift_share": 0.5, "drift": 0.01}}, LinearTrend()),
        ({"history": {"drift_share": 1.0, "drift": 0.01, "attraction": 0.1}}, LinearTrend()),
        ({"history": {"drift_share": 1.0, "trajectory": "progressgym_digitized"}}, LinearTrend()),
    ],
)
def test_no_tracking_lag_outside_its_assumptions(changes, assistant):
    history = {"drift_share": 1.0, "drift": 0.01}
    linear = Coevolution(human="idealised", history=history)
    assert "velocity" in linear.analytic_values({"assistant": LinearTrend()}, 1)
    env = Coevolution(human="idealised", **{"history": history, **changes})
    assert "velocity" not in env.analytic_values({"assistant": assistant}, 1)


def test_neighbor_mean_contains_answers_only():
    """It contains neither the person's own value nor history."""
    graph = {"kind": "homophily", "peer_weight": 0.3, "degree": 4}
    peers = {"rule": "degroot", "graph": graph}
    env = Coevolution(
        human="idealised",
        num_people=30,
        num_assistants=0,
        peers=peers,
        history={"attraction": 0.5},
        value_limit=3.0,
    )
    policies = {"person": Loud()}
    simulator = Simulator(env, policies, worlds=2, rounds=9)
    simulator.reset(1)
    simulator.step()
    assert (simulator.observe("person")[..., 4:] == 3.0).all()


class Loud(Truthful):
    """Person that answers 3."""

    def act(self, phase, observation, action_mask, state, streams):
        return ActionOutput(torch.full_like(observation[..., :2], 3.0), state)


NOISY = {
    "num_people": 40,
    "noise_std": 0.05,
    "history": {"drift": 0.01, "attraction": 0.05, "noise_std": 0.02},
    "peers": {"rule": "friedkin_johnsen", "graph": {"kind": "homophily", "degree": 5}},
}


@pytest.mark.parametrize("assistant", [Silent(), Mirror()])
def test_arm_without_influence_equals_its_twin_bit_for_bit(assistant):
    alpha = 0.3 if isinstance(assistant, Silent) else 0.0
    twin = simulate(Coevolution(human="idealised", num_assistants=0, **NOISY), {}, 4, 50, seed=5)
    arm = simulate(
        Coevolution(human="idealised", ai_influence=alpha, **NOISY),
        {"assistant": assistant},
        4,
        50,
        seed=5,
    )
    assert torch.equal(arm.state.people.values, twin.state.people.values)


def test_arm_with_influence_differs_from_its_twin():
    twin = simulate(Coevolution(human="idealised", num_assistants=0, **NOISY), {}, 4, 50, seed=5)
    arm = simulate(
        Coevolution(human="idealised", ai_influence=0.01, **NOISY),
        {"assistant": Mirror()},
        4,
        50,
        seed=5,
    )
    assert not torch.equal(arm.state.people.values, twin.state.people.values)
