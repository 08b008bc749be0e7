"""Encoders of observations: a multilayer perceptron and a gated recurrent unit.

An encoder maps observations `[model, sample, step, size]` to features `[model, sample, step,
width]`. A recurrent encoder carries information within an episode only: its state is reset where
`episode_start` holds. When acting it takes one step at a time with a recurrent state `[model,
sample, recurrent]` of length `recurrent_state_size` (0: not recurrent).
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
from mores.core.config import Config

LayerSize = Annotated[int, Field(ge=1, le=8192)]


class Encoder(Config):
    """Network that encodes an observation as features."""

    @property
    @abstractmethod
    def features_dim(self) -> int:
        """Number of features; 0: the observation itself."""

    @abstractmethod
    def layers(self, prefix: str, input_size: int) -> Mapping[str, LinearSpec]:
        """Layers by name. The names address random streams."""

    def extra_parameters(self, prefix: str, num_models: int) -> Mapping[str, Tensor]:
        """Initial values of parameters outside of layers."""
        return {}

    def recurrent_state_size(self, input_size: int) -> int:
        """Length of the recurrent state of a sample."""
        return 0

    @abstractmethod
    def forward_sequence(
        self,
        parameters: Parameters,
        prefix: str,
        observation: Float[Tensor, "model sample step size"],
        episode_start: Bool[Tensor, "model sample step"] | None,
        recurrent_state: Float[Tensor, "model sample recurrent"] | None,
    ) -> Float[Tensor, "model sample step width"]:
        """Features of sequences of observations. `recurrent_state`: state before the first."""

    @abstractmethod
    def forward_step(
        self,
        parameters: Parameters,
        prefix: str,
        observation: Float[Tensor, "model sample size"],
        recurrent_state: Float[Tensor, "model sample recurrent"],
    ) -> tuple[Float[Tensor, "model sample width"], Float[Tensor, "model sample recurrent"]]:
        """Features of one observation, and the next recurrent state."""


class MLP(Encoder):
    """Multilayer perceptron with layers of `hidden_sizes` units, without recurrent state."""

    kind: Literal["mlp"] = "mlp"
    hidden_sizes: list[LayerSize] = Field(
        default=[64, 64], max_length=16, description="units of each hidden layer"
    )
    activation: Literal["tanh", "relu"] = Field(default="tanh", description="activation function")

    @property
    def features_dim(self) -> int:
        """Number of units of the last layer; 0 without layers."""
        return self.hidden_sizes[-1] if self.hidden_sizes else 0

    def layers(self, prefix: str, input_size: int) -> Mapping[str, LinearSpec]:
        """One affine layer for each hidden layer."""
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
    """Gated recurrent unit (Cho et al. 2014, arXiv 1406.1078), in the form of torch.nn.GRU.

    r, z = sigmoid(W x + U h),  n = tanh(W_n x + r (U_n h + b)),  h' = (1 - z) n + z h
    """

    kind: Literal["gru"] = "gru"
    hidden_size: LayerSize = Field(default=64, description="length of the hidden state")

    @property
    def features_dim(self) -> int:
        """The features are the hidden state."""
        return self.hidden_size

    def layers(self, prefix: str, input_size: int) -> Mapping[str, LinearSpec]:
        """Affine layers from the observation and from the hidden state to the three gates."""
        return {
            f"{prefix}.input_gates": LinearSpec(input_size, 3 * self.hidden_size, 1.0),
            f"{prefix}.hidden_gates": LinearSpec(self.hidden_size, 3 * self.hidden_size, 1.0),
        }

    def recurrent_state_size(self, input_size: int) -> int:
        """Length of the hidden state."""
        return self.hidden_size

    def forward_sequence(
        self,
        parameters: Parameters,
        prefix: str,
        observation: Tensor,
        episode_start: Tensor | None,
        recurrent_state: Tensor | None,
    ) -> Tensor:
        """Step by step; the gates of the observations are computed at once."""
        models, samples, steps, _ = observation.shape
        gates = linear(parameters, f"{prefix}.input_gates", observation.flatten(1, 2)).unflatten(
            1, (samples, steps)
        )
        hidden = (
            observation.new_zeros(models, samples, self.hidden_size)
            if recurrent_state is None
            else recurrent_state
        )
        features = []
        for t in range(steps):
            if episode_start is not None:
                hidden = torch.where(episode_start[:, :, t, None], 0.0, hidden)
            hidden = self._cell(parameters, prefix, gates[:, :, t], hidden)
            features.append(hidden)
        return torch.stack(features, 2)

    def forward_step(
        self, parameters: Parameters, prefix: str, observation: Tensor, recurrent_state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One step."""
        gates = linear(parameters, f"{prefix}.input_gates", observation)
        hidden = self._cell(parameters, prefix, gates, recurrent_state)
        return hidden, hidden

    def _cell(
        self, parameters: Parameters, prefix: str, input_gates: Tensor, hidden_state: Tensor
    ) -> Tensor:
        hidden_gates = linear(parameters, f"{prefix}.hidden_gates", hidden_state)
        input_r, input_z, input_n = input_gates.chunk(3, -1)
        hidden_r, hidden_z, hidden_n = hidden_gates.chunk(3, -1)
        reset, update = torch.sigmoid(input_r + hidden_r), torch.sigmoid(input_z + hidden_z)
        new = torch.tanh(input_n + reset * hidden_n)
        return (1 - update) * new + update * hidden_state
