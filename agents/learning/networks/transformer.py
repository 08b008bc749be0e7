"""A small causal transformer over what was seen in an episode.

Pre-normalised blocks of attention and a two-layer perceptron (Vaswani et al. 2017, arXiv
1706.03762; pre-normalisation as in Xiong et al. 2020, arXiv 2002.04745), learned positions counted
from an episode's beginning. When acting it keeps the sights of the episode as its carry and attends
over them again. An episode may not be longer than `context`: through a window that moves, what it
said when it acted and what it says when it learns would differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from mores.agents.learning.networks.encoders import Encoder, LayerSize
from mores.agents.learning.networks.layers import LinearSpec, Parameters, layer_norm, linear
from mores.core.errors import ParameterError, UserError


class Transformer(Encoder):
    """Attention over the sights of an episode, at most `context_length` of them."""

    kind: Literal["transformer"] = "transformer"
    hidden_size: LayerSize = Field(default=32, description="width of the residual stream")
    num_heads: int = Field(default=2, ge=1, le=64, description="attention heads; divide `hidden`")
    num_layers: int = Field(
        default=2, ge=1, le=24, description="blocks of attention and perceptron"
    )
    context_length: int = Field(
        default=32, ge=1, le=1024, description="longest episode, in decisions"
    )

    @model_validator(mode="after")
    def _check_heads(self) -> Transformer:
        if self.hidden_size % self.num_heads:
            raise ParameterError(
                message=f"heads: {self.num_heads} do not divide hidden, {self.hidden_size}",
                code="conflict",
            )
        return self

    @property
    def features_dim(self) -> int:
        """Of the residual stream."""
        return self.hidden_size

    def layers(self, prefix: str, input_size: int) -> Mapping[str, LinearSpec]:
        """An embedding, and four a block."""
        width = self.hidden_size
        found = {f"{prefix}.embed": LinearSpec(input_size, width, 1.0)}
        for i in range(self.num_layers):
            found[f"{prefix}.{i}.attend"] = LinearSpec(width, 3 * width, 1.0)
            found[f"{prefix}.{i}.mix"] = LinearSpec(width, width, 0.5)
            found[f"{prefix}.{i}.up"] = LinearSpec(width, 4 * width)
            found[f"{prefix}.{i}.down"] = LinearSpec(4 * width, width, 0.5)
        found[f"{prefix}.place"] = LinearSpec(self.context_length, width, 0.1, bias=False)
        return found

    def extra_parameters(self, prefix: str, num_models: int) -> Mapping[str, Tensor]:
        """Gains and offsets of the normalisations."""
        names = [
            f"{prefix}.{i}.{part}" for i in range(self.num_layers) for part in ("first", "second")
        ]
        found: dict[str, Tensor] = {}
        for name in [*names, f"{prefix}.last"]:
            found[f"{name}.gain"] = torch.ones(num_models, 1, self.hidden_size)
            found[f"{name}.offset"] = torch.zeros(num_models, 1, self.hidden_size)
        return found

    def recurrent_state_size(self, input_size: int) -> int:
        """The sights before the present one, and how many of them are real."""
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
        policies, samples, steps, inputs = observation.shape
        if episode_start is None:
            episode_start = torch.zeros(
                policies, samples, steps, dtype=torch.bool, device=observation.device
            )
        episode = episode_start.long().cumsum(-1)
        before = 0
        if recurrent_state is not None:
            before = self.context_length - 1
            past, count = self._unpack_state(recurrent_state, inputs)
            observation = torch.cat([past, observation], 2)
            # Earlier sights belong to the episode that goes on; empty places to none.
            index = torch.arange(before, device=observation.device)
            real = index >= before - count[..., None]
            older = torch.where(real, 0, -1)
            episode = torch.cat([older, episode], 2)
        return self._forward(parameters, prefix, observation, episode)[:, :, before:]

    def forward_step(
        self, parameters: Parameters, prefix: str, observation: Tensor, recurrent_state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Attend over what is remembered and the present sight."""
        inputs = observation.shape[-1]
        if bool((recurrent_state[..., -1] >= self.context_length).any()):
            raise UserError(
                f"transformer: the episode is longer than its context, {self.context_length}",
                code="too_large",
                path="network.context",
            )
        features = self.forward_sequence(
            parameters, prefix, observation[:, :, None], None, recurrent_state
        )[:, :, 0]
        past, count = self._unpack_state(recurrent_state, inputs)
        window = torch.cat([past, observation[:, :, None]], 2)[:, :, 1:]
        after = torch.cat([window.flatten(2), (count + 1)[..., None].to(observation.dtype)], -1)
        return features, after

    def _unpack_state(
        self, recurrent_state: Float[Tensor, "policy sample memory"], input_size: int
    ) -> tuple[Float[Tensor, "policy sample step size"], Int[Tensor, "policy sample"]]:
        """The sights remembered, the newest last, and how many of them are real."""
        window = recurrent_state[..., :-1].unflatten(-1, (self.context_length - 1, input_size))
        return window, recurrent_state[..., -1].long()

    def _forward(
        self,
        parameters: Parameters,
        prefix: str,
        observation: Float[Tensor, "policy sample step size"],
        episode_index: Int[Tensor, "policy sample step"],
    ) -> Float[Tensor, "policy sample step width"]:
        samples, steps = observation.shape[1:3]
        at = torch.arange(steps, device=observation.device)
        earlier = at[:, None] >= at
        mask = (episode_index[..., :, None] == episode_index[..., None, :]) & earlier
        mask = mask.flatten(0, 1)[:, None]  # attention never mixes samples
        x = linear(parameters, f"{prefix}.embed", observation.flatten(1, 2)).unflatten(
            1, (samples, steps)
        )
        x = x + self._position_embedding(parameters, prefix, episode_index)
        for i in range(self.num_layers):
            x = x + self._attention(parameters, f"{prefix}.{i}", x, mask)
            y = layer_norm(parameters, f"{prefix}.{i}.second", x).flatten(1, 2)
            y = torch.relu(linear(parameters, f"{prefix}.{i}.up", y))
            x = x + linear(parameters, f"{prefix}.{i}.down", y).unflatten(1, (samples, steps))
        return layer_norm(parameters, f"{prefix}.last", x)

    def _position_embedding(
        self, parameters: Parameters, prefix: str, episode_index: Tensor
    ) -> Tensor:
        """The learned position of each step, counted within its episode."""
        steps = torch.arange(episode_index.shape[-1], device=episode_index.device)
        fresh = torch.ones_like(episode_index, dtype=torch.bool)
        fresh[..., 1:] = episode_index[..., 1:] != episode_index[..., :-1]
        begun = torch.where(fresh, steps, 0).cummax(-1).values
        place = (steps - begun).clamp(max=self.context_length - 1)
        table = parameters[f"{prefix}.place.weight"]  # policy context width
        policies = torch.arange(len(table), device=table.device)[:, None, None]
        return table[policies, place]

    def _attention(
        self, parameters: Parameters, name: str, x: Tensor, mask: Bool[Tensor, "row 1 step step"]
    ) -> Tensor:
        policies, samples, steps, _ = x.shape
        y = layer_norm(parameters, f"{name}.first", x).flatten(1, 2)
        made = linear(parameters, f"{name}.attend", y)
        made = made.view(policies * samples, steps, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        mixed = torch.nn.functional.scaled_dot_product_attention(
            made[0], made[1], made[2], attn_mask=mask
        )
        mixed = mixed.permute(0, 2, 1, 3).reshape(policies, samples * steps, self.hidden_size)
        return linear(parameters, f"{name}.mix", mixed).unflatten(1, (samples, steps))
