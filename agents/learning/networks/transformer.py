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

from mores.agents.learning.networks.encoders import Body, Width
from mores.agents.learning.networks.layers import Layer, Parameters, linear, normalise
from mores.core.errors import ParameterError, UserError


class Transformer(Body):
    """Attention over the sights of an episode, at most `context` of them."""

    kind: Literal["transformer"] = "transformer"
    hidden: Width = Field(default=32, description="width of the residual stream")
    heads: int = Field(default=2, ge=1, le=64, description="attention heads; divide `hidden`")
    blocks: int = Field(default=2, ge=1, le=24, description="blocks of attention and perceptron")
    context: int = Field(default=32, ge=1, le=1024, description="longest episode, in decisions")

    @model_validator(mode="after")
    def _divides(self) -> Transformer:
        if self.hidden % self.heads:
            raise ParameterError(
                message=f"heads: {self.heads} do not divide hidden, {self.hidden}", code="conflict"
            )
        return self

    @property
    def width(self) -> int:
        """Of the residual stream."""
        return self.hidden

    def layers(self, prefix: str, inputs: int) -> Mapping[str, Layer]:
        """An embedding, and four a block."""
        width = self.hidden
        found = {f"{prefix}.embed": Layer(inputs, width, 1.0)}
        for i in range(self.blocks):
            found[f"{prefix}.{i}.attend"] = Layer(width, 3 * width, 1.0)
            found[f"{prefix}.{i}.mix"] = Layer(width, width, 0.5)
            found[f"{prefix}.{i}.up"] = Layer(width, 4 * width)
            found[f"{prefix}.{i}.down"] = Layer(4 * width, width, 0.5)
        found[f"{prefix}.place"] = Layer(self.context, width, 0.1, bias=False)
        return found

    def others(self, prefix: str, policies: int) -> Mapping[str, Tensor]:
        """Gains and offsets of the normalisations."""
        names = [f"{prefix}.{i}.{part}" for i in range(self.blocks) for part in ("first", "second")]
        found: dict[str, Tensor] = {}
        for name in [*names, f"{prefix}.last"]:
            found[f"{name}.gain"] = torch.ones(policies, 1, self.hidden)
            found[f"{name}.offset"] = torch.zeros(policies, 1, self.hidden)
        return found

    def carry_size(self, inputs: int) -> int:
        """The sights before the present one, and how many of them are real."""
        return (self.context - 1) * inputs + 1

    def whole(
        self,
        parameters: Parameters,
        prefix: str,
        seen: Tensor,
        begins: Tensor | None,
        carry: Tensor | None,
    ) -> Tensor:
        """All steps at once: a step attends to those before it in its episode."""
        policies, samples, steps, inputs = seen.shape
        if begins is None:
            begins = torch.zeros(policies, samples, steps, dtype=torch.bool, device=seen.device)
        episode = begins.long().cumsum(-1)
        before = 0
        if carry is not None:
            before = self.context - 1
            past, count = self._past(carry, inputs)
            seen = torch.cat([past, seen], 2)
            # Earlier sights belong to the episode that goes on; empty places to none.
            index = torch.arange(before, device=seen.device)
            real = index >= before - count[..., None]
            older = torch.where(real, 0, -1)
            episode = torch.cat([older, episode], 2)
        return self._features(parameters, prefix, seen, episode)[:, :, before:]

    def step(
        self, parameters: Parameters, prefix: str, seen: Tensor, carry: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Attend over what is remembered and the present sight."""
        inputs = seen.shape[-1]
        if bool((carry[..., -1] >= self.context).any()):
            raise UserError(
                f"transformer: the episode is longer than its context, {self.context}",
                code="too_large",
                path="network.context",
            )
        features = self.whole(parameters, prefix, seen[:, :, None], None, carry)[:, :, 0]
        past, count = self._past(carry, inputs)
        window = torch.cat([past, seen[:, :, None]], 2)[:, :, 1:]
        after = torch.cat([window.flatten(2), (count + 1)[..., None].to(seen.dtype)], -1)
        return features, after

    def _past(
        self, carry: Float[Tensor, "policy sample memory"], inputs: int
    ) -> tuple[Float[Tensor, "policy sample step size"], Int[Tensor, "policy sample"]]:
        """The sights remembered, the newest last, and how many of them are real."""
        window = carry[..., :-1].unflatten(-1, (self.context - 1, inputs))
        return window, carry[..., -1].long()

    def _features(
        self,
        parameters: Parameters,
        prefix: str,
        seen: Float[Tensor, "policy sample step size"],
        episode: Int[Tensor, "policy sample step"],
    ) -> Float[Tensor, "policy sample step width"]:
        samples, steps = seen.shape[1:3]
        at = torch.arange(steps, device=seen.device)
        earlier = at[:, None] >= at
        mask = (episode[..., :, None] == episode[..., None, :]) & earlier
        mask = mask.flatten(0, 1)[:, None]  # attention never mixes samples
        x = linear(parameters, f"{prefix}.embed", seen.flatten(1, 2)).unflatten(1, (samples, steps))
        x = x + self._places(parameters, prefix, episode)
        for i in range(self.blocks):
            x = x + self._attend(parameters, f"{prefix}.{i}", x, mask)
            y = normalise(parameters, f"{prefix}.{i}.second", x).flatten(1, 2)
            y = torch.relu(linear(parameters, f"{prefix}.{i}.up", y))
            x = x + linear(parameters, f"{prefix}.{i}.down", y).unflatten(1, (samples, steps))
        return normalise(parameters, f"{prefix}.last", x)

    def _places(self, parameters: Parameters, prefix: str, episode: Tensor) -> Tensor:
        """The learned position of each step, counted within its episode."""
        steps = torch.arange(episode.shape[-1], device=episode.device)
        fresh = torch.ones_like(episode, dtype=torch.bool)
        fresh[..., 1:] = episode[..., 1:] != episode[..., :-1]
        begun = torch.where(fresh, steps, 0).cummax(-1).values
        place = (steps - begun).clamp(max=self.context - 1)
        table = parameters[f"{prefix}.place.weight"]  # policy context width
        policies = torch.arange(len(table), device=table.device)[:, None, None]
        return table[policies, place]

    def _attend(
        self, parameters: Parameters, name: str, x: Tensor, mask: Bool[Tensor, "row 1 step step"]
    ) -> Tensor:
        policies, samples, steps, _ = x.shape
        y = normalise(parameters, f"{name}.first", x).flatten(1, 2)
        made = linear(parameters, f"{name}.attend", y)
        made = made.view(policies * samples, steps, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = torch.nn.functional.scaled_dot_product_attention(
            made[0], made[1], made[2], attn_mask=mask
        )
        mixed = mixed.permute(0, 2, 1, 3).reshape(policies, samples * steps, self.hidden)
        return linear(parameters, f"{name}.mix", mixed).unflatten(1, (samples, steps))
