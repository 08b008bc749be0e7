"""Legality of actions, and projection of external actions onto the legal ones of a space."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.core.errors import UserError
from mores.core.spaces import Box, Discrete, MultiDiscrete, Space

BOX_TOLERANCE = 1e-4  # of a limit, or absolute: rounding of a scaled action


class ProjectedAction(NamedTuple):
    """Legal actions, and the agents for which they differ from the requested ones."""

    action: Tensor
    projected: Bool[Tensor, "world agent"]


def project_action(
    space: Space, action: Tensor, action_mask: Bool[Tensor, "world agent option"] | None, role: str
) -> ProjectedAction:
    """The nearest legal actions of the agents of a role.

    Args:
        space: action space in this phase.
        action: requested actions: `[world, agent]`, or `[world, agent, size]` for a box or
            several choices.
        action_mask: legal options, those of several choices concatenated; `None`: all.
        role: name of the role, for messages.

    Raises:
        UserError: an action of the wrong size, which is a bug of the caller.
    """
    if isinstance(space, Discrete):
        return _project_discrete(space.num_options, action, action_mask)
    if action.shape[-1] != space.size:
        raise UserError(
            f"actions of {role!r} must have {space.size} numbers, not {action.shape[-1]}",
            code="wrong_shape",
            path=f"actions.{role}",
        )
    if isinstance(space, MultiDiscrete):
        return _project_multi_discrete(space, action, action_mask)
    return _project_box(space, action)


def illegal_agents(
    space: Space, action: Tensor, action_mask: Bool[Tensor, "world agent option"] | None
) -> Bool[Tensor, "world agent"]:
    """Agents whose action is outside the space or not legal.

    The arguments are those of `project_action`. In a box NaN is legal (a model that diverged
    stops, and its replicate with it), and so is an excess of `BOX_TOLERANCE` over a limit.
    """
    if not isinstance(space, Box):
        return project_action(space, action, action_mask, "").projected
    low, high = (limit.to(action.device) for limit in space.limits)
    low = low - BOX_TOLERANCE * low.abs().clamp(min=1.0)
    high = high + BOX_TOLERANCE * high.abs().clamp(min=1.0)
    return ((action < low) | (action > high)).any(-1)


def _project_multi_discrete(
    space: MultiDiscrete, action: Tensor, action_mask: Bool[Tensor, "world agent option"] | None
) -> ProjectedAction:
    """Projects each choice separately."""
    options = space.num_options
    masks = [None] * len(options) if action_mask is None else action_mask.split(options, -1)
    choices = [
        _project_discrete(*choice) for choice in zip(options, action.unbind(-1), masks, strict=True)
    ]
    legal_action = torch.stack([choice.action for choice in choices], -1)
    projected = torch.stack([choice.projected for choice in choices], -1).any(-1)
    return ProjectedAction(legal_action, projected)


def _project_discrete(
    num_options: int, action: Tensor, action_mask: Bool[Tensor, "world agent option"] | None
) -> ProjectedAction:
    """Replaces an illegal option by the first legal one."""
    if action.is_floating_point():
        action = torch.nan_to_num(action, nan=-1.0)
    illegal = action != action.clamp(0, num_options - 1)
    choice: Int[Tensor, "world agent"] = action.masked_fill(illegal, 0).to(torch.int64)
    if action.is_floating_point():
        illegal = illegal | (choice != action)  # 1.5 is not an option
        choice = choice.masked_fill(illegal, 0)
    if action_mask is None:
        return ProjectedAction(choice, illegal)
    illegal = illegal | ~action_mask.gather(-1, choice[..., None])[..., 0]
    first_legal = action_mask.to(torch.int8).argmax(-1)
    return ProjectedAction(torch.where(illegal, first_legal, choice), illegal)


def _project_box(space: Box, action: Tensor) -> ProjectedAction:
    """Replaces NaN by 0 and clamps to the limits of the box."""
    action = action.to(torch.float32)
    low, high = (limit.to(action.device) for limit in space.limits)
    clamped: Float[Tensor, "world agent size"] = torch.nan_to_num(action, nan=0.0).clamp(low, high)
    return ProjectedAction(clamped, (clamped != action).any(-1))
