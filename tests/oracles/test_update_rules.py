"""Update rules as a user writes them, each against an independent program."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch

import mores
from mores.core.people import People, Population
from mores.core.random_streams import RandomStreams
from mores.core.update_rule import PeerInputs, RuleResult
from mores.envs.graphs.convert import to_influence_graph
from mores.envs.opinion.coevolution import Coevolution
from mores.registry import REGISTRIES
from mores.sim.first_rounds import check_first_rounds
from mores.sim.simulator import Simulator
from tests.oracles.user_rules import Deffuant, HegselmannKrause, Voter
from tests.refusals import refused

RULES = {"test_hk": HegselmannKrause, "test_deffuant": Deffuant, "test_voter": Voter}
GRAPH = nx.connected_watts_strogatz_graph(50, 4, 0.2, seed=5)
GRAPH.remove_edges_from(list(GRAPH.edges(9)))  # an isolated person


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    for kind, rule in RULES.items():
        mores.register("update_rule", kind, rule)
    mores.register("graph", "test_graph", lambda num_people: GRAPH)
    yield
    for kind in RULES:
        del REGISTRIES["update_rule"][kind]
    del REGISTRIES["graph"]["test_graph"]


def simulator(rule: Any, graph: Any = "test_graph", rounds: int = 30, **other: Any) -> Simulator:
    env = Coevolution(
        human="idealised",
        num_people=50,
        num_assistants=0,
        peers={"rule": rule, "graph": graph},
        **other,
    )
    made = Simulator(
        env, env.default_policies(), worlds=3, rounds=rounds, autoreset_mode="same_step"
    )
    made.reset(4)
    return made


def neighbors(simulator: Simulator) -> list[list[list[int]]]:
    """Neighbors of each person in each world, from networkx for the shared graph."""
    shares = simulator.state.graph
    if shares is None:
        return [[sorted(GRAPH.neighbors(i)) for i in range(50)]] * 3
    return [world.unflatten(0, (50, -1)).tolist() for world in shares.indices]


@pytest.mark.parametrize("graph", ["test_graph", "homophily"])
def test_hegselmann_krause(graph: str) -> None:
    run = simulator({"kind": "test_hk", "confidence": 0.7}, graph)
    for _ in range(4):
        before = run.state.people.values.double().numpy()
        run.step()
        for world, listed in enumerate(neighbors(run)):
            x = before[world]
            for i in range(50):
                averaged = [x[i], *(x[j] for j in listed[i] if np.hypot(*(x[j] - x[i])) <= 0.7)]
                after = run.state.people.values[world, i].numpy()
                assert after == pytest.approx(np.mean(averaged, 0), abs=1e-6)


@pytest.mark.parametrize("graph", ["test_graph", "homophily"])
def test_deffuant(graph: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = simulator("test_deffuant", graph)
    drawn: list[torch.Tensor] = []
    step = Deffuant.step

    def record(self: Deffuant, inputs: PeerInputs, state: Any) -> RuleResult:
        drawn.append(inputs.streams.uniform("partner", 50)[..., 0])
        return step(self, inputs, state)

    monkeypatch.setattr(Deffuant, "step", record)
    pairs = 0
    for _ in range(5):
        before = run.state.people.values.double().numpy()
        run.step()
        for world, listed in enumerate(neighbors(run)):
            u, expected = drawn[-1][world].tolist(), before[world].copy()
            chosen = [n[int(u[i] * len(n))] if n else i for i, n in enumerate(listed)]
            for i, j in enumerate(chosen):
                gap = before[world, j] - before[world, i]
                if chosen[j] == i and np.hypot(*gap) <= 1.5:
                    expected[i] += 0.3 * gap
                    pairs += i != j
            after = run.state.people.values[world].numpy()
            assert after == pytest.approx(expected, abs=1e-6)
            if graph == "test_graph":  # ties are mutual, so the mean is conserved
                assert after.mean(0) == pytest.approx(before[world].mean(0), abs=1e-6)
    assert pairs > 20


class Opposed(Population):
    """People with values -1 and 1."""

    def sample_people(self, streams: RandomStreams) -> People:
        return People(torch.where(streams.uniform("values", 50, 2) < 0.5, -1.0, 1.0))


def test_voters_adopt_the_values_of_neighbors() -> None:
    env = Coevolution(
        human="idealised",
        num_people=50,
        num_assistants=0,
        peers={"rule": "test_voter", "graph": "test_graph"},
    )
    run = Simulator(env, env.default_policies(), worlds=3, rounds=200, population=Opposed())
    run.reset(4)
    changes = torch.zeros(3, 50)
    for _ in range(40):
        before = run.state.people.values
        run.step()
        after = run.state.people.values
        changes += (after != before).any(-1)
        for world, listed in enumerate(neighbors(run)):
            for i in range(50):
                neighbor_values = before[world, listed[i] or [i]].tolist()
                assert after[world, i].tolist() in neighbor_values
    assert torch.equal(run.state.rule_state, changes) and (changes.sum(1) > 100).all()
    assert (changes[:, 9] == 0).all()


def test_share_of_voters_is_a_martingale() -> None:
    """P(all adopt 1) equals the degree-weighted initial share (Suchecki et al. 2005)."""
    rng, graph = np.random.default_rng(0), to_influence_graph(nx.star_graph(4), 5)
    values = torch.from_numpy(rng.integers(0, 2, (4000, 5, 1))).float()
    degrees = torch.tensor([4.0, 1, 1, 1, 1])[:, None]
    conserved = (values * degrees).sum((1, 2)).mean() / 8
    for _ in range(20):
        u = torch.from_numpy(rng.random((4000, 5))).float()
        moved = torch.from_numpy(rng.random((4000, 1, 1))) < 0.5  # asynchronous halves: aperiodic
        new = values.gather(1, graph.sample_neighbors(u)[..., None])
        values = torch.where(moved, new, values)
    share = (values * degrees).sum((1, 2)) / 8
    assert share.mean().item() == pytest.approx(conserved.item(), abs=0.03)


def test_a_rule_state_is_reset_saved_and_restored() -> None:
    run = simulator("test_voter", rounds=3)
    run.step()
    run.step()
    assert run.state.rule_state.any()
    copy = simulator("test_voter", rounds=3)
    copy.load_state_dict(run.state_dict())
    assert torch.equal(copy.state.rule_state, run.state.rule_state)
    run.step()  # the third round; a new episode begins
    assert not run.state.rule_state.any()


def test_signed_ties_and_isolated_people() -> None:
    """Altafini (2013): on a balanced signed graph people split into two opposed camps."""
    camp = np.where(np.arange(50) % 3 == 0, 1.0, -1.0)
    graph = nx.connected_watts_strogatz_graph(49, 6, 0.2, seed=1)
    graph.add_node(49)
    for i, j in graph.edges:
        graph[i][j]["weight"] = camp[i] * camp[j]
    mores.register("graph", "test_signed", lambda num_people: graph)
    try:
        run = simulator("degroot", "test_signed", rounds=400)
        initial = run.state.people.values
        for _ in range(300):
            run.step()
        values = run.state.people.values
    finally:
        del REGISTRIES["graph"]["test_signed"]
    assert torch.equal(values[:, 49], initial[:, 49])
    size = values[:, :49] * torch.from_numpy(camp[:49, None]).float()
    assert (size - size[:, :1]).abs().max() < 1e-4 and size.abs().min() > 1e-4
    neighbor_mean = run.observe("person")[..., -2:]
    assert (neighbor_mean[:, 49] == 0).all()
    assert neighbor_mean[:, :49].numpy() == pytest.approx(values[:, :49].numpy(), abs=1e-4)


def test_closed_forms_only_where_they_hold() -> None:
    """Not with isolated people or large graphs; Friedkin-Johnsen's holds on every small graph."""
    degroot = simulator("degroot").environment
    assert degroot.analytic_values({}, 1) == {}
    anchored = simulator("friedkin_johnsen", rounds=400)
    for _ in range(300):
        anchored.step()
    assert anchored.environment.metrics(anchored.state)["distance_to_equilibrium"].max() < 1e-5
    graph = {"kind": "networkx", "generator": "cycle"}
    small, large = (
        Coevolution(
            human="idealised",
            num_people=n,
            num_assistants=0,
            peers={"rule": "degroot", "graph": graph},
        )
        for n in (101, 5000)
    )
    factor = (1 + 2 * np.cos(2 * np.pi / 101)) / 3
    assert small.analytic_values({}, 1)["contraction_factor"] == pytest.approx(factor)
    assert large.analytic_values({}, 1) == {}


@pytest.mark.parametrize(
    ("rule", "code", "path"),
    [
        ("test_h", "unknown_name", "rule"),
        ({"kind": "friedkin_johnsen", "susceptibility": 2}, "out_of_range", "rule.susceptibility"),
        ({"kind": "degroot", "susceptibility": 1}, "unknown_name", "rule.susceptibility"),
        ({"susceptibility": 1}, "missing", "rule"),
    ],
)
def test_wrong_rules_are_refused(rule: Any, code: str, path: str) -> None:
    with refused(code, f"coevolution.peers.{path}"):
        mores.make_environment("coevolution", peers={"rule": rule})


@pytest.mark.parametrize(
    ("step", "code"),
    [
        (lambda x: RuleResult(x.values[:, :1]), "wrong_shape"),
        (lambda x: RuleResult(torch.tensor(0.5)), "wrong_shape"),
        (lambda x: RuleResult(x.values.double()), "wrong_type"),
        (lambda x: RuleResult(x.values.long()), "wrong_type"),
        (lambda x: RuleResult(None), "wrong_type"),  # type: ignore[arg-type]
        (lambda x: x.values, "wrong_type"),
        (lambda x: RuleResult(x.values.mul_(2)), "modified_input"),
        (lambda x: RuleResult(x.values + 0 * x.answers.zero_()), "modified_input"),
        (lambda x: RuleResult(x.values / 0), "not_finite"),
    ],
)
def test_wrong_results_of_rules_are_refused(
    monkeypatch: pytest.MonkeyPatch, step: Any, code: str
) -> None:
    monkeypatch.setattr(HegselmannKrause, "step", lambda self, inputs, state: step(inputs))
    run = simulator("test_hk")
    if code != "not_finite":  # which is a check of values
        with refused(code, "peers.rule"):
            run.step()
    with refused(code, "peers.rule"):
        check_first_rounds(run.environment)
