"""Actions from outside may be anything: make them legal, and say which had to be changed."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.core.environment import Box, Discrete, MultiDiscrete, Space
from mores.core.errors import UserError


class Repaired(NamedTuple):
    """An action that is in its space and legal, and where it is not what was asked for."""

    action: Tensor
    changed: Bool[Tensor, "world seat"]


def repair(
    space: Space, action: Tensor, legal: Bool[Tensor, "world seat option"] | None, role: str
) -> Repaired:
    """Mend what seats of a role do.

    Args:
        space: what they may do in this phase.
        action: what they ask for: `[world, seat]`, or `[world, seat, size]` for a box or
            several choices.
        legal: open options of each seat, those of several choices one after the other; `None`:
            all.
        role: its name, for messages.

    Raises:
        UserError: an action of the wrong size: that is no slip of a policy.
    """
    if isinstance(space, Discrete):
        return _choice(space.options, action, legal)
    if action.shape[-1] != space.size:
        raise UserError(
            f"actions of {role!r} have {space.size} numbers, not {action.shape[-1]}",
            code="wrong_shape",
            path=f"actions.{role}",
        )
    if isinstance(space, MultiDiscrete):
        return _choices(space, action, legal)
    return _point(space, action)


def _choices(
    space: MultiDiscrete, action: Tensor, legal: Bool[Tensor, "world seat option"] | None
) -> Repaired:
    """Each choice is mended by itself."""
    options = space.options
    open_now = [None] * len(options) if legal is None else legal.split(options, -1)
    mended = [_choice(*choice) for choice in zip(options, action.unbind(-1), open_now, strict=True)]
    chosen = torch.stack([one.action for one in mended], -1)
    return Repaired(chosen, torch.stack([one.changed for one in mended], -1).any(-1))


def _choice(
    options: int, action: Tensor, legal: Bool[Tensor, "world seat option"] | None
) -> Repaired:
    """What is not open becomes the first option that is."""
    asked = torch.nan_to_num(action, nan=-1.0) if action.is_floating_point() else action
    inside = (asked >= 0) & (asked < options)
    choice: Int[Tensor, "world seat"] = torch.where(inside, asked, 0).to(torch.int64)
    fine = inside & (choice == asked)  # 1.5 is no option
    if legal is None:
        return Repaired(torch.where(fine, choice, 0), ~fine)
    fine = fine & legal.gather(-1, choice[..., None])[..., 0]
    return Repaired(torch.where(fine, choice, legal.to(torch.int8).argmax(-1)), ~fine)


def _point(space: Box, action: Tensor) -> Repaired:
    """What is no number becomes 0, and what is out of range its nearest end."""
    action = action.to(torch.float32)
    low, high = (limit.to(action.device) for limit in space.limits)
    mended: Float[Tensor, "world seat size"] = torch.nan_to_num(action, nan=0.0).clamp(low, high)
    return Repaired(mended, (mended != action).any(-1))
