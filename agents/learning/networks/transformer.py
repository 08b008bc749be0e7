"""A small causal transformer over the observations of an episode.

Pre-normalized blocks of attention and a two-layer perceptron (Vaswani et al. 2017, arXiv
1706.03762; pre-normalization as in Xiong et al. 2020, arXiv 2002.04745), with learned positions
counted from the start of the episode. The recurrent state holds its observations. An episode may
not be longer than `context_length`: with a moving window, training would differ from acting.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from mores.agents.learning.networks.encoders import LayerSize
from mores.agents.learning.networks.layers import LinearSpec, Parameters, layer_norm, linear
from mores.agents.learning.networks.network import Network
from mores.core.errors import ParameterError, UserError
from mores.core.random_streams import RandomStreams


class Transformer(Network):
    """Attention over the observations of an episode, at most `context_length` of them."""

    hidden_size: LayerSize = Field(default=32, description="width of the residual stream")
    num_heads: int = Field(
        default=2, ge=1, le=64, description="attention heads; divides hidden_size"
    )
    num_layers: int = Field(
        default=2, ge=1, le=24, description="number of blocks of attention and perceptron"
    )
    context_length: int = Field(
        default=32, ge=1, le=1024, description="longest episode, in decisions"
    )

    @model_validator(mode="after")
    def _check_heads(self) -> Transformer:
        if self.hidden_size % self.num_heads:
            raise ParameterError(
                message=f"num_heads, {self.num_heads}, must divide hidden_size, {self.hidden_size}",
                code="conflict",
            )
        return self

    def features_dim(self, input_size: int) -> int:
        """Width of the residual stream."""
        return self.hidden_size

    def layers(self, prefix: str, input_size: int) -> Mapping[str, LinearSpec]:
        """Embeddings of the observation and of positions, and four layers in each block.

        Names in a block are those of `torch.nn.TransformerEncoderLayer`.
        """
        width = self.hidden_size
        layers = {f"{prefix}.embed": LinearSpec(input_size, width, 1.0)}
        for i in range(self.num_layers):
            layers[f"{prefix}.{i}.qkv_proj"] = LinearSpec(width, 3 * width, 1.0)
            layers[f"{prefix}.{i}.out_proj"] = LinearSpec(width, width, 0.5)
            layers[f"{prefix}.{i}.linear1"] = LinearSpec(width, 4 * width)
            layers[f"{prefix}.{i}.linear2"] = LinearSpec(4 * width, width, 0.5)
        layers[f"{prefix}.position_embedding"] = LinearSpec(
            self.context_length, width, 0.1, bias=False
        )
        return layers

    def init_other_parameters(
        self, prefix: str, input_size: int, streams: RandomStreams, models_per_replicate: int
    ) -> Mapping[str, Tensor]:
        """Weights and biases of the layer normalizations."""
        names = [
            f"{prefix}.{i}.{part}" for i in range(self.num_layers) for part in ("norm1", "norm2")
        ]
        shape = (streams.num_worlds * models_per_replicate, 1, self.hidden_size)
        parameters: dict[str, Tensor] = {}
        for name in [*names, f"{prefix}.norm"]:
            parameters[f"{name}.weight"] = torch.ones(shape, device=streams.device)
            parameters[f"{name}.bias"] = torch.zeros(shape, device=streams.device)
        return parameters

    def recurrent_state_size(self, input_size: int) -> int:
        """Length of the earlier observations and their number."""
        return (self.context_length - 1) * input_size + 1

    def forward_sequence(
        self,
        parameters: Parameters,
        prefix: str,
        observation: Tensor,
        episode_start: Tensor | None,
        recurrent_state: Tensor | None,
    ) -> Tensor:
        """All steps at once: a step attends to those before it in its episode."""
        models, samples, steps, input_size = observation.shape
        if episode_start is None:
            episode_start = torch.zeros(
                models, samples, steps, dtype=torch.bool, device=observation.device
            )
        episode_index = episode_start.long().cumsum(-1)
        num_past = 0
        if recurrent_state is not None:
            num_past = self.context_length - 1
            past, count = self._unpack_state(recurrent_state, input_size)
            observation = torch.cat([past, observation], 2)
            # Earlier observations belong to episode 0, which continues; padding to episode -1.
            position = torch.arange(num_past, device=observation.device)
            valid = position >= num_past - count[..., None]
            episode_index = torch.cat([torch.where(valid, 0, -1), episode_index], 2)
        return self._forward(parameters, prefix, observation, episode_index)[:, :, num_past:]

    def forward_step(
        self, parameters: Parameters, prefix: str, observation: Tensor, recurrent_state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One step: attention over the earlier observations and this one."""
        input_size = observation.shape[-1]
        if bool((recurrent_state[..., -1] >= self.context_length).any()):
            raise UserError(
                f"transformer: the episode is longer than context_length, {self.context_length}",
                code="too_large",
                path="network.context_length",
            )
        features = self.forward_sequence(
            parameters, prefix, observation[:, :, None], None, recurrent_state
        )[:, :, 0]
        past, count = self._unpack_state(recurrent_state, input_size)
        window = torch.cat([past, observation[:, :, None]], 2)[:, :, 1:]
        count = (count + 1)[..., None].to(observation.dtype)
        return features, torch.cat([window.flatten(2), count], -1)

    def _unpack_state(
        self, recurrent_state: Float[Tensor, "model sample recurrent"], input_size: int
    ) -> tuple[Float[Tensor, "model sample step size"], Int[Tensor, "model sample"]]:
        """Earlier observations, the latest last, and the number of valid ones."""
        window = recurrent_state[..., :-1].unflatten(-1, (self.context_length - 1, input_size))
        return window, recurrent_state[..., -1].long()

    def _forward(
        self,
        parameters: Parameters,
        prefix: str,
        observation: Float[Tensor, "model sample step size"],
        episode_index: Int[Tensor, "model sample step"],
    ) -> Float[Tensor, "model sample step width"]:
        samples, steps = observation.shape[1:3]
        step = torch.arange(steps, device=observation.device)
        is_past = step[:, None] >= step
        mask = (episode_index[..., :, None] == episode_index[..., None, :]) & is_past
        mask = mask.flatten(0, 1)[:, None]  # attention never mixes samples
        x = linear(parameters, f"{prefix}.embed", observation.flatten(1, 2)).unflatten(
            1, (samples, steps)
        )
        x = x + self._position_embedding(parameters, prefix, episode_index)
        for i in range(self.num_layers):
            x = x + self._attention(parameters, f"{prefix}.{i}", x, mask)
            y = layer_norm(parameters, f"{prefix}.{i}.norm2", x).flatten(1, 2)
            y = torch.relu(linear(parameters, f"{prefix}.{i}.linear1", y))
            x = x + linear(parameters, f"{prefix}.{i}.linear2", y).unflatten(1, (samples, steps))
        return layer_norm(parameters, f"{prefix}.norm", x)

    def _position_embedding(
        self, parameters: Parameters, prefix: str, episode_index: Tensor
    ) -> Tensor:
        """Learned embedding of the position of each step in its episode."""
        steps = torch.arange(episode_index.shape[-1], device=episode_index.device)
        is_first = torch.ones_like(episode_index, dtype=torch.bool)
        is_first[..., 1:] = episode_index[..., 1:] != episode_index[..., :-1]
        first_step = torch.where(is_first, steps, 0).cummax(-1).values
        position = (steps - first_step).clamp(max=self.context_length - 1)
        embedding = parameters[f"{prefix}.position_embedding.weight"]  # model context width
        model = torch.arange(len(embedding), device=embedding.device)[:, None, None]
        return embedding[model, position]

    def _attention(
        self, parameters: Parameters, name: str, x: Tensor, mask: Bool[Tensor, "row 1 step step"]
    ) -> Tensor:
        models, samples, steps, _ = x.shape
        y = layer_norm(parameters, f"{name}.norm1", x).flatten(1, 2)
        qkv = linear(parameters, f"{name}.qkv_proj", y)
        qkv = qkv.view(models * samples, steps, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        values = torch.nn.functional.scaled_dot_product_attention(
            qkv[0], qkv[1], qkv[2], attn_mask=mask
        )
        values = values.permute(0, 2, 1, 3).reshape(models, samples * steps, self.hidden_size)
        return linear(parameters, f"{name}.out_proj", values).unflatten(1, (samples, steps))
