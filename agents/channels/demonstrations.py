"""Demonstrations: completions sampled from principals, token by token.

    P(v) in proportion to exp(rationality * value_v)  among tokens not yet used,

where the value of a token is its utility to the demonstrating principal less any penalty. With
probability `error_rate` a token is replaced by one drawn uniformly from the vocabulary (it may be
the same). Without errors a demonstration is a draw from the model of Plackett 1975, Applied
Statistics 24, 193.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from mores.core.channel import Channel
from mores.core.random_streams import RandomStreams, uniform_index
from mores.core.stream_addresses import OTHER_TOKEN


class SoftmaxDemonstration(Channel):
    """One demonstration for each completion, by a uniform random principal.

    Inputs: `completion`, one-hot `[world, agent, step, token]`, of which only the shape is used;
    `token_value`, `[world, principal, token]`.
    Outputs: `demonstration`, tokens `[world, agent, step]`; `principal`, `[world, agent]`.
    """

    tags: ClassVar[Mapping[str, object]] = {"stochastic": True}
    inputs, outputs = ("completion", "token_value"), ("demonstration", "principal")
    scoped = False

    rationality: float = Field(
        default=5.0, ge=0, le=1e9, description="inverse temperature, 1 / utility"
    )
    error_rate: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="probability that a token is replaced by one drawn uniformly from the "
        "vocabulary (it may be the same)",
    )

    def feedback(self, inputs: Mapping[str, Tensor], streams: RandomStreams) -> dict[str, Tensor]:
        """See the class docstring."""
        _, agents, length, vocab_size = inputs["completion"].shape
        token_value = inputs["token_value"]
        principal = uniform_index(
            token_value.shape[1], streams.uniform("principal", agents)[..., 0]
        )
        index = principal[..., None].expand(-1, -1, vocab_size)
        gumbel = streams.gumbel("demonstration", agents, length * vocab_size)
        tokens = sample_without_repetition(
            self.rationality * token_value.gather(1, index),
            gumbel.unflatten(-1, (length, vocab_size)),
            streams.uniform("slip", agents, length) < self.error_rate,
            uniform_index(vocab_size, streams.uniform(OTHER_TOKEN, agents, length)),
        )
        return {"demonstration": tokens, "principal": principal}


def sample_without_repetition(
    logits: Float[Tensor, "world agent token"],
    gumbel: Float[Tensor, "world agent step token"],
    replace: Bool[Tensor, "world agent step"],
    replacement: Int[Tensor, "world agent step"],
) -> Int[Tensor, "world agent step"]:
    """Sample completions token by token, without repetition except by errors.

    There must be at most as many steps as tokens; else later tokens repeat.

    Args:
        logits: log-weights of the tokens.
        gumbel: standard Gumbel noise; the argmax of logits plus noise is a softmax sample.
        replace: steps with an error.
        replacement: tokens at these steps.
    """
    unused = torch.ones_like(logits, dtype=torch.bool)
    indices = torch.arange(logits.shape[-1], device=logits.device)
    tokens = []
    for step in range(gumbel.shape[2]):
        scores = torch.where(unused, logits + gumbel[:, :, step], -torch.inf)
        token = torch.where(replace[..., step], replacement[..., step], scores.argmax(-1))
        unused = unused & (indices != token[..., None])
        tokens.append(token)
    return torch.stack(tokens, -1)
