"""Action masks padded to the number of options of an external client.

A client has one action space per agent; the space of the current phase may be smaller. Masks of
several simultaneous choices are concatenated.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from mores.core.errors import UserError
from mores.core.spaces import Discrete, MultiDiscrete, Space

NumOptions = int | tuple[int, ...]  # of one choice, or of each of several


def pad_action_mask(
    space: Space | None,
    action_mask: Bool[Tensor, "world agent option"] | None,
    num_options: NumOptions,
    all_legal: Bool[Tensor, "world agent all"],
) -> Bool[Tensor, "world agent all"]:
    """A mask padded with illegal options to `num_options`.

    Args:
        space: action space in the current phase; `None`: the agents do not act.
        action_mask: its legal options; `None`: all.
        num_options: number of options of the result, of one choice or of each of several.
        all_legal: an all-true mask with the shape of the result.

    Returns:
        The legal options, which may be `action_mask` or `all_legal` itself. Where these choices do
        not exist in this phase, the first option of each is legal, and the action is ignored.
    """
    sizes = num_options if isinstance(num_options, tuple) else (num_options,)
    counts = _current_num_options(space, num_options)
    if counts == sizes:
        return all_legal if action_mask is None else action_mask
    mask = torch.zeros_like(all_legal)
    choices = mask.split(sizes, -1)
    if counts is None:
        for choice in choices:
            choice[..., 0] = True
        return mask
    action_mask = torch.ones_like(mask[..., : sum(counts)]) if action_mask is None else action_mask
    for choice, legal, count in zip(choices, action_mask.split(counts, -1), counts, strict=True):
        choice[..., :count] = legal
    return mask


def cut_action_mask(
    space: Space, action_mask: Bool[Tensor, "world all"], num_options: NumOptions
) -> Bool[Tensor, "world option"]:
    """A mask that `pad_action_mask` has padded, without the padding.

    Args:
        space: action space in the current phase.
        action_mask: legal options of one agent in each world.
        num_options: number of options of the mask, of one choice or of each of several.

    Raises:
        UserError: an option is legal that does not exist in this phase.
    """
    sizes = num_options if isinstance(num_options, tuple) else (num_options,)
    counts = _current_num_options(space, num_options)
    if counts is None or counts == sizes:
        return action_mask
    choices = action_mask.split(sizes, -1)
    if any(bool(choice[..., n:].any()) for choice, n in zip(choices, counts, strict=True)):
        message = "action_mask: a legal option does not exist in this phase: is it another one?"
        raise UserError(message, code="invalid_value", path="action_mask")
    return torch.cat([choice[..., :n] for choice, n in zip(choices, counts, strict=True)], -1)


def largest_num_options(spaces: Sequence[Space]) -> NumOptions | None:
    """Largest number of options of each choice in some phase; `None`: not all are choices."""
    if all(isinstance(space, Discrete) for space in spaces):
        return max(space.num_options for space in spaces if isinstance(space, Discrete))
    counts = [space.num_options for space in spaces if isinstance(space, MultiDiscrete)]
    if len(counts) == len(spaces) and len({len(count) for count in counts}) == 1:
        return tuple(max(sizes) for sizes in zip(*counts, strict=True))
    return None


def _current_num_options(space: Space | None, num_options: NumOptions) -> tuple[int, ...] | None:
    """Options of each choice in this phase; `None` if the space is of another kind."""
    if isinstance(num_options, tuple):
        return space.num_options if isinstance(space, MultiDiscrete) else None
    return (space.num_options,) if isinstance(space, Discrete) else None
