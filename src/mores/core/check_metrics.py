"""What a game reports of its worlds, seen to have its shape: users write games too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Num
from torch import Tensor

from mores.core.environment import Environment
from mores.core.errors import UserError

INTEGER_DTYPES = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
SUPPORTED_DTYPES = (
    *INTEGER_DTYPES,
    torch.float16,
    torch.float32,
    torch.float64,
)  # to numpy, and to files


def checked_metrics(
    environment: Environment[Any], state: Any, num_worlds: int
) -> Mapping[str, Num[Tensor, "world *n"]]:
    """The measures of a state by name, `[world]` or `[world, n]`.

    Raises:
        UserError: they are anything else.
    """
    found, who = environment.metrics(state), type(environment).__name__
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        raise UserError(
            f"measures of {who} are tensors by name, not {found!r:.60}",
            code="failed",
            path="measures",
        )
    for name, value in found.items():
        if wrong := _mismatch(value, num_worlds):
            raise UserError(
                f"measure {name!r} of {who} is [world] or [world, n] of plain numbers, with "
                f"{num_worlds} world{'' if num_worlds == 1 else 's'}; here it is {wrong}",
                code="failed",
                path=f"measures.{name}",
            )
    return found


def _mismatch(value: Any, num_worlds: int) -> str:
    """What a measure is that it should not be."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    shape = list(value.shape)
    if value.dim() not in (1, 2) or shape[0] != num_worlds or 0 in shape:
        return str(shape)
    if value.layout is not torch.strided or value.dtype not in SUPPORTED_DTYPES:
        return f"{value.layout}, {value.dtype}".replace("torch.", "")
    return ""
