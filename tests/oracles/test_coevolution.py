"""Peers, the loop law and the twin, against networkx, scipy and closed forms."""

from __future__ import annotations

import dataclasses

import networkx as nx
import numpy as np
import pytest
import scipy.linalg
import torch

from mores.agents.scripted.assistants import LinearTrend, Mirror, Persuader, Silent
from mores.core.environment import ActionOutput
from mores.core.random_streams import RandomStreams
from mores.envs.dynamics import degroot, friedkin_johnsen
from mores.envs.graphs.influence_graph import (
    from_matrix,
    homophily_graph,
    karate_club_matrix,
    permute_nodes,
    weighted_mean,
)
from mores.envs.opinion.coevolution import Coevolution
from mores.envs.opinion.scripted_policies import Truthful
from mores.sim.simulation import simulate
from mores.sim.simulator import Simulator

KARATE = {"network": "karate"}


def test_karate_consensus_weights():
    weights = degroot.consensus_weights(karate_club_matrix())
    degrees = np.array([d for _, d in nx.karate_club_graph().degree()])
    assert weights == pytest.approx((degrees + 1) / (degrees + 1).sum(), abs=1e-12)
    assert weights[0] == pytest.approx(17 / 190, abs=1e-12)
    assert weights[33] == pytest.approx(18 / 190, abs=1e-12)
    graph = nx.karate_club_graph()
    nx.set_edge_attributes(graph, 1, "weight")
    graph.add_edges_from(((i, i) for i in graph), weight=1)
    walk = nx.google_matrix(graph, alpha=1.0)  # networkx's own row-stochastic walk
    assert np.asarray(walk) == pytest.approx(karate_club_matrix(), abs=1e-12)


def test_karate_speed():
    assert degroot.contraction_factor(karate_club_matrix()) == pytest.approx(0.896142, abs=5e-7)
    assert degroot.half_life(karate_club_matrix()) == pytest.approx(6.3211, abs=5e-5)


def test_degroot_reaches_the_consensus():
    game = Coevolution(
        num_people=34, num_values=3, num_assistants=0, peers={**KARATE, "rule": "degroot"}
    )
    played = simulate(game, worlds=5, rounds=200, seed=3)
    start, end = played.state.anchor.double().numpy(), played.state.people.values.double().numpy()
    settled = np.einsum("a,wad->wd", degroot.consensus_weights(karate_club_matrix()), start)
    assert end == pytest.approx(np.repeat(settled[:, None], 34, 1), abs=1e-5)


@pytest.mark.parametrize("susceptibility", [0.0, 0.3, 0.9])
def test_friedkin_johnsen_reaches_its_equilibrium(susceptibility):
    kernel = friedkin_johnsen.equilibrium_matrix(karate_club_matrix(), susceptibility)
    assert kernel.sum(1) == pytest.approx(1.0, abs=1e-12)
    inverse = scipy.linalg.inv(np.eye(34) - susceptibility * karate_club_matrix())
    assert kernel == pytest.approx(inverse * (1 - susceptibility), abs=1e-12)
    peers = {**KARATE, "rule": "friedkin_johnsen", "susceptibility": susceptibility}
    played = simulate(
        Coevolution(num_people=34, num_assistants=0, peers=peers), worlds=5, rounds=250, seed=3
    )
    settled = np.einsum("ab,wbd->wad", kernel, played.state.anchor.double().numpy())
    assert played.state.people.values.double().numpy() == pytest.approx(settled, abs=1e-5)


def test_averaging_over_slots_is_the_matrix_product():
    rng = np.random.default_rng(1)
    matrix = rng.uniform(size=(12, 12)) * (rng.uniform(size=(12, 12)) < 0.4)
    matrix = matrix / np.maximum(matrix.sum(1, keepdims=True), 1e-9) * 0.8
    np.fill_diagonal(matrix, 0.0)
    own, said = torch.randn(2, 3, 12, 2).unbind(0)
    heard = weighted_mean(from_matrix(matrix), own, said).double().numpy()
    own_weight = 1 - matrix.sum(1)
    expected = own_weight[None, :, None] * own.double().numpy() + np.einsum(
        "ab,wbd->wad", matrix, said.double().numpy()
    )
    assert heard == pytest.approx(expected, abs=1e-6)


GRID = [(a, e, ahead) for a in (0.05, 0.2, 0.5) for e in (0.05, 0.1, 0.5) for ahead in (0, 5, 20)]


@pytest.mark.parametrize(("influence", "rate", "ahead"), GRID)
def test_the_loop_law(influence, rate, ahead):
    """Speed and lag by the formulas, with assistants that act through the game."""
    drift = 0.01
    game = Coevolution(
        num_people=6,
        num_values=2,
        history={"carry": 1.0, "drift": drift},
        ai_influence=influence,
        value_limit=1000.0,
    )
    assistant = LinearTrend(learning_rate=rate, forecast_horizon=ahead)
    played = simulate(
        game, {"assistant": assistant}, 2, 400, 0, ["speed", "lag"], metric_rounds=[400]
    )
    speed = drift * rate * (1 + influence * ahead) / (influence + rate)
    lag = drift * (1 - rate * ahead) / (influence + rate)
    assert played.metrics["speed"].numpy() == pytest.approx(speed, rel=0.01)
    assert played.metrics["lag"].numpy() == pytest.approx(lag, rel=0.01, abs=1e-5)


def test_loop_law_figures():
    """Halved, 9.1 % of the speed, and 1.667 times it: figures known beforehand."""

    def speed(influence: float, rate: float, ahead: float) -> float:
        game = Coevolution(history={"carry": 1.0, "drift": 1.0}, ai_influence=influence)
        return game.analytic_values(
            {"assistant": LinearTrend(learning_rate=rate, forecast_horizon=ahead)}, 1
        )["speed"]

    assert speed(0.5, 0.5, 0) == pytest.approx(0.5)
    assert speed(0.5, 0.05, 0) == pytest.approx(0.0909, abs=5e-5)
    assert speed(0.2, 0.1, 20) == pytest.approx(1.667, abs=5e-4)
    assert speed(0.3, 0.25, 4) == pytest.approx(1.0)


class Opinionated(LinearTrend):
    """An assistant that does not begin with what people first answer."""

    def initial_state(self, role, phases, streams):
        memory = super().initial_state(role, phases, streams)
        ones = torch.ones_like(memory.belief)
        return dataclasses.replace(memory, belief=3.0 * ones, initialized=memory.initialized | True)


@pytest.mark.parametrize(("influence", "rate"), [(0.2, 0.3), (0.05, 0.5), (0.4, 0.1)])
def test_without_drift_a_weighted_sum_is_conserved(influence, rate):
    """eta h + alpha a stays; people and assistant meet at (eta h0 + alpha a0) / (eta + alpha)."""
    game = Coevolution(num_people=5, num_values=1, ai_influence=influence)
    assistant = {"assistant": Opinionated(learning_rate=rate)}
    start = simulate(game, assistant, 3, 1, 2).state.anchor.mean(1)
    limit = (rate * start + influence * 3.0) / (rate + influence)
    assert (limit - start).abs().min() > 0.1  # there is a way to go
    for rounds in (5, 300):
        played = simulate(game, assistant, 3, rounds, seed=2)
        people, belief = (
            played.state.people.values.mean(1),
            played.policy_states["assistant"].belief[:, 0],
        )
        held = (rate * people + influence * belief) / (rate + influence)
        assert held.numpy() == pytest.approx(limit.numpy(), abs=1e-5)
    assert people.numpy() == pytest.approx(limit.numpy(), abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "assistant"),
    [
        ({}, Silent()),
        ({}, Persuader(goal=[1.0, 1.0])),
        ({"confidence": 0.3}, LinearTrend()),
        ({"peers": {"rule": "friedkin_johnsen"}}, LinearTrend()),
        ({"ai_influence": 1.0}, LinearTrend(learning_rate=1.0)),
        ({"history": {"carry": 0.5, "drift": 0.01}}, LinearTrend()),
        ({"history": {"carry": 1.0, "drift": 0.01, "pull": 0.1}}, LinearTrend()),
        ({"history": {"carry": 1.0, "table": "progress_by_eye"}}, LinearTrend()),
    ],
)
def test_the_loop_law_is_not_published_where_it_does_not_hold(changes, assistant):
    history = {"carry": 1.0, "drift": 0.01}
    holds = Coevolution(history=history)
    assert "speed" in holds.analytic_values({"assistant": LinearTrend()}, 1)
    game = Coevolution(**{"history": history, **changes})
    assert "speed" not in game.analytic_values({"assistant": assistant}, 1)


def test_peers_are_seen_as_what_they_said():
    """Not mixed with one's own values, nor with history, which nobody sees."""
    peers = {"rule": "degroot", "listening": 0.3, "ties": 4}
    game = Coevolution(
        num_people=30, num_assistants=0, peers=peers, history={"pull": 0.5}, value_limit=3.0
    )
    players = {"person": Loud()}
    table = Simulator(game, players, worlds=2, rounds=9)
    table.reset(1)
    table.step()
    assert (table.observe("person")[..., 4:] == 3.0).all()


class Loud(Truthful):
    """Says the most one can say, whatever one thinks."""

    def act(self, phase, observation, action_mask, state, streams):
        return ActionOutput(torch.full_like(observation[..., :2], 3.0), state)


NOISY = {
    "people": 40,
    "noise": 0.05,
    "history": {"drift": 0.01, "pull": 0.05, "noise": 0.02},
    "peers": {"rule": "friedkin_johnsen", "ties": 5},
}


@pytest.mark.parametrize("assistant", [Silent(), Mirror()])
def test_without_influence_an_arm_is_its_twin_bit_for_bit(assistant):
    influence = 0.3 if isinstance(assistant, Silent) else 0.0
    twin = simulate(Coevolution(num_assistants=0, **NOISY), {}, 4, 50, seed=5)
    arm = simulate(
        Coevolution(ai_influence=influence, **NOISY), {"assistant": assistant}, 4, 50, seed=5
    )
    assert torch.equal(arm.state.people.values, twin.state.people.values)


def test_listened_to_an_arm_is_not_its_twin():
    twin = simulate(Coevolution(num_assistants=0, **NOISY), {}, 4, 50, seed=5)
    arm = simulate(Coevolution(ai_influence=0.01, **NOISY), {"assistant": Mirror()}, 4, 50, seed=5)
    assert not torch.equal(arm.state.people.values, twin.state.people.values)


def test_likeness_makes_like_people_listen_to_each_other():
    values = RandomStreams.of(1, 8).normal("values", 200, 2)

    def apart(network):
        theirs = values.gather(1, network.neighbors.flatten(1)[..., None].expand(-1, -1, 2))
        return (theirs.unflatten(1, (200, -1)) - values[:, :, None]).norm(dim=-1).mean((1, 2))

    draws = RandomStreams.of(1, 8)
    liked = homophily_graph(values, 8, 0.5, 0.3, 64, draws)
    anybody = homophily_graph(values, 8, 0.5, 1e9, 64, draws)
    strangers = permute_nodes(liked, draws)
    assert (apart(liked) < 0.5 * apart(anybody)).all()
    assert apart(strangers).numpy() == pytest.approx(apart(anybody).numpy(), rel=0.15)
    me = torch.arange(200)[:, None]
    for network in (liked, strangers, anybody):
        assert (network.neighbors != me).all()
    for world in range(8):  # the shape is kept: as many people listened to by k others as before
        counts = [
            torch.bincount(n.neighbors[world].flatten(), minlength=200).sort().values
            for n in (liked, strangers)
        ]
        assert torch.equal(*counts)
