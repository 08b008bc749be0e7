"""Action masks padded to the number of options of an external client.

A client has one action space per agent; the space of the current phase may be smaller. Masks of
several simultaneous choices are concatenated.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

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


def _current_num_options(space: Space | None, num_options: NumOptions) -> tuple[int, ...] | None:
    """Options of each choice in this phase; `None` if the space is of another kind."""
    if isinstance(num_options, tuple):
        return space.num_options if isinstance(space, MultiDiscrete) else None
    return (space.num_options,) if isinstance(space, Discrete) else None
