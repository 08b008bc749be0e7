"""Observations of Gymnasium and PettingZoo clients: a vector, or a mapping with the action mask.

Some learners read action masks in the observation, not in `info`: Tianshou's `PettingZooEnv` and
the environments of PettingZoo itself expect `{"observation": ..., "action_mask": ...}`.
"""

from __future__ import annotations

from typing import Any, TypeVar

import gymnasium
import numpy as np
import torch
from torch import Tensor

from mores.core.errors import UserError, did_you_mean
from mores.sim.action_masks import NumOptions

ArrayOrTensor = TypeVar("ArrayOrTensor", np.ndarray, Tensor)
FORMATS = ("vector", "dict")
OBSERVATION, ACTION_MASK = "observation", "action_mask"  # keys of the mapping


def check_format(observation: Any) -> str:
    """Return `observation` if it is a valid format.

    Raises:
        UserError: it is no format.
    """
    if observation in FORMATS:
        return observation
    raise UserError(
        f"observation: no format {observation!r:.60}{did_you_mean(observation, FORMATS)}",
        code="unknown_name" if isinstance(observation, str) else "wrong_type",
        path="observation",
    )


def format_space(
    box: gymnasium.spaces.Box, num_options: NumOptions | None, observation: str
) -> gymnasium.spaces.Space[Any]:
    """Space of observations in a format.

    Args:
        box: space of the vector.
        num_options: options that a mask covers; `None`: the action is a box and has no mask.
        observation: the format.
    """
    if observation == "vector":
        return box
    spaces: dict[str, gymnasium.spaces.Space[Any]] = {OBSERVATION: box}
    if num_options is not None:
        length = num_options if isinstance(num_options, int) else sum(num_options)
        spaces[ACTION_MASK] = gymnasium.spaces.Box(0, 1, (length,), np.int8)
    return gymnasium.spaces.Dict(spaces)


def format_observation(vector: ArrayOrTensor, mask: ArrayOrTensor | None, observation: str) -> Any:
    """Observation in a format: the vector, or the mapping with the mask as int8.

    Args:
        vector: `[size]` or `[world, size]`.
        mask: legal options, `[option]` or `[world, option]`; masks of a multi-discrete action are
            concatenated. `None`: the action is a box.
        observation: the format.
    """
    if observation == "vector":
        return vector
    if mask is None:
        return {OBSERVATION: vector}
    if isinstance(mask, Tensor):
        return {OBSERVATION: vector, ACTION_MASK: mask.to(torch.int8)}
    return {OBSERVATION: vector, ACTION_MASK: mask.astype(np.int8)}
