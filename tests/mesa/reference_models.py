"""Opinion dynamics as a Mesa user writes them: one object per person on a `Network`.

References for the update rules of mores: synchronous updates, Python's 64-bit floats. Steps are in
two passes, so that no person sees a value of the same step.

- Voter model: each person adopts the opinion of one neighbor (Clifford and Sudbury 1973).
- Friedkin-Johnsen (1990): weighted mean of the neighborhood and the own first opinion.
- Hegselmann-Krause (2002): mean over those in the neighborhood within a confidence bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import mesa
import networkx as nx
from mesa.discrete_space import CellAgent, Network


class Person(CellAgent):
    """A person on a node, with an opinion and the next one."""

    model: OpinionModel

    def __init__(self, model: OpinionModel, opinion: float, cell: Any) -> None:
        super().__init__(model)
        self.first_opinion = self.opinion = self.next_opinion = opinion
        self.cell = cell

    @property
    def neighbors(self) -> list[Person]:
        assert self.cell is not None
        return list(self.cell.neighborhood.agents)

    def compute(self) -> None:
        raise NotImplementedError

    def adopt(self) -> None:
        self.opinion = self.next_opinion


class OpinionModel(mesa.Model):
    """People of one class on a network; a step is a synchronous update."""

    person_class: type[Person]

    def __init__(self, graph: nx.Graph, opinions: Iterable[float], seed: int | None = None) -> None:
        super().__init__(seed=seed)
        self.network = Network(graph, capacity=1, random=self.random)
        cells = [self.network[node] for node in graph.nodes]
        self.person_class.create_agents(self, len(cells), list(opinions), cells)
        self.datacollector = mesa.DataCollector(agent_reporters={"opinion": "opinion"})

    @property
    def opinions(self) -> list[float]:
        return self.agents.get("opinion")

    def step(self) -> None:
        self.agents.do("compute")
        self.agents.do("adopt")


class Voter(Person):
    model: VoterModel

    def compute(self) -> None:
        chosen = self.model.choose(self)
        self.next_opinion = self.opinion if chosen is None else chosen.opinion


class VoterModel(OpinionModel):
    """`choose` picks the neighbor whom a person follows; by default at random."""

    person_class = Voter

    def __init__(
        self,
        graph: nx.Graph,
        opinions: Iterable[float],
        choose: Callable[[Person], Person | None] | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(graph, opinions, seed)
        self.choose = choose or self.random_neighbor

    def random_neighbor(self, person: Person) -> Person | None:
        return self.random.choice(person.neighbors) if person.neighbors else None


class StubbornPerson(Person):
    model: FriedkinJohnsenModel

    def compute(self) -> None:
        group = [self, *self.neighbors]
        mean = sum(each.opinion for each in group) / len(group)
        susceptibility = self.model.susceptibility
        self.next_opinion = susceptibility * mean + (1 - susceptibility) * self.first_opinion


class FriedkinJohnsenModel(OpinionModel):
    person_class = StubbornPerson

    def __init__(
        self,
        graph: nx.Graph,
        opinions: Iterable[float],
        susceptibility: float = 0.9,
        seed: int | None = None,
    ) -> None:
        super().__init__(graph, opinions, seed)
        self.susceptibility = susceptibility


class BoundedPerson(Person):
    model: HegselmannKrauseModel

    def compute(self) -> None:
        heard = [self.opinion]
        for neighbor in self.neighbors:
            if abs(neighbor.opinion - self.opinion) <= self.model.confidence:
                heard.append(neighbor.opinion)
        self.next_opinion = sum(heard) / len(heard)


class HegselmannKrauseModel(OpinionModel):
    person_class = BoundedPerson

    def __init__(
        self,
        graph: nx.Graph,
        opinions: Iterable[float],
        confidence: float = 0.5,
        seed: int | None = None,
    ) -> None:
        super().__init__(graph, opinions, seed)
        self.confidence = confidence

    def smallest_margin(self) -> float:
        """Smallest distance of a pair of neighbors from the confidence bound."""
        gaps = (
            abs(abs(neighbor.opinion - person.opinion) - self.confidence)
            for person in self.agents
            for neighbor in person.neighbors
        )
        return min(gaps)
