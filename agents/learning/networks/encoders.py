"""What a policy makes of what it sees: a multilayer perceptron, a gated recurrent unit, attention.

A body maps sights `[policy, sample, step, size]` to features `[policy, sample, step, width]`. One
that remembers does so within an episode: where `begins` holds, nothing from before is known.
When acting, it takes a step at a time, and what it must remember is its *carry*, which leads with
[policy, sample] too; `carry_size` is how many numbers that is (0: it remembers nothing).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from mores.agents.learning.networks.layers import Layer, Parameters, linear
from mores.core.environment import Configured

Width = Annotated[int, Field(ge=1, le=8192)]


class Body(Configured):
    """Features of what is seen."""

    @property
    @abstractmethod
    def width(self) -> int:
        """How many features."""

    @abstractmethod
    def layers(self, prefix: str, inputs: int) -> Mapping[str, Layer]:
        """The layers it needs, by name."""

    def others(self, prefix: str, policies: int) -> Mapping[str, Tensor]:
        """Parameters that are no layers, at their first values."""
        return {}

    def carry_size(self, inputs: int) -> int:
        """How many numbers it remembers of an episode, a sample."""
        return 0

    @abstractmethod
    def whole(
        self,
        parameters: Parameters,
        prefix: str,
        seen: Float[Tensor, "policy sample step size"],
        begins: Bool[Tensor, "policy sample step"] | None,
        carry: Float[Tensor, "policy sample memory"] | None,
    ) -> Float[Tensor, "policy sample step width"]:
        """Features of whole stretches of sights; `carry` is what was remembered before them."""

    @abstractmethod
    def step(
        self,
        parameters: Parameters,
        prefix: str,
        seen: Float[Tensor, "policy sample size"],
        carry: Float[Tensor, "policy sample memory"],
    ) -> tuple[Float[Tensor, "policy sample width"], Float[Tensor, "policy sample memory"]]:
        """Features of one sight, and what is remembered afterwards."""


class MLP(Body):
    """Layers of `hidden` units, one after another. It remembers nothing."""

    kind: Literal["mlp"] = "mlp"
    hidden: list[Width] = Field(
        default=[64, 64], max_length=16, description="units of each hidden layer"
    )
    activation: Literal["tanh", "relu"] = Field(default="tanh", description="of hidden units")

    @property
    def width(self) -> int:
        """Units of the last layer; without layers, see `Body.layers`."""
        return self.hidden[-1] if self.hidden else 0

    def layers(self, prefix: str, inputs: int) -> Mapping[str, Layer]:
        """One a hidden layer."""
        sizes = [inputs, *self.hidden]
        return {f"{prefix}.{i}": Layer(sizes[i], sizes[i + 1]) for i in range(len(self.hidden))}

    def features(self, parameters: Parameters, prefix: str, x: Tensor) -> Tensor:
        """Features of rows `[policy, row, size]`."""
        for i in range(len(self.hidden)):
            x = linear(parameters, f"{prefix}.{i}", x)
            x = torch.tanh(x) if self.activation == "tanh" else torch.relu(x)
        return x

    def whole(
        self,
        parameters: Parameters,
        prefix: str,
        seen: Tensor,
        begins: Tensor | None,
        carry: Tensor | None,
    ) -> Tensor:
        """All steps at once."""
        return self.features(parameters, prefix, seen.flatten(1, 2)).unflatten(1, seen.shape[1:3])

    def step(
        self, parameters: Parameters, prefix: str, seen: Tensor, carry: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One step."""
        return self.features(parameters, prefix, seen), carry


class GRU(Body):
    """A gated recurrent unit (Cho et al. 2014, arXiv 1406.1078), in the form torch.nn.GRU has.

    r, z = sigmoid(W x + U h),  n = tanh(W_n x + r (U_n h + b)),  h' = (1 - z) n + z h
    """

    kind: Literal["gru"] = "gru"
    hidden: Width = Field(default=64, description="numbers it remembers")

    @property
    def width(self) -> int:
        """What it remembers is what it says."""
        return self.hidden

    def layers(self, prefix: str, inputs: int) -> Mapping[str, Layer]:
        """From the sight, and from what it remembers, to all three gates."""
        return {
            f"{prefix}.seen": Layer(inputs, 3 * self.hidden, 1.0),
            f"{prefix}.past": Layer(self.hidden, 3 * self.hidden, 1.0),
        }

    def carry_size(self, inputs: int) -> int:
        """The hidden state."""
        return self.hidden

    def whole(
        self,
        parameters: Parameters,
        prefix: str,
        seen: Tensor,
        begins: Tensor | None,
        carry: Tensor | None,
    ) -> Tensor:
        """Step after step; what comes from the sights is computed at once."""
        policies, samples, steps, _ = seen.shape
        gates = linear(parameters, f"{prefix}.seen", seen.flatten(1, 2)).unflatten(
            1, (samples, steps)
        )
        past = seen.new_zeros(policies, samples, self.hidden) if carry is None else carry
        features = []
        for t in range(steps):
            if begins is not None:
                past = torch.where(begins[:, :, t, None], 0.0, past)
            past = self._next(parameters, prefix, gates[:, :, t], past)
            features.append(past)
        return torch.stack(features, 2)

    def step(
        self, parameters: Parameters, prefix: str, seen: Tensor, carry: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One step."""
        gates = linear(parameters, f"{prefix}.seen", seen)
        after = self._next(parameters, prefix, gates, carry)
        return after, after

    def _next(self, parameters: Parameters, prefix: str, gates: Tensor, past: Tensor) -> Tensor:
        recall = linear(parameters, f"{prefix}.past", past)
        seen_r, seen_z, seen_n = gates.chunk(3, -1)
        past_r, past_z, past_n = recall.chunk(3, -1)
        reset, update = torch.sigmoid(seen_r + past_r), torch.sigmoid(seen_z + past_z)
        new = torch.tanh(seen_n + reset * past_n)
        return (1 - update) * new + update * past
