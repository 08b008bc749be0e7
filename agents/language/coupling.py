"""Gumbel noise of sampled tokens: common random numbers for all arms of an experiment.

The noise is indexed by (replicate, world, agent, episode, round, phase, call, position, token): all
but the last select a random stream, and the token selects an entry of it. In all arms the same
agent therefore has the same noise in the same round, whatever else is in the batch. Gumbel-max
samples of two arms differ only where their logits differ.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mores.agents.language.language_model import GumbelFunction
from mores.core.random_streams import RandomStreams


def token_gumbel(
    streams: RandomStreams, rows: Int[Tensor, "row 2"], call: int, vocabulary_size: int
) -> GumbelFunction:
    """Function that returns the Gumbel noise of one call of an engine, by request and position.

    Args:
        streams: random streams of the phase, as `Policy.act` receives them.
        rows: indices of the world and the agent of each request.
        call: index of the call in this phase, from 0. A second reply of an agent in the phase, for
            example after an invalid one, gets independent noise.
        vocabulary_size: the engine's `vocabulary_size`.
    """

    def noise(indices: Sequence[int], position: int) -> Float[Tensor, "row token"]:
        worlds, agents = rows[torch.tensor(indices, dtype=torch.int64)].unbind(1)
        return streams.gumbel_rows(f"token {call} {position}", worlds, agents, vocabulary_size)

    return noise
