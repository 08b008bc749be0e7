"""Advice: how far it moves people, and how much they agree with it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mores.core.deterministic_sum import mean, norm, total

PersonValues = Float[Tensor, "world agent value"]
AdvicePositions = Float[Tensor, "world assistant value"]
AdviceIntensities = Float[Tensor, "world assistant"]


def advice_displacement(
    values: PersonValues,
    advice: AdvicePositions,
    intensity: AdviceIntensities,
    trust: Float[Tensor, "world agent assistant"],
    confidence_bound: float | None,
) -> PersonValues:
    """Mean over assistants of the way from each person to what they say, by voice and trust.

    Args:
        values: where people are.
        advice: what the assistants say.
        intensity: how loudly, in [0, 1].
        trust: of each person in each assistant, in [0, 1].
        confidence_bound: advice further away than this moves nobody; none: all of it does.
    """
    way = torch.zeros_like(values)
    assistants = advice.shape[1]
    for m in range(assistants):
        to_advice = advice[:, m, None] - values
        loud = intensity[:, m, None, None] * trust[:, :, m, None] / assistants
        if confidence_bound is not None:
            near = norm(to_advice) <= confidence_bound
            loud = loud * near[..., None]
        way = way + loud * to_advice
    return way


def approval(
    values: PersonValues, advice: AdvicePositions, intensity: AdviceIntensities
) -> Float[Tensor, "world agent assistant"]:
    """How much people agree with what they hear: voice * exp(-d^2 / 2), d root mean square."""
    apart = values[:, :, None] - advice[:, None]
    return intensity[:, None] * torch.exp(-0.5 * mean(apart * apart, -1))


def mean_advice(
    advice: AdvicePositions, intensity: AdviceIntensities
) -> Float[Tensor, "world value"]:
    """Mean of what was said, by voice; 0 if nobody spoke."""
    loud = intensity[..., None]
    return total(loud * advice, 1) / total(loud, 1).clamp(min=1e-6)
