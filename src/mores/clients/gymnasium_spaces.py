"""What a role sees and may do, as Gymnasium spaces.

Clients know one action space a seat. A role that chooses among different numbers of options in
different phases gets the largest, choice by choice; a mask says which of them are open now.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from mores.core.environment import Box, Discrete, Environment, MultiDiscrete, Role
from mores.core.errors import UserError
from mores.sim.action_masks import NumOptions

ActionSpace = (
    gymnasium.spaces.Discrete | gymnasium.spaces.MultiDiscrete[np.int64] | gymnasium.spaces.Box
)


def box_space(box: Box) -> gymnasium.spaces.Box:
    """A vector with the bounds of its named parts, in float32."""
    low, high = np.array(box.low, np.float32), np.array(box.high, np.float32)
    return gymnasium.spaces.Box(low, high, (box.size,), np.float32)


def observation_space(role: Role) -> gymnasium.spaces.Box:
    """What one seat of a role sees."""
    return box_space(role.observation_space)


def action_space(environment: Environment[Any], role: str) -> ActionSpace:
    """What one seat of a role may do in any of its phases.

    Raises:
        UserError: the role acts in no phase, or has actions that are not one space.
    """
    spaces = [
        phase.action_spaces[role] for phase in environment.phases if role in phase.action_spaces
    ]
    if not spaces:
        raise UserError(
            f"{role!r} acts in no phase: nobody outside can sit there",
            code="unsupported",
            path=f"outside.{role}",
        )
    if all(isinstance(space, Discrete) for space in spaces):
        return gymnasium.spaces.Discrete(max(space.num_options for space in spaces))  # type: ignore
    several = [space.num_options for space in spaces if isinstance(space, MultiDiscrete)]
    if len(several) == len(spaces) and len({len(options) for options in several}) == 1:
        return gymnasium.spaces.MultiDiscrete([max(each) for each in zip(*several, strict=True)])
    first = spaces[0]
    if isinstance(first, Box) and all(space == first for space in spaces):
        return box_space(first)
    phases = ", ".join(phase.name for phase in environment.phases if role in phase.action_spaces)
    raise UserError(
        f"{role!r} acts in different spaces in the phases {phases}: no client can take it; "
        "split it in two roles, which one player may fill",
        code="unsupported",
        path=f"outside.{role}",
    )


def num_options(space: ActionSpace) -> NumOptions | None:
    """How many options a mask of that space tells of; `None` where actions are numbers."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return int(space.n)
    if isinstance(space, gymnasium.spaces.MultiDiscrete):
        return tuple(space.nvec.tolist())
    return None


def concatenate_boxes(boxes: list[gymnasium.spaces.Box]) -> gymnasium.spaces.Box:
    """One vector of several."""
    low = np.concatenate([box.low for box in boxes])
    high = np.concatenate([box.high for box in boxes])
    return gymnasium.spaces.Box(low, high, low.shape, np.float32)
