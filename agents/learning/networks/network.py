"""The protocol of networks: what stacked models need of an entry of the registry `network`.

A network maps observations `[model, sample, step, size]` to features `[model, sample, step, width]`
for many models at once. A recurrent network carries information within an episode only: its state
is reset where `episode_start` holds. When acting it takes one step at a time with a recurrent state
`[model, sample, recurrent]`, zeros at the start of an episode.

`mores.agents.learning.networks.module_network` makes a network of any `torch.nn.Module`. Subclasses
written by hand for the whole stack are those that are faster: see `benchmarks/results`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.agents.learning.networks.layers import LinearSpec, Parameters
from mores.core.config import Config
from mores.core.random_streams import RandomStreams


class Network(Config):
    """Network that encodes an observation as features. Its fields are its parameters in a file.

    Parameters of models are tensors by name that lead with the model. Names begin with a prefix,
    `policy` or `critic`: a model with a value head has two networks.
    """

    @abstractmethod
    def features_dim(self, input_size: int) -> int:
        """Number of features."""

    def recurrent_state_size(self, input_size: int) -> int:
        """Length of the recurrent state of a sample; 0: without memory."""
        return 0

    def layers(self, prefix: str, input_size: int) -> Mapping[str, LinearSpec]:
        """Affine layers by name, initialized orthogonally. The names address random streams."""
        return {}

    def num_other_parameters(self, input_size: int) -> int:
        """Number of parameters outside of `layers` of one model, where it is not negligible."""
        return 0

    def init_other_parameters(
        self, prefix: str, input_size: int, streams: RandomStreams, models_per_replicate: int
    ) -> Mapping[str, Tensor]:
        """Initial parameters outside of `layers`, `[replicate * models_per_replicate, ...]`.

        Args:
            prefix: beginning of their names.
            input_size: length of an observation.
            streams: random streams of the first world of each replicate.
            models_per_replicate: models in each replicate.
        """
        return {}

    @abstractmethod
    def forward_step(
        self,
        parameters: Parameters,
        prefix: str,
        observation: Float[Tensor, "model sample size"],
        recurrent_state: Float[Tensor, "model sample recurrent"],
    ) -> tuple[Float[Tensor, "model sample width"], Float[Tensor, "model sample recurrent"]]:
        """Features of one observation, and the next recurrent state."""

    def forward_sequence(
        self,
        parameters: Parameters,
        prefix: str,
        observation: Float[Tensor, "model sample step size"],
        episode_start: Bool[Tensor, "model sample step"] | None,
        recurrent_state: Float[Tensor, "model sample recurrent"] | None,
    ) -> Float[Tensor, "model sample step width"]:
        """Features of sequences of observations.

        Args:
            parameters, prefix: the models.
            observation: the observations.
            episode_start: steps that begin an episode; `None`: none.
            recurrent_state: state before the first step; `None`: zeros.
        """
        models, samples, steps, size = observation.shape
        length = self.recurrent_state_size(size)
        if not length:
            rows = observation.flatten(1, 2)
            features, _ = self.forward_step(parameters, prefix, rows, rows[..., :0])
            return features.unflatten(1, (samples, steps))
        state = recurrent_state
        state = observation.new_zeros(models, samples, length) if state is None else state
        features = []
        for t in range(steps):
            if episode_start is not None:
                state = torch.where(episode_start[:, :, t, None], 0.0, state)
            output, state = self.forward_step(parameters, prefix, observation[:, :, t], state)
            features.append(output)
        return torch.stack(features, 2)
