"""Gumbel numbers of generated tokens, equal in all arms of an experiment.

A number is addressed by (replicate, world, agent, episode, round, phase, call, position, token):
all but the last select a stream, and the token a number in it. Arms that ask the same agent in the
same round draw with the same numbers, whatever else is in the batch; their tokens differ only where
their logits do.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mores.agents.language.language_model import GumbelFunction
from mores.core.random_streams import RandomStreams


def token_gumbel(
    streams: RandomStreams, rows: Int[Tensor, "row 2"], call: int, width: int
) -> GumbelFunction:
    """Numbers of the replies of one call of an engine.

    Args:
        streams: of the phase (`Policy.act` gets them with role and phase in their scope).
        rows: world and agent of each request, by index.
        call: number of the call in this phase, from 0: a second reply of an agent in a phase, say
            after one that cannot be parsed, has other numbers.
        width: the engine's `vocabulary_size`.
    """

    def numbers(indices: Sequence[int], position: int) -> Float[Tensor, "row token"]:
        worlds, agents = rows[torch.tensor(indices, dtype=torch.int64)].unbind(1)
        return streams.gumbel_rows(f"token {call} {position}", worlds, agents, width)

    return numbers
