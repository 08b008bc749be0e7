"""Who reads whose message: senders drawn among the people to whom a person listens."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from mores.envs.graphs.influence_graph import InfluenceGraph


def listening_matrix(graph: InfluenceGraph) -> Bool[Tensor, "either reader sender"]:
    """Whether a person listens to another; one matrix if all worlds share the graph."""
    people, device = graph.num_people, graph.indptr.device
    numbers = torch.arange(people, dtype=torch.float32, device=device)[:, None]
    numbers = numbers.expand(1 if graph.is_shared else len(graph.indptr), -1, -1)
    reader, sender = (x[..., 0].to(torch.int64) for x in _ends(graph, numbers))
    last = graph.indptr[..., -1:].expand(len(numbers), 1)
    is_tie = torch.arange(reader.shape[1], device=device) < last  # others are padding
    matrix = torch.zeros(len(numbers), people * people, device=device)
    matrix = matrix.scatter_reduce(1, reader * people + sender, is_tie.to(matrix.dtype), "amax")
    return (matrix > 0).unflatten(1, (people, people))


def _ends(graph: InfluenceGraph, numbers: Tensor) -> tuple[Tensor, Tensor]:
    return graph.own_values(numbers), graph.neighbor_values(numbers)


def draw_senders(
    listens: Bool[Tensor, "either reader sender"],
    uniform: Float[Tensor, "world reader sender"],
    num_messages: int,
) -> Int[Tensor, "world reader message"]:
    """Senders of the messages that each person reads, in random order; -1: no message.

    Args:
        listens: who listens to whom.
        uniform: random numbers in [0, 1), one for each pair.
        num_messages: largest number of messages that a person reads; with more neighbors a random
            sample of them, without replacement.
    """
    score = torch.where(listens, uniform, -1.0)
    highest, sender = score.sort(dim=-1, descending=True, stable=True)
    sender = torch.where(highest >= 0, sender, -1)[..., :num_messages]
    return functional.pad(sender, (0, num_messages - sender.shape[-1]), value=-1)


def read_messages(
    messages: Int[Tensor, "world sender byte"],
    senders: Int[Tensor, "world reader message"],
    empty: int,
) -> Int[Tensor, "world reader message byte"]:
    """The messages of the senders; `empty` is the code of a position without a byte."""
    rows = senders.clamp(min=0).flatten(1)[..., None].expand(-1, -1, messages.shape[-1])
    read = messages.gather(1, rows).unflatten(1, senders.shape[1:])
    return torch.where(senders[..., None] >= 0, read, empty)
