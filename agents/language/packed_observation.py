"""Observations of a language model that learns: with the indices of the agent after them.

What an agent was asked is written again for an update, from its observation. A persona may also
depend on which agent it is, so that recorded observations carry the indices of world and agent.
"""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from mores.core.environment import ObservationModel, Role
from mores.core.spaces import Box, Part

INDICES = ("world index", "agent index")  # parts after those of the environment


def pack_observation(
    observation: Float[Tensor, "world agent size"],
) -> Float[Tensor, "world agent packed"]:
    """Observations, with the indices of world and agent after them."""
    worlds, agents = observation.shape[:2]
    world = torch.arange(worlds, device=observation.device)[:, None].expand(worlds, agents)
    agent = torch.arange(agents, device=observation.device).expand(worlds, agents)
    indices = torch.stack([world, agent], -1).to(observation.dtype)
    return torch.cat([observation, indices], -1)


def without_indices(
    packed: Float[Tensor, "world agent packed"],
) -> Float[Tensor, "world agent packed"]:
    """Packed observations with indices of 0, which do not depend on the worlds of a batch."""
    return torch.cat([packed[..., : -len(INDICES)], torch.zeros_like(packed[..., -2:])], -1)


def pack_recorded(
    observation: Float[Tensor, "world decision agent size"],
) -> Float[Tensor, "world decision agent packed"]:
    """`pack_observation` of every recorded decision."""
    return torch.stack([pack_observation(each) for each in observation.unbind(1)], 1)


def unpack_observation(
    packed: Float[Tensor, " packed"],
) -> tuple[Float[Tensor, " size"], int, int]:
    """An observation, and the indices of its world and agent."""
    world, agent = packed[-len(INDICES) :].tolist()
    return packed[: -len(INDICES)], int(world), int(agent)


def packed_role(role: Role) -> Role:
    """The role, with packed observations."""
    parts = {**role.observation_space.parts, **{name: Part(1, 0.0) for name in INDICES}}
    model = role.observation_model
    return dataclasses.replace(
        role,
        observation_space=Box(parts),
        observation_model=None if model is None else PackedObservationModel(model),
    )


@dataclasses.dataclass(frozen=True)
class PackedObservationModel:
    """Model of the next observation, for packed observations."""

    observation_model: ObservationModel

    def __call__(self, packed: Tensor, action: Tensor) -> Tensor:
        """The next packed observation."""
        observation, indices = packed[..., : -len(INDICES)], packed[..., -len(INDICES) :]
        return torch.cat([self.observation_model(observation, action), indices], -1)
