"""Which options are open, laid out for as many options as somebody outside knows of.

A client knows one action space a seat; what is open to it differs from phase to phase. Masks of
several choices at once stand one after the other.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from mores.core.environment import Discrete, MultiDiscrete, Space

NumOptions = int | tuple[int, ...]  # of one choice, or of each of several


def pad_action_mask(
    space: Space | None,
    action_mask: Bool[Tensor, "world agent option"] | None,
    num_options: NumOptions,
    blank: Bool[Tensor, "world agent all"],
) -> Bool[Tensor, "world agent all"]:
    """A mask of the length that was asked for.

    Args:
        space: what may be done now; `None`: nothing.
        action_mask: which of its options are open; `None`: all.
        num_options: how many options to tell of, in one choice or in each of several.
        blank: all closed, of the mask's shape.

    Returns:
        Which are open. Who has none of these choices to make now has the first option of each,
        and it is ignored.
    """
    asked = num_options if isinstance(num_options, tuple) else (num_options,)
    mask = blank.clone()
    choices = mask.split(asked, -1)
    has = _current_num_options(space, num_options)
    if has is None:
        for choice in choices:
            choice[..., 0] = True
        return mask
    action_mask = torch.ones_like(mask[..., : sum(has)]) if action_mask is None else action_mask
    for choice, open_now, count in zip(choices, action_mask.split(has, -1), has, strict=True):
        choice[..., :count] = open_now
    return mask


def _current_num_options(space: Space | None, num_options: NumOptions) -> tuple[int, ...] | None:
    """How many options each choice has now, if these are the choices that were asked about."""
    if isinstance(num_options, tuple):
        return space.num_options if isinstance(space, MultiDiscrete) else None
    return (space.num_options,) if isinstance(space, Discrete) else None
