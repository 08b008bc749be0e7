"""Whether policies fit into memory, told before anything is made.

What they take is counted with what training them takes: a gradient and Adam's two moments for every
parameter, and the reference where a recipe has one. What passes through them comes on top.
"""

from __future__ import annotations

from pathlib import Path

import torch

from mores.core.errors import UserError

COPIES_PER_PARAMETER = 4  # of every parameter: itself, its gradient, two moments
BYTES_PER_NUMBER = 4  # of a number


def check_memory(
    role: str,
    num_models: int,
    num_parameters: int,
    uses_reference_model: bool,
    device: torch.device,
) -> None:
    """Refuse policies that are too large to be trained here.

    Args:
        role: their role, for the message.
        num_models: how many there are to be.
        num_parameters: of one.
        uses_reference_model: whether what they begin from is kept.
        device: where they are to live.

    Raises:
        UserError: they do not fit, with what they take and what there is.
    """
    needed = (
        num_models
        * num_parameters
        * (COPIES_PER_PARAMETER + uses_reference_model)
        * BYTES_PER_NUMBER
    )
    there = _free_bytes(device)
    if there is not None and needed > there:
        many = f"{num_models} policies" if num_models > 1 else "a policy"
        raise UserError(
            f"{role}: {many} of {num_parameters:,} parameters take {needed / 2**30:,.1f} GiB to train, "
            f"and {there / 2**30:,.1f} GiB are free: a smaller network, or fewer replicates",
            code="too_large",
            path=f"players.{role}",
        )


def _free_bytes(device: torch.device) -> int | None:
    """Bytes that are free on a device; `None` where it does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None
