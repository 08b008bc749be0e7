"""Actions from outside may be anything: make them legal, and say which had to be changed."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.core.environment import Box, Discrete, MultiDiscrete, Space
from mores.core.errors import UserError


class ProjectedAction(NamedTuple):
    """An action that is in its space and legal, and where it is not what was asked for."""

    action: Tensor
    projected: Bool[Tensor, "world seat"]


def project_action(
    space: Space, action: Tensor, action_mask: Bool[Tensor, "world seat option"] | None, role: str
) -> ProjectedAction:
    """Mend what seats of a role do.

    Args:
        space: what they may do in this phase.
        action: what they ask for: `[world, seat]`, or `[world, seat, size]` for a box or
            several choices.
        action_mask: open options of each seat, those of several choices one after the other; `None`:
            all.
        role: its name, for messages.

    Raises:
        UserError: an action of the wrong size: that is no slip of a policy.
    """
    if isinstance(space, Discrete):
        return _project_discrete(space.num_options, action, action_mask)
    if action.shape[-1] != space.size:
        raise UserError(
            f"actions of {role!r} have {space.size} numbers, not {action.shape[-1]}",
            code="wrong_shape",
            path=f"actions.{role}",
        )
    if isinstance(space, MultiDiscrete):
        return _project_multi_discrete(space, action, action_mask)
    return _project_box(space, action)


def _project_multi_discrete(
    space: MultiDiscrete, action: Tensor, action_mask: Bool[Tensor, "world seat option"] | None
) -> ProjectedAction:
    """Each choice is mended by itself."""
    options = space.num_options
    open_now = [None] * len(options) if action_mask is None else action_mask.split(options, -1)
    mended = [
        _project_discrete(*choice)
        for choice in zip(options, action.unbind(-1), open_now, strict=True)
    ]
    chosen = torch.stack([one.action for one in mended], -1)
    return ProjectedAction(chosen, torch.stack([one.projected for one in mended], -1).any(-1))


def _project_discrete(
    num_options: int, action: Tensor, action_mask: Bool[Tensor, "world seat option"] | None
) -> ProjectedAction:
    """What is not open becomes the first option that is."""
    asked = torch.nan_to_num(action, nan=-1.0) if action.is_floating_point() else action
    inside = (asked >= 0) & (asked < num_options)
    choice: Int[Tensor, "world seat"] = torch.where(inside, asked, 0).to(torch.int64)
    fine = inside & (choice == asked)  # 1.5 is no option
    if action_mask is None:
        return ProjectedAction(torch.where(fine, choice, 0), ~fine)
    fine = fine & action_mask.gather(-1, choice[..., None])[..., 0]
    return ProjectedAction(torch.where(fine, choice, action_mask.to(torch.int8).argmax(-1)), ~fine)


def _project_box(space: Box, action: Tensor) -> ProjectedAction:
    """What is no number becomes 0, and what is out of range its nearest end."""
    action = action.to(torch.float32)
    low, high = (limit.to(action.device) for limit in space.limits)
    mended: Float[Tensor, "world seat size"] = torch.nan_to_num(action, nan=0.0).clamp(low, high)
    return ProjectedAction(mended, (mended != action).any(-1))
