"""Whether policies fit into memory, told before anything is made.

What they take is counted with what training them takes: a gradient and Adam's two moments for every
parameter, and the reference where a recipe has one. What passes through them comes on top.
"""

from __future__ import annotations

from pathlib import Path

import torch

from mores.core.errors import UserError

COPIES = 4  # of every parameter: itself, its gradient, two moments
BYTES = 4  # of a number


def check_room(
    who: str, policies: int, parameters: int, refers: bool, device: torch.device
) -> None:
    """Refuse policies that are too large to be trained here.

    Args:
        who: their role, for the message.
        policies: how many there are to be.
        parameters: of one.
        refers: whether what they begin from is kept.
        device: where they are to live.

    Raises:
        UserError: they do not fit, with what they take and what there is.
    """
    needed = policies * parameters * (COPIES + refers) * BYTES
    there = _free(device)
    if there is not None and needed > there:
        many = f"{policies} policies" if policies > 1 else "a policy"
        raise UserError(
            f"{who}: {many} of {parameters:,} parameters take {needed / 2**30:,.1f} GiB to train, "
            f"and {there / 2**30:,.1f} GiB are free: a smaller network, or fewer replicates",
            code="too_large",
            path=f"players.{who}",
        )


def _free(device: torch.device) -> int | None:
    """Bytes that are free on a device; `None` where it does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None
