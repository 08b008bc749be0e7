"""Critiques of completions: judgement in words, token by token, or one bit.

Each inappropriate token of a completion is criticized with `detection_rate`, each other token with
`false_alarm_rate`, however often it occurs. `token_critique` names the criticized tokens,
`binary_critique` tells only whether there are any (Xu et al. 2023, arXiv 2312.14591, compare such
judgements). Both share their random numbers: the bit is of the tokens that would be named.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mores.core.channel import Channel, TokenNaming
from mores.core.random_streams import RandomStreams
from mores.core.stream_addresses import CRITIQUE


class Critique(Channel, ABC):
    """Independent errors of critiques, by token."""

    tags: ClassVar[Mapping[str, object]] = {"stochastic": True}
    inputs, outputs = ("completion", "inappropriate"), ("critique",)
    scoped = False

    detection_rate: float = Field(
        default=0.9, ge=0, le=1, description="probability that an inappropriate token is criticized"
    )
    false_alarm_rate: float = Field(
        default=0.05, ge=0, le=1, description="probability that another token is criticized"
    )

    def criticized_tokens(
        self, inputs: Mapping[str, Tensor], streams: RandomStreams
    ) -> Float[Tensor, "world agent token"]:
        """1 for criticized tokens of each completion, else 0."""
        used = inputs["completion"].amax(2)  # world agent token
        u = streams.uniform(CRITIQUE, used.shape[1], used.shape[2])
        return used * (u < self._rate(inputs["inappropriate"])).to(used.dtype)

    def probabilities(self, inputs: Mapping[str, Tensor]) -> Float[Tensor, "world agent token"]:
        """Probability that each token is criticized."""
        return inputs["completion"].amax(2) * self._rate(inputs["inappropriate"])

    def _rate(self, inappropriate: Tensor) -> Float[Tensor, "world 1 token"]:
        return torch.where(inappropriate, self.detection_rate, self.false_alarm_rate)[:, None]


class TokenCritique(Critique, TokenNaming):
    """Names the criticized tokens: 1 for each, else 0."""

    @property
    def naming_probability(self) -> float:
        """See `mores.core.channel.TokenNaming`."""
        return self.detection_rate

    def feedback(self, inputs: Mapping[str, Tensor], streams: RandomStreams) -> dict[str, Tensor]:
        """See the class docstring."""
        return {"critique": self.criticized_tokens(inputs, streams)}

    def expected(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Probability of each token to be criticized."""
        return {"critique": self.probabilities(inputs)}


class BinaryCritique(Critique):
    """One bit: 1 for the whole vocabulary if any token is criticized, else 0."""

    def feedback(self, inputs: Mapping[str, Tensor], streams: RandomStreams) -> dict[str, Tensor]:
        """See the class docstring."""
        tokens = self.criticized_tokens(inputs, streams)
        return {"critique": tokens.amax(-1, keepdim=True).expand(tokens.shape)}

    def expected(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Probability that any token is criticized, for each token."""
        tokens = self.probabilities(inputs)
        some = 1.0 - (1.0 - tokens).prod(-1, keepdim=True)
        return {"critique": some.expand(tokens.shape)}
