"""Networks stacked by hand: a multilayer perceptron and a gated recurrent unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from mores.agents.learning.networks.layers import LinearSpec, Parameters, linear
from mores.agents.learning.networks.network import Network

LayerSize = Annotated[int, Field(ge=1, le=8192)]


class MLP(Network):
    """Multilayer perceptron with layers of `hidden_sizes` units, without recurrent state."""

    hidden_sizes: list[LayerSize] = Field(
        default=[64, 64], max_length=16, description="units of each hidden layer"
    )
    activation: Literal["tanh", "relu"] = Field(default="tanh", description="activation function")

    def features_dim(self, input_size: int) -> int:
        """Number of units of the last layer; without layers the observation itself."""
        return self.hidden_sizes[-1] if self.hidden_sizes else input_size

    def layers(self, prefix: str, input_size: int) -> Mapping[str, LinearSpec]:
        """One affine layer for each hidden layer."""
        sizes = [input_size, *self.hidden_sizes]
        return {
            f"{prefix}.{i}": LinearSpec(sizes[i], sizes[i + 1])
            for i in range(len(self.hidden_sizes))
        }

    def forward_step(
        self, parameters: Parameters, prefix: str, observation: Tensor, recurrent_state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One step."""
        x = observation
        for i in range(len(self.hidden_sizes)):
            x = linear(parameters, f"{prefix}.{i}", x)
            x = torch.tanh(x) if self.activation == "tanh" else torch.relu(x)
        return x, recurrent_state


class GRU(Network):
    """Gated recurrent unit (Cho et al. 2014, arXiv 1406.1078), in the form of torch.nn.GRU.

    r, z = sigmoid(W x + U h),  n = tanh(W_n x + r (U_n h + b)),  h' = (1 - z) n + z h
    """

    hidden_size: LayerSize = Field(default=64, description="length of the hidden state")

    def features_dim(self, input_size: int) -> int:
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
