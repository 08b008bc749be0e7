"""Check before models are made that they fit into memory.

The estimate counts parameters, gradients, Adam's two moments, and the reference model where a
recipe has one. Activations come on top.
"""

from __future__ import annotations

from pathlib import Path

import torch

from mores.core.errors import UserError

COPIES_PER_PARAMETER = 4  # the parameter, its gradient, two moments
BYTES_PER_NUMBER = 4  # float32


def check_memory(
    role: str,
    num_models: int,
    num_parameters: int,
    uses_reference_model: bool,
    device: torch.device,
) -> None:
    """Refuse models that are too large to train on a device.

    Args:
        role: name of the role, for the message.
        num_models: number of models.
        num_parameters: parameters of one model.
        uses_reference_model: whether the initial parameters are stored too.
        device: device of the models.

    Raises:
        UserError: they need more memory than is free; states both sizes.
    """
    needed = (
        num_models
        * num_parameters
        * (COPIES_PER_PARAMETER + uses_reference_model)
        * BYTES_PER_NUMBER
    )
    free = _free_bytes(device)
    if free is not None and needed > free:
        models = f"{num_models} models" if num_models > 1 else "a model"
        raise UserError(
            f"{role}: {models} of {num_parameters:,} parameters need {needed / 2**30:,.1f} GiB to "
            f"train, {free / 2**30:,.1f} GiB are free; use a smaller network or fewer replicates",
            code="too_large",
            path=f"policies.{role}",
        )


def _free_bytes(device: torch.device) -> int | None:
    """Free memory of a device in bytes; `None` if unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux
        return None
    free = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(free[0]) * 1024 if free else None
