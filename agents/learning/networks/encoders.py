"""What a policy makes of what it sees: a multilayer perceptron, a gated recurrent unit, attention.

A body maps sights `[policy, sample, step, size]` to features `[policy, sample, step, width]`. One
that remembers does so within an episode: where `begins` holds, nothing from before is known.
When acting, it takes a step at a time, and what it must remember is its *carry*, which leads with
[policy, sample] too; `recurrent_state_size` is how many numbers that is (0: it remembers nothing).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from mores.agents.learning.networks.layers import LinearSpec, Parameters, linear
from mores.core.environment import Config

LayerSize = Annotated[int, Field(ge=1, le=8192)]


class Encoder(Config):
    """Features of what is seen."""

    @property
    @abstractmethod
    def features_dim(self) -> int:
        """How many features."""

    @abstractmethod
    def layers(self, prefix: str, input_size: int) -> Mapping[str, LinearSpec]:
        """The layers it needs, by name."""

    def extra_parameters(self, prefix: str, num_models: int) -> Mapping[str, Tensor]:
        """Parameters that are no layers, at their first values."""
        return {}

    def recurrent_state_size(self, input_size: int) -> int:
        """How many numbers it remembers of an episode, a sample."""
        return 0

    @abstractmethod
    def forward_sequence(
        self,
        parameters: Parameters,
        prefix: str,
        observation: Float[Tensor, "policy sample step size"],
        episode_start: Bool[Tensor, "policy sample step"] | None,
        recurrent_state: Float[Tensor, "policy sample memory"] | None,
    ) -> Float[Tensor, "policy sample step width"]:
        """Features of whole stretches of sights; `recurrent_state` is what was remembered before them."""

    @abstractmethod
    def forward_step(
        self,
        parameters: Parameters,
        prefix: str,
        observation: Float[Tensor, "policy sample size"],
        recurrent_state: Float[Tensor, "policy sample memory"],
    ) -> tuple[Float[Tensor, "policy sample width"], Float[Tensor, "policy sample memory"]]:
        """Features of one sight, and what is remembered afterwards."""


class MLP(Encoder):
    """Layers of `hidden_sizes` units, one after another. It remembers nothing."""

    kind: Literal["mlp"] = "mlp"
    hidden_sizes: list[LayerSize] = Field(
        default=[64, 64], max_length=16, description="units of each hidden layer"
    )
    activation: Literal["tanh", "relu"] = Field(default="tanh", description="of hidden units")

    @property
    def features_dim(self) -> int:
        """Units of the last layer; without layers, see `Encoder.layers`."""
        return self.hidden_sizes[-1] if self.hidden_sizes else 0

    def layers(self, prefix: str, input_size: int) -> Mapping[str, LinearSpec]:
        """One a hidden layer."""
        sizes = [input_size, *self.hidden_sizes]
        return {
            f"{prefix}.{i}": LinearSpec(sizes[i], sizes[i + 1])
            for i in range(len(self.hidden_sizes))
        }

    def forward_rows(self, parameters: Parameters, prefix: str, x: Tensor) -> Tensor:
        """Features of rows `[policy, row, size]`."""
        for i in range(len(self.hidden_sizes)):
            x = linear(parameters, f"{prefix}.{i}", x)
            x = torch.tanh(x) if self.activation == "tanh" else torch.relu(x)
        return x

    def forward_sequence(
        self,
        parameters: Parameters,
        prefix: str,
        observation: Tensor,
        episode_start: Tensor | None,
        recurrent_state: Tensor | None,
    ) -> Tensor:
        """All steps at once."""
        return self.forward_rows(parameters, prefix, observation.flatten(1, 2)).unflatten(
            1, observation.shape[1:3]
        )

    def forward_step(
        self, parameters: Parameters, prefix: str, observation: Tensor, recurrent_state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One step."""
        return self.forward_rows(parameters, prefix, observation), recurrent_state


class GRU(Encoder):
    """A gated recurrent unit (Cho et al. 2014, arXiv 1406.1078), in the form torch.nn.GRU has.

    r, z = sigmoid(W x + U h),  n = tanh(W_n x + r (U_n h + b)),  h' = (1 - z) n + z h
    """

    kind: Literal["gru"] = "gru"
    hidden_size: LayerSize = Field(default=64, description="numbers it remembers")

    @property
    def features_dim(self) -> int:
        """What it remembers is what it says."""
        return self.hidden_size

    def layers(self, prefix: str, input_size: int) -> Mapping[str, LinearSpec]:
        """From the sight, and from what it remembers, to all three gates."""
        return {
            f"{prefix}.seen": LinearSpec(input_size, 3 * self.hidden_size, 1.0),
            f"{prefix}.past": LinearSpec(self.hidden_size, 3 * self.hidden_size, 1.0),
        }

    def recurrent_state_size(self, input_size: int) -> int:
        """The hidden state."""
        return self.hidden_size

    def forward_sequence(
        self,
        parameters: Parameters,
        prefix: str,
        observation: Tensor,
        episode_start: Tensor | None,
        recurrent_state: Tensor | None,
    ) -> Tensor:
        """Step after step; what comes from the sights is computed at once."""
        policies, samples, steps, _ = observation.shape
        gates = linear(parameters, f"{prefix}.seen", observation.flatten(1, 2)).unflatten(
            1, (samples, steps)
        )
        past = (
            observation.new_zeros(policies, samples, self.hidden_size)
            if recurrent_state is None
            else recurrent_state
        )
        features = []
        for t in range(steps):
            if episode_start is not None:
                past = torch.where(episode_start[:, :, t, None], 0.0, past)
            past = self._cell(parameters, prefix, gates[:, :, t], past)
            features.append(past)
        return torch.stack(features, 2)

    def forward_step(
        self, parameters: Parameters, prefix: str, observation: Tensor, recurrent_state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One step."""
        gates = linear(parameters, f"{prefix}.seen", observation)
        after = self._cell(parameters, prefix, gates, recurrent_state)
        return after, after

    def _cell(
        self, parameters: Parameters, prefix: str, input_gates: Tensor, hidden_state: Tensor
    ) -> Tensor:
        recall = linear(parameters, f"{prefix}.past", hidden_state)
        seen_r, seen_z, seen_n = input_gates.chunk(3, -1)
        past_r, past_z, past_n = recall.chunk(3, -1)
        reset, update = torch.sigmoid(seen_r + past_r), torch.sigmoid(seen_z + past_z)
        new = torch.tanh(seen_n + reset * past_n)
        return (1 - update) * new + update * hidden_state
