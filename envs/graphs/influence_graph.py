"""Weighted influence graphs between people, stored for fast averaging over neighbors.

A graph is an array of neighbor slots: `neighbors[i, k]` is the k-th neighbor of person i, with
weight `weights[i, k]`; person i's own value has the remaining weight, up to 1. Unused slots point
to i with weight zero. Sums run over slots in a fixed order, so that a world's results do not
depend on the batch.
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
from mores.core.stream_addresses import CANDIDATES, HOMOPHILY, PERMUTATION


@dataclasses.dataclass(frozen=True)
class InfluenceGraph:
    """Neighbors of each person and their weights, shared by all worlds or one graph per world.

    Attributes:
        neighbors: indices of the people who influence each person.
        weights: their weights, at least 0; each person's weights sum to at most 1.
        self_weight: weight of the person's own value, the remainder to 1.
    """

    neighbors: Int[Tensor, "*world agent slot"]
    weights: Float[Tensor, "*world agent slot"]
    self_weight: Float[Tensor, "*world agent"]

    @staticmethod
    def from_weights(neighbors: Tensor, weights: Tensor) -> InfluenceGraph:
        """Graph whose self-weights are the remainders of `weights` to 1."""
        return InfluenceGraph(neighbors, weights, 1.0 - total(weights, -1))


def neighbor_sum(
    graph: InfluenceGraph, answers: Float[Tensor, "world agent value"]
) -> Float[Tensor, "world agent value"]:
    """Weighted sum of the neighbors' answers; the weights need not sum to 1."""
    weighted_sum = torch.zeros_like(answers)
    for slot in range(graph.neighbors.shape[-1]):
        neighbor, weight = graph.neighbors[..., slot], graph.weights[..., slot]
        if neighbor.dim() == 1:
            neighbor_answer = answers[:, neighbor]
        else:
            neighbor_answer = answers.gather(1, neighbor[..., None].expand(answers.shape))
        weighted_sum = weighted_sum + weight[..., None] * neighbor_answer
    return weighted_sum


def weighted_mean(
    graph: InfluenceGraph,
    own_values: Float[Tensor, "world agent value"],
    answers: Float[Tensor, "world agent value"],
) -> Float[Tensor, "world agent value"]:
    """Weighted mean of each person's own value and the neighbors' answers."""
    return add_self(graph, own_values, neighbor_sum(graph, answers))


def add_self(
    graph: InfluenceGraph,
    own_values: Float[Tensor, "world agent value"],
    neighbor_sum: Float[Tensor, "world agent value"],
) -> Float[Tensor, "world agent value"]:
    """Sum of `neighbor_sum` and each person's own value times its self-weight."""
    return graph.self_weight[..., None] * own_values + neighbor_sum


def from_matrix(matrix: np.ndarray) -> InfluenceGraph:
    """Graph from `[agent, agent]` weights of each person's (row) neighbors (column)."""
    off_diagonal = matrix.astype(np.float64) * (1.0 - np.eye(len(matrix)))
    slots = max(1, int((off_diagonal != 0).sum(1).max()))
    neighbors = np.tile(np.arange(len(matrix))[:, None], (1, slots))
    weights = np.zeros((len(matrix), slots))
    for i, row in enumerate(off_diagonal):
        (indices,) = np.nonzero(row)
        neighbors[i, : len(indices)] = indices
        weights[i, : len(indices)] = row[indices]
    return InfluenceGraph.from_weights(
        torch.from_numpy(neighbors), torch.from_numpy(weights).to(torch.float32)
    )


def random_walk_matrix(graph: nx.Graph) -> np.ndarray:
    """Transition matrix of the random walk on `A + I`: equal weight to self and each neighbor.

    Its stationary distribution is `(d_i + 1) / sum(d + 1)`, with `d` the degree.
    """
    adjacency = nx.to_numpy_array(graph, weight="") + np.eye(len(graph))
    return adjacency / adjacency.sum(1, keepdims=True)


def karate_club_matrix() -> np.ndarray:
    """Random walk with self-loops on Zachary's karate club (34 people, 78 edges)."""
    return random_walk_matrix(nx.karate_club_graph())


def homophily_graph(
    values: Float[Tensor, "world agent value"],
    degree: int,
    peer_weight: float,
    homophily_scale: float,
    num_candidates: int,
    streams: RandomStreams,
) -> InfluenceGraph:
    """Graph whose neighbors are sampled with a preference for people with similar values.

    From `num_candidates` random others, `degree` are sampled without replacement, proportionally
    to `exp(-distance / homophily_scale)`: the largest scores after adding Gumbel noise (Kool et
    al. 2019, arXiv 1903.06059). A duplicate candidate may be chosen twice and then counts twice.

    Args:
        values: values of all people.
        degree: neighbors per person.
        peer_weight: total weight of all neighbors; the person's own value has the rest.
        homophily_scale: distance at which the sampling weight falls by e, value units.
        num_candidates: candidates per person, sampled uniformly with replacement.
        streams: random streams.
    """
    worlds, agents, dimensions = values.shape
    step = 1 + (streams.uniform(CANDIDATES, agents, num_candidates) * (agents - 1)).to(torch.int64)
    candidates = (torch.arange(agents, device=values.device)[:, None] + step) % agents  # not self
    flat = candidates.flatten(1)[..., None].expand(-1, -1, dimensions)
    candidate_values = values.gather(1, flat).unflatten(1, (agents, num_candidates))
    distance = norm(candidate_values - values[:, :, None])
    score = streams.gumbel(HOMOPHILY, agents, num_candidates) - distance / homophily_scale
    neighbors = candidates.gather(2, score.topk(degree, dim=-1).indices)
    weights = torch.full((worlds, agents, degree), peer_weight / degree, device=values.device)
    return InfluenceGraph.from_weights(neighbors, weights)


def permute_nodes(graph: InfluenceGraph, streams: RandomStreams) -> InfluenceGraph:
    """Graph with the same structure and randomly permuted people, one permutation per world.

    The degree structure is identical; homophily is removed.
    """
    _, agents, slots = graph.neighbors.shape
    u = streams.uniform(PERMUTATION, agents)[..., 0]
    node = torch.sort(u, dim=-1, stable=True).indices  # person -> node
    person = torch.sort(node, dim=-1, stable=True).indices  # node -> person
    rows = node[..., None].expand(-1, -1, slots)
    neighbor_nodes = graph.neighbors.gather(1, rows)
    neighbors = person.gather(1, neighbor_nodes.flatten(1)).unflatten(1, (agents, slots))
    return InfluenceGraph.from_weights(neighbors, graph.weights.gather(1, rows))
