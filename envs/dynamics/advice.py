"""Displacement of people by the assistants' advice, and people's agreement with it.

Advice and intensity are those that each person receives (`audience`): their agent dimension has
the length 1 where all people of a world receive the same.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mores.core.deterministic_sum import mean, norm, total

PersonValues = Float[Tensor, "world agent value"]
AdvicePositions = Float[Tensor, "world #agent assistant value"]
AdviceIntensities = Float[Tensor, "world #agent assistant"]


def advice_displacement(
    values: PersonValues,
    advice: AdvicePositions,
    intensity: AdviceIntensities,
    trust: Float[Tensor, "world agent assistant"] | None,
    confidence_bound: float | Float[Tensor, "world agent 1"] | None,
) -> PersonValues:
    """Mean over assistants of `intensity * trust * (advice - value)` of each person.

    Args:
        values: people's values.
        advice: position advised by each assistant.
        intensity: weight of each assistant's advice, in [0, 1].
        trust: trust of each person in each assistant, in [0, 1]; None: 1.
        confidence_bound: advice at a larger distance has no effect; one number, or that of each
            person; None: no bound.
    """
    displacement = None
    num_assistants = advice.shape[2]
    for m in range(num_assistants):
        difference = advice[:, :, m] - values
        weight = intensity[:, :, m : m + 1]  # world agent 1
        if trust is not None:
            weight = weight * trust[:, :, m : m + 1]
        if num_assistants > 1:
            weight = weight / num_assistants
        if confidence_bound is not None:
            within_bound = norm(difference)[..., None] <= confidence_bound  # world agent 1
            weight = weight * within_bound
        moved = weight * difference
        displacement = moved if displacement is None else displacement + moved
    return torch.zeros_like(values) if displacement is None else displacement


def approval(
    values: PersonValues, advice: AdvicePositions, intensity: AdviceIntensities
) -> Float[Tensor, "world agent assistant"]:
    """Agreement of each person with each advice: `intensity * exp(-d^2 / 2)`, d RMS distance."""
    difference = values[:, :, None] - advice
    return intensity * torch.exp(-0.5 * mean(difference * difference, -1))


def mean_advice(
    advice: AdvicePositions, intensity: AdviceIntensities
) -> Float[Tensor, "world #agent value"]:
    """Mean advice, weighted by intensity; 0 if all intensities are 0, or without assistants."""
    if not advice.shape[2]:
        return advice.new_zeros(*advice.shape[:2], advice.shape[3])
    weight = intensity[..., None]
    return total(weight * advice, 2) / total(weight, 2).clamp(min=1e-6)
