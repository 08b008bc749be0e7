"""Who listens to whom: networks of people, in a form that is quick to average over.

A network is kept as neighbour slots: `neighbours[i, k]` is the k-th person whom person i listens
to, with `weights[i, k]`; what is missing to 1 is the weight of one's own view. Empty slots point
to i with weight zero. Adding the slots up one after another is the same sum whatever worlds are
played together.
"""

from __future__ import annotations

import dataclasses

import networkx as nx
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mores.core.deterministic_sum import norm, total
from mores.core.random_streams import RandomStreams


@dataclasses.dataclass(frozen=True)
class InfluenceGraph:
    """Listening ties of every person, the same in all worlds or one set a world.

    Attributes:
        neighbors: whom each person listens to.
        weights: how much, from 0; each person's weights add up to at most 1.
        self_weight: the weight of one's own view, which is the rest.
    """

    neighbors: Int[Tensor, "*world agent slot"]
    weights: Float[Tensor, "*world agent slot"]
    self_weight: Float[Tensor, "*world agent"]

    @staticmethod
    def from_weights(neighbors: Tensor, weights: Tensor) -> InfluenceGraph:
        """With the rest of everybody's weight on their own view."""
        return InfluenceGraph(neighbors, weights, 1.0 - total(weights, -1))


def neighbor_sum(
    graph: InfluenceGraph, answers: Float[Tensor, "world agent value"]
) -> Float[Tensor, "world agent value"]:
    """Weighted sum of what those each person listens to say; the weights need not add up to 1."""
    heard = torch.zeros_like(answers)
    for slot in range(graph.neighbors.shape[-1]):
        neighbour, weight = graph.neighbors[..., slot], graph.weights[..., slot]
        if neighbour.dim() == 1:
            theirs = answers[:, neighbour]
        else:
            theirs = answers.gather(1, neighbour[..., None].expand(answers.shape))
        heard = heard + weight[..., None] * theirs
    return heard


def weighted_mean(
    graph: InfluenceGraph,
    own_values: Float[Tensor, "world agent value"],
    answers: Float[Tensor, "world agent value"],
) -> Float[Tensor, "world agent value"]:
    """Each person's weighted mean of their own view and of what those they listen to say."""
    return add_self(graph, own_values, neighbor_sum(graph, answers))


def add_self(
    graph: InfluenceGraph,
    own_values: Float[Tensor, "world agent value"],
    neighbor_sum: Float[Tensor, "world agent value"],
) -> Float[Tensor, "world agent value"]:
    """One's own view, by its weight, and what one was `neighbor_sum`."""
    return graph.self_weight[..., None] * own_values + neighbor_sum


def from_matrix(matrix: np.ndarray) -> InfluenceGraph:
    """A network from `[agent, agent]` weights of who (row) listens to whom (column)."""
    others = matrix.astype(np.float64) * (1.0 - np.eye(len(matrix)))
    slots = max(1, int((others != 0).sum(1).max()))
    neighbours = np.tile(np.arange(len(matrix))[:, None], (1, slots))
    weights = np.zeros((len(matrix), slots))
    for i, row in enumerate(others):
        (listened,) = np.nonzero(row)
        neighbours[i, : len(listened)] = listened
        weights[i, : len(listened)] = row[listened]
    return InfluenceGraph.from_weights(
        torch.from_numpy(neighbours), torch.from_numpy(weights).to(torch.float32)
    )


def random_walk_matrix(graph: nx.Graph) -> np.ndarray:
    """Everyone listens to themselves as to each friend: the random walk on `A + I`.

    Its stationary distribution is `(d_i + 1) / sum(d + 1)`, with `d` the number of friends.
    """
    adjacency = nx.to_numpy_array(graph, weight="") + np.eye(len(graph))
    return adjacency / adjacency.sum(1, keepdims=True)


def karate_club_matrix() -> np.ndarray:
    """Zachary's karate club (34 people, 78 ties) as a random walk with loops."""
    return random_walk_matrix(nx.karate_club_graph())


def homophily_graph(
    values: Float[Tensor, "world agent value"],
    degree: int,
    peer_weight: float,
    homophily_scale: float,
    num_candidates: int,
    streams: RandomStreams,
) -> InfluenceGraph:
    """Each person meets strangers at random and goes on listening to those most like them.

    Of `num_candidates` others met, `degree` are kept, drawn with probability proportional to
    `exp(-distance / closeness)` without replacement: the largest scores after adding Gumbel noise
    (Kool et al. 2019, arXiv 1903.06059). Somebody met twice may be kept twice, and counts twice.

    Args:
        values: where everybody stands.
        degree: how many each person listens to.
        peer_weight: weight of all ties together; the rest is one's own view.
        homophily_scale: distance, in units of value, over which liking falls by e.
        num_candidates: how many others each person gets to know.
        streams: where chance comes from.
    """
    worlds, agents, dimensions = values.shape
    step = 1 + (streams.uniform("met", agents, num_candidates) * (agents - 1)).to(torch.int64)
    met = (torch.arange(agents, device=values.device)[:, None] + step) % agents  # never oneself
    flat = met.flatten(1)[..., None].expand(-1, -1, dimensions)
    theirs = values.gather(1, flat).unflatten(1, (agents, num_candidates))
    distance = norm(theirs - values[:, :, None])
    score = streams.gumbel("liked", agents, num_candidates) - distance / homophily_scale
    kept = score.topk(degree, dim=-1).indices
    neighbours = met.gather(2, kept)
    weights = torch.full((worlds, agents, degree), peer_weight / degree, device=values.device)
    return InfluenceGraph.from_weights(neighbours, weights)


def permute_nodes(graph: InfluenceGraph, streams: RandomStreams) -> InfluenceGraph:
    """The same network among strangers: people swap places in it at random.

    One shuffle of the people a world: the shape of the network is kept exactly, likeness is lost.
    """
    _, agents, slots = graph.neighbors.shape
    chance = streams.uniform("place", agents)[..., 0]
    place = torch.sort(chance, dim=-1, stable=True).indices  # person -> place in the network
    person = torch.sort(place, dim=-1, stable=True).indices  # place -> person
    rows = place[..., None].expand(-1, -1, slots)
    ties = graph.neighbors.gather(1, rows)
    neighbours = person.gather(1, ties.flatten(1)).unflatten(1, (agents, slots))
    return InfluenceGraph.from_weights(neighbours, graph.weights.gather(1, rows))
