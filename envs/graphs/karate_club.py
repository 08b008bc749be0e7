"""Zachary's karate club (1977): 34 people, 78 ties, without weights."""

from __future__ import annotations

import dataclasses

import torch

from mores.core.deterministic_sum import total
from mores.core.errors import ParameterError
from mores.core.graph import GraphSource
from mores.envs.graphs.csr_graph import CsrGraph
from mores.envs.graphs.influence_graph import InfluenceGraph

NUM_PEOPLE = 34


class KarateClub(GraphSource):
    """Every person gives equal shares to themselves and to each neighbor; shared by all worlds.

    The stationary distribution of this random walk is `(d_i + 1) / sum(d + 1)`, with d the degree.
    """

    def check_num_people(self, num_people: int) -> None:
        """Refuse other numbers than 34."""
        if num_people != NUM_PEOPLE:
            message = f"the karate club graph needs num_people={NUM_PEOPLE}"
            raise ParameterError(message=message, code="conflict")

    def shared_graph(self, num_people: int) -> InfluenceGraph:
        """The graph of the club."""
        return karate_club_graph()


def karate_club_graph() -> InfluenceGraph:
    """The club's graph. Own shares are remainders to 1, with the rounding of that sum."""
    import networkx as nx

    graph = CsrGraph.from_networkx(nx.karate_club_graph(), weight=None).influence_graph()
    slots = torch.zeros(NUM_PEOPLE, int(graph.degree.max()))
    slots[torch.arange(slots.shape[1]) < graph.degree[:, None]] = graph.weights
    return dataclasses.replace(graph, self_weight=1.0 - total(slots, -1))
