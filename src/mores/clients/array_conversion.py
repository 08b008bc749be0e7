"""Conversion of actions, metrics and masks between numpy clients and tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mores.clients import text_rendering
from mores.clients.client_errors import RenderModeError
from mores.core.errors import UserError, did_you_mean
from mores.sim.action_masks import NumOptions

ARRAYS = ("torch", "numpy")  # what vector environments return


def action_to_tensor(action: Any, agent: str) -> Tensor:
    """Action of one agent as a tensor. The simulator checks its values."""
    if isinstance(action, Tensor):
        return action
    try:
        array = np.asarray(action)
    except ValueError:  # rows of different length
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        raise UserError(
            f"the action of {agent} must be a number or an array of numbers, not {action!r:.60}",
            code="wrong_type",
            path=f"actions.{agent}",
        )
    return torch.from_numpy(array.astype(np.float64 if array.dtype.kind == "f" else np.int64))


def metric_to_numpy(metric: Tensor) -> float | np.ndarray:
    """Metric of one world: a float, or a new array."""
    return float(metric) if metric.dim() == 0 else metric.cpu().numpy().copy()


class MultiDiscreteMask(tuple[np.ndarray, ...]):
    """Mask of a multi-discrete action: a tuple of one mask per component, as Gymnasium samples by.

    Clients that convert it to a tensor (TorchRL's wrappers) get the concatenated masks.
    """

    def __dlpack__(self, **kwargs: Any) -> Any:
        return np.concatenate(self).__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[Any, Any]:
        return np.concatenate(self).__dlpack_device__()


def sampling_mask(mask: Tensor, num_options: NumOptions) -> np.ndarray | MultiDiscreteMask:
    """Mask of one agent, `[option]`, as int8 for `action_space.sample`."""
    array = mask.cpu().numpy().astype(np.int8)
    if isinstance(num_options, int):
        return array
    return MultiDiscreteMask(part.copy() for part in np.split(array, np.cumsum(num_options)[:-1]))


def check_render_mode(render_mode: str | None) -> None:
    """Raise a `RenderModeError` if the render mode is unknown."""
    if render_mode is not None and render_mode not in text_rendering.RENDER_MODES:
        near = did_you_mean(render_mode, text_rendering.RENDER_MODES)
        raise RenderModeError(
            f"render_mode: no mode {render_mode!r}{near}", code="unknown_name", path="render_mode"
        )


def check_no_options(options: Mapping[str, Any] | None) -> None:
    """Raise a `UserError` if reset options are given: none exist."""
    if options is not None and not isinstance(options, Mapping):
        message = f"options: a mapping, not {options!r:.60}"
        raise UserError(message, code="wrong_type", path="options")
    if options:
        raise UserError(
            f"reset takes no options; got {sorted(options)}", code="unsupported", path="options"
        )


def check_array(array: Any) -> str:
    """The kind of arrays that a vector environment returns, if it is one."""
    if array in ARRAYS:
        return array
    near = did_you_mean(array, ARRAYS)
    raise UserError(
        f"array: must be one of {', '.join(ARRAYS)}, not {array!r:.60}{near}",
        code="unknown_name" if isinstance(array, str) else "wrong_type",
        path="array",
    )


def to_numpy(value: Any) -> Any:
    """A tensor as an array on the host, also inside dictionaries. CPU memory is not copied."""
    if isinstance(value, Tensor):
        return value.cpu().numpy()
    if isinstance(value, dict):
        return {name: to_numpy(entry) for name, entry in value.items()}
    return value
