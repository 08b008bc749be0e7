"""The update rules of mores against Mesa models, step for step, on one graph."""

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
from mores.core.update_rule import UpdateRule
from mores.envs.dynamics.friedkin_johnsen import FriedkinJohnsen
from mores.envs.graphs.convert import to_influence_graph
from mores.envs.graphs.influence_graph import InfluenceGraph
from mores.envs.opinion.coevolution import Coevolution
from mores.registry import REGISTRIES
from mores.sim.simulator import Simulator
from tests.oracles import user_rules

pytest.importorskip("mesa")
from tests.mesa import reference_models as references

NUM_PEOPLE, STEPS = 40, 25
GRAPH = nx.connected_watts_strogatz_graph(NUM_PEOPLE, 4, 0.2, seed=3)
GRAPH.remove_edges_from(list(GRAPH.edges(7)))  # an isolated person
ROUNDING = 1e-5  # float32 against float64, over all steps


class GivenOpinions(Population):
    """The same opinions in all worlds."""

    opinions: tuple[float, ...]

    def sample_people(self, streams: RandomStreams) -> People:
        opinions = torch.tensor(self.opinions)
        return People(opinions.repeat(streams.num_worlds, 1)[..., None])


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    rules = {"mesa_test_hk": user_rules.HegselmannKrause, "mesa_test_voter": user_rules.Voter}
    for kind, rule in rules.items():
        mores.register("update_rule", kind, rule)
    mores.register("graph", "mesa_test_graph", lambda num_people: GRAPH)
    yield
    for kind in rules:
        del REGISTRIES["update_rule"][kind]
    del REGISTRIES["graph"]["mesa_test_graph"]


def started(rule: UpdateRule, opinions: np.ndarray) -> Simulator:
    """An environment whose people start with these opinions and move by the rule alone."""
    env = Coevolution(
        human="idealised",
        num_people=NUM_PEOPLE,
        num_values=1,
        num_assistants=0,
        peers={"rule": rule, "graph": "mesa_test_graph"},
    )
    population = GivenOpinions(opinions=tuple(opinions.tolist()))
    made = Simulator(env, env.default_policies(), rounds=STEPS + 1, population=population)
    made.reset(0)
    return made


def values(simulator: Simulator) -> np.ndarray:
    return simulator.state.people.values[0, :, 0].numpy()


def first_opinions() -> np.ndarray:
    """Within the range of the environment, as float32 that both programs begin with."""
    return np.random.default_rng(2).uniform(-1, 1, NUM_PEOPLE).astype(np.float32)


def test_friedkin_johnsen() -> None:
    opinions = first_opinions()
    ours = started(FriedkinJohnsen(susceptibility=0.8), opinions)
    mesa_model = references.FriedkinJohnsenModel(GRAPH, opinions.tolist(), susceptibility=0.8)
    for _ in range(STEPS):
        ours.step()
        mesa_model.step()
        assert values(ours) == pytest.approx(mesa_model.opinions, abs=ROUNDING)
    assert np.abs(values(ours) - opinions).max() > 0.1
    assert values(ours)[7] == pytest.approx(opinions[7])  # nobody influences this person


def test_hegselmann_krause() -> None:
    opinions = first_opinions()
    ours = started(user_rules.HegselmannKrause(confidence=0.6), opinions)
    mesa_model = references.HegselmannKrauseModel(GRAPH, opinions.tolist(), confidence=0.6)
    for _ in range(STEPS):
        assert mesa_model.smallest_margin() > ROUNDING, "rounding may change who is heard"
        ours.step()
        mesa_model.step()
        assert values(ours) == pytest.approx(mesa_model.opinions, abs=ROUNDING)
    assert len(np.unique(values(ours).round(3))) > 2  # several camps: the bound had an effect


def test_voter_model_with_recorded_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both programs follow the same neighbors: opinions are equal bit for bit."""
    chosen: list[torch.Tensor] = []
    sample = InfluenceGraph.sample_neighbors

    def record(graph: InfluenceGraph, u: torch.Tensor) -> torch.Tensor:
        chosen.append(sample(graph, u))
        return chosen[-1]

    monkeypatch.setattr(InfluenceGraph, "sample_neighbors", record)
    opinions = np.sign(first_opinions())
    ours = started(user_rules.Voter(), opinions)

    def recorded_neighbor(person: Any) -> Any:
        """The chosen neighbor, whom Mesa's neighborhood must contain."""
        number = int(chosen[-1][0, person.cell.coordinate])
        if not person.neighbors:
            assert number == person.cell.coordinate
            return None
        (neighbor,) = mesa_model.network[number].agents
        assert neighbor in person.neighbors
        return neighbor

    mesa_model = references.VoterModel(GRAPH, opinions.tolist(), recorded_neighbor)
    changes = 0
    for _ in range(STEPS):
        before = values(ours)
        ours.step()
        mesa_model.step()
        assert values(ours).tolist() == mesa_model.opinions
        changes += int((values(ours) != before).sum())
    assert len(chosen) == STEPS and changes > NUM_PEOPLE


def test_random_choices_have_the_same_distribution() -> None:
    """Shares of followed neighbors, of Mesa's generator and of our streams: both uniform."""
    star = nx.star_graph(3)
    model = references.VoterModel(star, [0.0, 1.0, 2.0, 3.0], seed=5)
    center = model.network[0].agents[0]
    followed = [model.random_neighbor(center).opinion for _ in range(3000)]
    u = RandomStreams.of(0, 3000).uniform("neighbor", 4)[..., 0]
    ours = to_influence_graph(star, 4).sample_neighbors(u)[:, 0]
    for number in (1, 2, 3):
        share = followed.count(number) / 3000
        assert share == pytest.approx(1 / 3, abs=0.04)
        assert (ours == number).float().mean().item() == pytest.approx(1 / 3, abs=0.04)
