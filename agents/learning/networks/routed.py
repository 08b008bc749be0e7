"""A network with separate parameters for each option of a one-hot part of the observation.

Hard routing by the input, as of a mixture of experts whose gate is given (Jacobs et al. 1991). The
features of an expert are at places of their own, and those of the others are 0: training on one
option changes no weight that the others use, except the biases of the heads that follow.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor

from mores.agents.learning.networks.encoders import LayerSize
from mores.agents.learning.networks.layers import LinearSpec, Parameters, linear
from mores.agents.learning.networks.network import Network
from mores.core.errors import UserError


class RoutedMLP(Network):
    """One multilayer perceptron with tanh for each option of a one-hot part of the observation."""

    first_input: int = Field(ge=0, description="index of the first number of the one-hot part")
    num_options: int = Field(ge=1, le=1_000, description="length of the one-hot part")
    hidden_sizes: list[LayerSize] = Field(
        default=[64, 64], min_length=1, max_length=16, description="units of each hidden layer"
    )

    def features_dim(self, input_size: int) -> int:
        """Number of units of the last layers of all options.

        Raises:
            UserError: the observation is too short for the one-hot part.
        """
        if self.first_input + self.num_options > input_size:
            raise UserError(
                f"routed_mlp reads numbers {self.first_input} to "
                f"{self.first_input + self.num_options - 1} of an observation of {input_size}",
                code="out_of_range",
                path="first_input",
            )
        return self.num_options * self.hidden_sizes[-1]

    def layers(self, prefix: str, input_size: int) -> Mapping[str, LinearSpec]:
        """One affine layer for each option and hidden layer."""
        sizes = [input_size, *self.hidden_sizes]
        return {
            f"{prefix}.{option}.{i}": LinearSpec(sizes[i], sizes[i + 1])
            for option in range(self.num_options)
            for i in range(len(self.hidden_sizes))
        }

    def forward_step(
        self, parameters: Parameters, prefix: str, observation: Tensor, recurrent_state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One step."""
        features = []
        for option in range(self.num_options):
            x = observation
            for i in range(len(self.hidden_sizes)):
                x = torch.tanh(linear(parameters, f"{prefix}.{option}.{i}", x))
            place = self.first_input + option
            features.append(x * observation[..., place : place + 1])
        return torch.cat(features, -1), recurrent_state
