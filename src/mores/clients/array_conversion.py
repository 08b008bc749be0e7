"""Actions, measures and arguments as they come from numpy clients, and go to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mores.clients import text_rendering
from mores.core.errors import UserError, did_you_mean
from mores.sim.action_masks import NumOptions


class RenderModeError(UserError, TypeError):
    """Clients that try a mode and fall back (Stable-Baselines3) look for a `TypeError`."""


def action_to_tensor(action: Any, agent: str) -> Tensor:
    """An action of one seat as a tensor: what is in it is checked by the table."""
    if isinstance(action, Tensor):
        return action
    try:
        array = np.asarray(action)
    except ValueError:  # rows of different length
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        raise UserError(
            f"the action of {agent} is a number or an array of numbers, not {action!r:.60}",
            code="wrong_type",
            path=f"actions.{agent}",
        )
    return torch.from_numpy(array.astype(np.float64 if array.dtype.kind == "f" else np.int64))


def metric_to_numpy(metric: Tensor) -> float | np.ndarray:
    """A measure of one world: a float, or an array of its own."""
    return float(metric) if metric.dim() == 0 else metric.cpu().numpy().copy()


class MultiDiscreteMask(tuple[np.ndarray, ...]):
    """Masks of several choices: a tuple, as Gymnasium samples by, that makes one tensor.

    Clients that ask for a tensor (TorchRL's wrappers) get the masks one after the other.
    """

    def __dlpack__(self, **how: Any) -> Any:
        return np.concatenate(self).__dlpack__(**how)

    def __dlpack_device__(self) -> tuple[Any, Any]:
        return np.concatenate(self).__dlpack_device__()


def sampling_mask(mask: Tensor, num_options: NumOptions) -> np.ndarray | MultiDiscreteMask:
    """A mask of one seat, `[option]`, as `action_space.sample` takes it: int8."""
    array = mask.cpu().numpy().astype(np.int8)
    if isinstance(num_options, int):
        return array
    return MultiDiscreteMask(part.copy() for part in np.split(array, np.cumsum(num_options)[:-1]))


def check_render_mode(render_mode: str | None) -> None:
    """Refuse a render mode that there is not."""
    if render_mode is not None and render_mode not in text_rendering.RENDER_MODES:
        raise RenderModeError(
            f"no render mode {render_mode!r}{did_you_mean(render_mode, text_rendering.RENDER_MODES)}",
            code="unknown_name",
            path="render_mode",
        )


def check_no_options(options: Mapping[str, Any] | None) -> None:
    """Refuse reset options, of which there are none."""
    if options:
        raise UserError(
            f"reset takes no options; got {sorted(options)}", code="unsupported", path="options"
        )
