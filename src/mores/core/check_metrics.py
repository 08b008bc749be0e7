"""Checks of the metrics that environments and registered functions return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Num
from torch import Tensor

from mores.core.environment import Environment
from mores.core.errors import UserError

INTEGER_DTYPES = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
# Types that numpy and result files support.
SUPPORTED_DTYPES = (*INTEGER_DTYPES, torch.float16, torch.float32, torch.float64)


def checked_metrics(
    environment: Environment[Any], state: Any, num_worlds: int
) -> Mapping[str, Num[Tensor, "world *n"]]:
    """The metrics of a state by name, `[world]` or `[world, n]`.

    Raises:
        UserError: another type or shape.
    """
    metrics, class_name = environment.metrics(state), type(environment).__name__
    if not isinstance(metrics, Mapping) or not all(isinstance(name, str) for name in metrics):
        raise UserError(
            f"{class_name}.metrics must return tensors by name, not {metrics!r:.60}",
            code="failed",
            path="metrics",
        )
    for name, value in metrics.items():
        check_metric(name, value, num_worlds, f" of {class_name}")
    return metrics


def check_metric(name: str, value: Any, num_worlds: int, owner: str = "") -> None:
    """Check that a metric is `[world]` or `[world, n]`.

    Raises:
        UserError: another type or shape; `owner` says in the message whose metric it is.
    """
    if mismatch := _mismatch(value, num_worlds):
        raise UserError(
            f"metric {name!r}{owner} must be [world] or [world, n] of numbers with "
            f"{num_worlds} world{'' if num_worlds == 1 else 's'}, not {mismatch}",
            code="failed",
            path=f"metrics.{name}",
        )


def _mismatch(value: Any, num_worlds: int) -> str:
    """The wrong type, shape or dtype of a metric. Empty: none."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    shape = list(value.shape)
    if value.dim() not in (1, 2) or shape[0] != num_worlds or 0 in shape:
        return str(shape)
    if value.layout is not torch.strided or value.dtype not in SUPPORTED_DTYPES:
        return f"{value.layout}, {value.dtype}".replace("torch.", "")
    return ""
