"""Observation and action spaces of a role as Gymnasium spaces.

Clients expect one action space per agent. A role whose number of options differs between phases
gets the largest number of each component; a mask marks the legal options of the current phase.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from mores.core.environment import Environment, Role
from mores.core.errors import UserError
from mores.core.spaces import Box
from mores.sim.action_masks import NumOptions, largest_num_options

# `MultiDiscrete` is generic from Gymnasium 1.4 on only.
ActionSpace = gymnasium.spaces.Discrete | gymnasium.spaces.MultiDiscrete | gymnasium.spaces.Box


def box_space(box: Box) -> gymnasium.spaces.Box:
    """Float32 box with the bounds of the named parts."""
    low, high = np.array(box.low, np.float32), np.array(box.high, np.float32)
    return gymnasium.spaces.Box(low, high, (box.size,), np.float32)


def observation_space(role: Role) -> gymnasium.spaces.Box:
    """Observation space of one agent of a role."""
    return box_space(role.observation_space)


def action_space(environment: Environment[Any], role: str) -> ActionSpace:
    """Action space of one agent of a role, over all its phases.

    Raises:
        UserError: the role acts in no phase, or its phases have incompatible action spaces.
    """
    spaces = [
        phase.action_spaces[role] for phase in environment.phases if role in phase.action_spaces
    ]
    if not spaces:
        raise UserError(
            f"external: {role!r} acts in no phase", code="unsupported", path=f"external.{role}"
        )
    largest = largest_num_options(spaces)
    if isinstance(largest, tuple):
        return gymnasium.spaces.MultiDiscrete(list(largest))
    if largest is not None:
        return gymnasium.spaces.Discrete(largest)  # type: ignore
    first = spaces[0]
    if isinstance(first, Box) and all(space == first for space in spaces):
        return box_space(first)
    phases = ", ".join(phase.name for phase in environment.phases if role in phase.action_spaces)
    raise UserError(
        f"external: {role!r} has different action spaces in the phases {phases}, and clients need "
        "one: split the role in two (one policy may act for both)",
        code="unsupported",
        path=f"external.{role}",
    )


def num_options(space: ActionSpace) -> NumOptions | None:
    """Number of options that a mask of the space covers. `None`: the action is a box."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return int(space.n)
    if isinstance(space, gymnasium.spaces.MultiDiscrete):
        return tuple(space.nvec.tolist())
    return None


def concatenate_boxes(boxes: list[gymnasium.spaces.Box]) -> gymnasium.spaces.Box:
    """Box of the concatenated vectors."""
    low = np.concatenate([box.low for box in boxes])
    high = np.concatenate([box.high for box in boxes])
    return gymnasium.spaces.Box(low, high, low.shape, np.float32)
