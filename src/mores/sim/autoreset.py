"""When a simulator starts a new episode in a world whose episode ended.

The modes are those of Gymnasium's vector environments (`gymnasium.vector.AutoresetMode`):

    same_step   in the step in which the episode ended; the last observation is delivered beside
                the first one of the new episode
    next_step   in the next step, which ignores the world's action and has reward 0
    disabled    never: the world does not change until it is reset
"""

from __future__ import annotations

from typing import Literal, get_args

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
