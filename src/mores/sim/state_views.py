"""Observations and action masks of the present state, which several readers need.

A client reads the observation that a policy of the role, a learner or a recorder reads as well.
`Environment.observe` and `action_mask` are pure functions, so that they are called once.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor


class StateViews:
    """Tensors computed from one state, by method, role and phase.

    A tensor that was written to since is computed again, and so is everything of another state.
    """

    def __init__(self) -> None:
        self._state: Any = None
        self._kept: dict[tuple[str, str, str], tuple[Tensor, int]] = {}

    def clear(self) -> None:
        """Forget all tensors."""
        self._state, self._kept = None, {}

    def get(self, method: str, state: Any, role: str, phase: str) -> Tensor | None:
        """The tensor of this state, if it was computed and did not change."""
        if state is not self._state:
            return None
        tensor, version = self._kept.get((method, role, phase), (None, 0))
        return tensor if tensor is not None and tensor._version == version else None

    def keep(self, method: str, state: Any, role: str, phase: str, tensor: Tensor) -> None:
        """Keep a tensor of this state; inference tensors do not count writes and are not kept."""
        if state is not self._state:
            self._state, self._kept = state, {}
        if not tensor.is_inference():
            self._kept[method, role, phase] = tensor, tensor._version
