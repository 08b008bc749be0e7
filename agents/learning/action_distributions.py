"""Action distributions: discrete, multi-discrete and box actions from the outputs of a model.

The raw output of an action head, `[model, sample, step, raw]`, parametrizes a distribution. Noise
is an argument, drawn from `mores.core.random_streams`: Gumbel for options, normal for boxes.

Box actions are sampled in scaled units: `u ~ N(mean, exp(log_std))`; a bounded component is
`middle + half_width * u`, clipped at its bounds. Log-probabilities are those of `u`, so training
uses the sample before clipping.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from mores.core.spaces import Box, Discrete, MultiDiscrete, Space

MASKED_LOGIT = -1e9  # finite, with probability 0 in float32


class ActionLogProbs(NamedTuple):
    """Log-probabilities of actions.

    Attributes:
        logp: log-probability of each action.
        entropy: entropy of each distribution.
        logits: log-probabilities of all options, for discrete actions; else None.
    """

    logp: Float[Tensor, "*row"]
    entropy: Float[Tensor, "*row"]
    logits: Float[Tensor, "*row option"] | None


@dataclasses.dataclass(frozen=True)
class ActionDistribution:
    """Distribution over the actions of a space, given a raw output."""

    space: Space

    @property
    def dist_inputs_size(self) -> int:
        """Length of the raw output."""
        space = self.space
        if isinstance(space, Discrete):
            return space.num_options
        return sum(space.num_options) if isinstance(space, MultiDiscrete) else space.size

    @property
    def noise_size(self) -> int:
        """Length of the noise of an action: Gumbel noise for discrete actions, normal for boxes."""
        return self.dist_inputs_size

    @property
    def action_dim(self) -> int | None:
        """Length of an action; `None`: one number without a dimension."""
        return None if isinstance(self.space, Discrete) else self.space.size

    def log_probs(
        self,
        dist_inputs: Float[Tensor, "*row raw"],
        action: Tensor,
        action_mask: Bool[Tensor, "*row option"] | None,
        log_std: Float[Tensor, "*#row raw"] | None = None,
    ) -> ActionLogProbs:
        """Log-probabilities and entropies of actions."""
        if isinstance(self.space, Box):
            assert log_std is not None
            return _gaussian(dist_inputs, action, log_std)
        dist_inputs = (
            dist_inputs
            if action_mask is None
            else torch.where(action_mask, dist_inputs, MASKED_LOGIT)
        )
        if isinstance(self.space, Discrete):
            return _categorical(dist_inputs, action)
        parts = [
            _categorical(logits, action[..., i])
            for i, logits in enumerate(dist_inputs.split(list(self.space.num_options), -1))
        ]
        logp = torch.stack([part.logp for part in parts]).sum(0)
        return ActionLogProbs(logp, torch.stack([part.entropy for part in parts]).sum(0), None)

    def sample(
        self,
        dist_inputs: Float[Tensor, "*row raw"],
        noise: Float[Tensor, "*row raw"],
        action_mask: Bool[Tensor, "*row option"] | None,
        log_std: Float[Tensor, "*#row raw"] | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Actions sampled with the given noise; at temperature 0 the likeliest ones."""
        if isinstance(self.space, Box):
            assert log_std is not None
            return dist_inputs + temperature * torch.exp(log_std) * noise
        dist_inputs = (
            dist_inputs
            if action_mask is None
            else torch.where(action_mask, dist_inputs, MASKED_LOGIT)
        )
        noisy = dist_inputs + temperature * noise
        if isinstance(self.space, Discrete):
            return noisy.argmax(-1)
        parts = noisy.split(list(self.space.num_options), -1)
        return torch.stack([part.argmax(-1) for part in parts], -1)

    def expected_action(
        self,
        dist_inputs: Float[Tensor, "*row raw"],
        action_mask: Bool[Tensor, "*row option"] | None,
        temperature: float = 1.0,
    ) -> Float[Tensor, "*row raw"]:
        """Probabilities of the options of each choice; in a box the mean before clipping.

        At temperature 0 the likeliest option has probability 1.
        """
        if isinstance(self.space, Box):
            return dist_inputs
        if action_mask is not None:
            dist_inputs = torch.where(action_mask, dist_inputs, MASKED_LOGIT)
        space = self.space
        sizes = [space.num_options] if isinstance(space, Discrete) else list(space.num_options)
        parts = dist_inputs.split(sizes, -1)
        if temperature == 0:
            return torch.cat(
                [functional.one_hot(x.argmax(-1), x.shape[-1]).to(x.dtype) for x in parts], -1
            )
        return torch.cat([(x / temperature).softmax(-1) for x in parts], -1)

    def unscale_action(self, action: Tensor) -> Tensor:
        """Action in units of the environment, clipped at the bounds of a box."""
        if not isinstance(self.space, Box):
            return action
        middle, half, low, high = self._scaling(action)
        return torch.minimum(torch.maximum(middle + half * action, low), high)

    def scale_action(self, action: Tensor) -> Tensor:
        """Action in units of this distribution, from units of the environment."""
        if not isinstance(self.space, Box):
            return action
        middle, half, _, _ = self._scaling(action)
        return (action - middle) / half

    def _scaling(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Middle and half width of each component (0 and 1 if unbounded), lower and upper bound."""
        assert isinstance(self.space, Box)
        low, high = (limit.to(like.device) for limit in self.space.limits)
        bounded = torch.isfinite(low) & torch.isfinite(high)
        middle = torch.where(bounded, (low + high) / 2, 0.0)
        half = torch.where(bounded, (high - low) / 2, 1.0)
        return middle, torch.where(half > 0, half, 1.0), low, high


def _categorical(raw_logits: Float[Tensor, "*row option"], action: Tensor) -> ActionLogProbs:
    logits = raw_logits.log_softmax(-1)
    logp = logits.gather(-1, action.long()[..., None])[..., 0]
    entropy = -(logits.exp() * logits).sum(-1)
    return ActionLogProbs(logp, entropy, logits)


def _gaussian(mean: Tensor, action: Tensor, log_std: Tensor) -> ActionLogProbs:
    z = (action - mean) * torch.exp(-log_std)
    constant = 0.5 * math.log(2 * math.pi)
    logp = (-0.5 * z * z - log_std - constant).sum(-1)
    entropy = (log_std + constant + 0.5).expand(mean.shape).sum(-1)
    return ActionLogProbs(logp, entropy, None)
