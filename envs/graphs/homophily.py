"""Graphs of people with similar values, sampled per world, and the same graphs permuted."""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mores.core.deterministic_sum import norm
from mores.core.errors import ParameterError
from mores.core.graph import GraphSource
from mores.core.person_parameters import world_number
from mores.core.random_streams import RandomStreams
from mores.core.stream_addresses import CANDIDATES, HOMOPHILY, PERMUTATION
from mores.envs.graphs.influence_graph import InfluenceGraph
from mores.registry.varying import WorldNumber

CHUNK = 2**20  # candidates whose distances are computed at once, over all worlds


class Homophily(GraphSource):
    """Neighbors sampled with a preference for people with similar values; one graph per world.

    From `num_candidates` random others, `degree` are sampled without replacement, proportionally
    to `exp(-distance / homophily_scale)`: the largest scores after adding Gumbel noise (Kool et
    al. 2019, arXiv 1903.06059). A duplicate candidate may be chosen twice and then counts twice.
    """

    degree: int = Field(
        default=8,
        ge=1,
        le=1000,
        description="neighbors of each person; one may be drawn twice and then counts twice",
    )
    num_candidates: int = Field(
        default=64, ge=1, le=10_000, description="candidates sampled per person"
    )
    homophily_scale: float = Field(
        default=0.3,
        gt=0,
        description="distance at which the sampling weight falls by the factor e",
    )
    peer_weight: Annotated[float, WorldNumber(ge=0, le=1)] = Field(
        default=0.5,
        description="share of all neighbors in averages, in equal parts; the person's own value "
        "has the rest",
    )

    @property
    def elements_per_person(self) -> int:
        """Ties as made and as multiplied; candidates are sampled in chunks."""
        return 6 * self.degree

    def check_num_people(self, num_people: int) -> None:
        """Refuse a single person, and more neighbors than candidates."""
        if num_people < 2:
            raise ParameterError(message="a homophily graph needs num_people >= 2", code="conflict")
        if self.degree > self.num_candidates:
            raise ParameterError(
                "degree", message="degree must not exceed num_candidates", code="conflict"
            )

    def world_graphs(
        self, values: Float[Tensor, "world agent value"], streams: RandomStreams
    ) -> InfluenceGraph:
        """One graph for each world, from people's initial values."""
        worlds, agents, _ = values.shape
        chunk = max(1, CHUNK // (worlds * self.num_candidates))
        people = torch.arange(agents, device=values.device)
        neighbors = [self._neighbors(values, part, streams) for part in people.split(chunk)]
        share = world_number(self.peer_weight, streams) / self.degree
        weights = torch.zeros((worlds, agents, self.degree), device=values.device) + share
        return InfluenceGraph.from_slots(torch.cat(neighbors, 1), weights)

    def _neighbors(self, values: Tensor, people: Tensor, streams: RandomStreams) -> Tensor:
        """Neighbors of some people, `[world, agent, slot]`."""
        agents, dimensions = values.shape[1:]
        u = streams.uniform(CANDIDATES, people, self.num_candidates)
        candidates = (people[:, None] + 1 + (u * (agents - 1)).to(torch.int64)) % agents  # not self
        flat = candidates.flatten(1)[..., None].expand(-1, -1, dimensions)
        candidate_values = values.gather(1, flat).unflatten(1, candidates.shape[1:])
        distance = norm(candidate_values - values[:, people, None])
        noise = streams.gumbel(HOMOPHILY, people, self.num_candidates)
        score = noise - distance / self.homophily_scale
        return candidates.gather(2, score.topk(self.degree, dim=-1).indices).to(torch.int32)


class PermutedHomophily(Homophily):
    """Homophily graphs with randomly permuted people: the same degrees without homophily."""

    def world_graphs(
        self, values: Float[Tensor, "world agent value"], streams: RandomStreams
    ) -> InfluenceGraph:
        """One graph for each world; see `Homophily`."""
        return permute_people(super().world_graphs(values, streams), self.degree, streams)


def permute_people(graph: InfluenceGraph, degree: int, streams: RandomStreams) -> InfluenceGraph:
    """The graphs with people at random nodes. Every person has `degree` ties.

    The structure is the same up to the names of people, one permutation per world.
    """
    u = streams.uniform(PERMUTATION, graph.num_people)[..., 0]
    node = torch.sort(u, dim=-1, stable=True).indices  # person -> node
    person = torch.sort(node, dim=-1, stable=True).indices.to(torch.int32)  # node -> person
    rows = node[..., None].expand(-1, -1, degree)
    slots = (graph.num_people, degree)
    neighbor_nodes = graph.indices.unflatten(1, slots).gather(1, rows)
    neighbors = person.gather(1, neighbor_nodes.flatten(1).to(torch.int64)).unflatten(1, slots)
    weights = graph.weights.unflatten(1, slots).gather(1, rows)
    return InfluenceGraph.from_slots(neighbors, weights)
