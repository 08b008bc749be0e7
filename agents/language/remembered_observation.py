"""Observations of a language model that learns: with the memory of the agent after them.

What an agent was asked is written again for an update: from its observation, and from what it
remembered at that moment. The memory (`mores.agents.language.memory`) is stored as numbers of the
observation: bytes, tokens and counts are whole numbers below 2^24, exact in float32.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from jaxtyping import Float
from torch import Tensor

from mores.agents.language.memory import Memory, MemorySettings
from mores.core.environment import Role
from mores.core.spaces import Box, Part

MEMORY = "memory"  # name of the part after those of the environment
NAMES = tuple(field.name for field in dataclasses.fields(Memory))


def with_memory(
    observation: Float[Tensor, "world agent size"], memory: Memory | None
) -> Float[Tensor, "world agent packed"]:
    """Observations with what each agent remembers after them."""
    if memory is None:
        return observation
    numbers = [getattr(memory, name).flatten(2) for name in NAMES if _dims(memory, name)]
    counts = [getattr(memory, name)[..., None] for name in NAMES if not _dims(memory, name)]
    parts = [each.to(observation.dtype) for each in (*numbers, *counts)]
    return torch.cat([observation, *parts], -1)


def split_memory(
    packed: Float[Tensor, " packed"], size: int, settings: MemorySettings
) -> tuple[Float[Tensor, " size"], Memory | None]:
    """An observation of this size, and the memory of one agent in one world."""
    if not settings.turns:
        return packed, None
    empty = settings.empty(1, 1, packed.device)
    names = [n for n in NAMES if _dims(empty, n)] + [n for n in NAMES if not _dims(empty, n)]
    shapes = {name: getattr(empty, name).shape for name in names}
    parts = packed[size:].split([math.prod(shape) for shape in shapes.values()])
    fields = {
        name: part.reshape(shapes[name]).to(getattr(empty, name).dtype)
        for name, part in zip(names, parts, strict=True)
    }
    return packed[:size], Memory(**fields)


def role_with_memory(role: Role, settings: MemorySettings) -> Role:
    """The role, with observations that contain the memory.

    What an agent remembers after its action does not follow from these: there is no model of the
    next observation.
    """
    if not settings.turns:
        return role
    memory = settings.empty(1, 1, "cpu")
    size = sum(getattr(memory, name).numel() for name in NAMES)
    parts = {**role.observation_space.parts, MEMORY: Part(size)}
    return dataclasses.replace(role, observation_space=Box(parts), observation_model=None)


def _dims(memory: Memory, name: str) -> bool:
    """Whether a field has dimensions besides world and agent."""
    return getattr(memory, name).dim() > 2
