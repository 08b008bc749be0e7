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
from mores.core.random_streams import Draws


@dataclasses.dataclass(frozen=True)
class Network:
    """Listening ties of every person, the same in all worlds or one set a world.

    Attributes:
        neighbours: whom each person listens to.
        weights: how much, from 0; each person's weights add up to at most 1.
        own: the weight of one's own view, which is the rest.
    """

    neighbours: Int[Tensor, "*world agent slot"]
    weights: Float[Tensor, "*world agent slot"]
    own: Float[Tensor, "*world agent"]

    @staticmethod
    def of(neighbours: Tensor, weights: Tensor) -> Network:
        """With the rest of everybody's weight on their own view."""
        return Network(neighbours, weights, 1.0 - total(weights, -1))


def told(
    network: Network, said: Float[Tensor, "world agent value"]
) -> Float[Tensor, "world agent value"]:
    """Weighted sum of what those each person listens to say; the weights need not add up to 1."""
    heard = torch.zeros_like(said)
    for slot in range(network.neighbours.shape[-1]):
        neighbour, weight = network.neighbours[..., slot], network.weights[..., slot]
        if neighbour.dim() == 1:
            theirs = said[:, neighbour]
        else:
            theirs = said.gather(1, neighbour[..., None].expand(said.shape))
        heard = heard + weight[..., None] * theirs
    return heard


def average(
    network: Network,
    own: Float[Tensor, "world agent value"],
    said: Float[Tensor, "world agent value"],
) -> Float[Tensor, "world agent value"]:
    """Each person's weighted mean of their own view and of what those they listen to say."""
    return together(network, own, told(network, said))


def together(
    network: Network,
    own: Float[Tensor, "world agent value"],
    peers: Float[Tensor, "world agent value"],
) -> Float[Tensor, "world agent value"]:
    """One's own view, by its weight, and what one was `told`."""
    return network.own[..., None] * own + peers


def from_matrix(matrix: np.ndarray) -> Network:
    """A network from `[agent, agent]` weights of who (row) listens to whom (column)."""
    others = matrix.astype(np.float64) * (1.0 - np.eye(len(matrix)))
    slots = max(1, int((others != 0).sum(1).max()))
    neighbours = np.tile(np.arange(len(matrix))[:, None], (1, slots))
    weights = np.zeros((len(matrix), slots))
    for i, row in enumerate(others):
        (listened,) = np.nonzero(row)
        neighbours[i, : len(listened)] = listened
        weights[i, : len(listened)] = row[listened]
    return Network.of(torch.from_numpy(neighbours), torch.from_numpy(weights).to(torch.float32))


def walk_matrix(graph: nx.Graph) -> np.ndarray:
    """Everyone listens to themselves as to each friend: the random walk on `A + I`.

    Its stationary distribution is `(d_i + 1) / sum(d + 1)`, with `d` the number of friends.
    """
    adjacency = nx.to_numpy_array(graph, weight="") + np.eye(len(graph))
    return adjacency / adjacency.sum(1, keepdims=True)


def karate_matrix() -> np.ndarray:
    """Zachary's karate club (34 people, 78 ties) as a random walk with loops."""
    return walk_matrix(nx.karate_club_graph())


def by_likeness(
    values: Float[Tensor, "world agent value"],
    ties: int,
    listening: float,
    closeness: float,
    meetings: int,
    draws: Draws,
) -> Network:
    """Each person meets strangers at random and goes on listening to those most like them.

    Of `meetings` others met, `ties` are kept, drawn with probability proportional to
    `exp(-distance / closeness)` without replacement: the largest scores after adding Gumbel noise
    (Kool et al. 2019, arXiv 1903.06059). Somebody met twice may be kept twice, and counts twice.

    Args:
        values: where everybody stands.
        ties: how many each person listens to.
        listening: weight of all ties together; the rest is one's own view.
        closeness: distance, in units of value, over which liking falls by e.
        meetings: how many others each person gets to know.
        draws: where chance comes from.
    """
    worlds, agents, dimensions = values.shape
    step = 1 + (draws.uniform("met", agents, meetings) * (agents - 1)).to(torch.int64)
    met = (torch.arange(agents, device=values.device)[:, None] + step) % agents  # never oneself
    flat = met.flatten(1)[..., None].expand(-1, -1, dimensions)
    theirs = values.gather(1, flat).unflatten(1, (agents, meetings))
    distance = norm(theirs - values[:, :, None])
    score = draws.gumbel("liked", agents, meetings) - distance / closeness
    kept = score.topk(ties, dim=-1).indices
    neighbours = met.gather(2, kept)
    weights = torch.full((worlds, agents, ties), listening / ties, device=values.device)
    return Network.of(neighbours, weights)


def rewired(network: Network, draws: Draws) -> Network:
    """The same network among strangers: people swap places in it at random.

    One shuffle of the people a world: the shape of the network is kept exactly, likeness is lost.
    """
    _, agents, slots = network.neighbours.shape
    chance = draws.uniform("place", agents)[..., 0]
    place = torch.sort(chance, dim=-1, stable=True).indices  # person -> place in the network
    person = torch.sort(place, dim=-1, stable=True).indices  # place -> person
    rows = place[..., None].expand(-1, -1, slots)
    ties = network.neighbours.gather(1, rows)
    neighbours = person.gather(1, ties.flatten(1)).unflatten(1, (agents, slots))
    return Network.of(neighbours, network.weights.gather(1, rows))
