"""TorchRL's specifications of actions, observations and ends of episodes."""

from __future__ import annotations

import gymnasium
import torch
from torch import Tensor
from torchrl.data import (
    Bounded,
    Categorical,
    Composite,
    MultiCategorical,
    TensorSpec,
    Unbounded,
)

from mores.clients.gymnasium_spaces import ActionSpace, num_options


def bool_spec(shape: torch.Size, device: torch.device) -> Categorical:
    """Flags of the given shape."""
    return Categorical(2, shape=shape, dtype=torch.bool, device=device)


def done_spec(leading: torch.Size, device: torch.device) -> Composite:
    """`done`, `terminated` and `truncated`, each `[*leading, 1]`."""
    shape = torch.Size((*leading, 1))
    ends = {name: bool_spec(shape, device) for name in ("done", "terminated", "truncated")}
    return Composite(ends, shape=leading, device=device)


def action_spec(space: ActionSpace, leading: torch.Size, device: torch.device) -> TensorSpec:
    """Actions in a Gymnasium space: `[*leading]`, or `[*leading, size]` for vectors."""
    if isinstance(space, gymnasium.spaces.Box):
        low, high = (torch.from_numpy(bound).to(device) for bound in (space.low, space.high))
        return box_spec(low, high, leading)
    options = num_options(space)
    if isinstance(options, int):
        return Categorical(options, leading, device, torch.int64)
    assert options is not None
    shape = torch.Size((*leading, len(options)))
    return MultiCategorical(options, shape, device, torch.int64)


def mask_spec(space: ActionSpace, leading: torch.Size, device: torch.device) -> Categorical:
    """Action masks, `[*leading, option]`; masks of several choices are concatenated."""
    options = num_options(space)
    length = sum(options) if isinstance(options, tuple) else options or 0
    return bool_spec(torch.Size((*leading, length)), device)


def box_spec(low: Tensor, high: Tensor, leading: torch.Size) -> TensorSpec:
    """Vectors `[*leading, size]` with bounds `[size]`, or one for each of the leading indices."""
    shape, device = torch.Size((*leading, low.shape[-1])), low.device
    if not bool(torch.isfinite(low).all() & torch.isfinite(high).all()):
        return Unbounded(shape, device=device)  # a half-bounded box cannot be sampled uniformly
    low, high = low.expand(shape), high.expand(shape)
    return Bounded(low, high, shape, device=device, dtype=torch.float32)
