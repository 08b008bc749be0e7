"""When a simulator starts a new episode in a world whose episode ended.

The modes are those of Gymnasium's vector environments (`gymnasium.vector.AutoresetMode`):

    same_step   in the step in which the episode ended; the last observation is delivered beside
                the first one of the new episode
    next_step   in the next step, which ignores the world's action and has reward 0
    disabled    never: the world does not change until it is reset
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Bool
from torch import Tensor

from mores.core.errors import UserError, did_you_mean

AutoresetMode = Literal["same_step", "next_step", "disabled"]
AUTORESET_MODES: tuple[AutoresetMode, ...] = get_args(AutoresetMode)


def check_autoreset_mode(mode: object) -> AutoresetMode:
    """The mode, if it is one."""
    for known in AUTORESET_MODES:
        if isinstance(mode, str) and mode == known:
            return known
    near = did_you_mean(mode, AUTORESET_MODES) if isinstance(mode, str) else ""
    raise UserError(
        f"autoreset_mode: must be one of {', '.join(AUTORESET_MODES)}, not {mode!r:.60}{near}",
        code="unknown_name" if isinstance(mode, str) else "wrong_type",
        path="autoreset_mode",
    )


def check_reset_mask(
    mask: object, num_worlds: int, path: str = "reset_mask"
) -> Bool[Tensor, " world"]:
    """The mask of the worlds to reset, if it is one.

    Raises:
        UserError: another type or shape, or no world is selected; with this path.
    """
    if not isinstance(mask, Tensor) or mask.dtype is not torch.bool:
        given = f"{mask.dtype}" if isinstance(mask, Tensor) else type(mask).__name__
        message = f"reset_mask: must be a bool array or tensor, not {given}"
        raise UserError(message, code="wrong_type", path=path)
    if mask.shape != (num_worlds,) or not bool(mask.any()):
        raise UserError(
            f"reset_mask: must have shape ({num_worlds},) and select a world, not "
            f"{tuple(mask.shape)} with {int(mask.sum())} selected",
            code="wrong_shape" if mask.shape != (num_worlds,) else "invalid_value",
            path=path,
        )
    return mask
