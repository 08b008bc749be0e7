"""Statistics of updates, for training curves: losses, gradient norms, distance from the old policy.

An update consists of optimizer steps. Losses of terms, the total loss and the gradient norm are
means over all steps of an update, each before its step. What the terms' `diagnostics` return
(entropy, divergence from the old policy, clipped steps) is the mean over the steps of the last
epoch: the policy after the earlier epochs, at a fraction of the cost. Between two reads, updates
count alike.

Statistics are no part of a policy's state: nothing that is learned depends on them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Statistics = Mapping[str, Float[Tensor, " model"]]  # by name


class StepStatistics:
    """Statistics of the optimizer steps of one update."""

    def __init__(self) -> None:
        self._steps: dict[str, list[Tensor]] = {}

    def add(self, values: Statistics) -> None:
        """Add those of a step."""
        for name, value in values.items():
            self._steps.setdefault(name, []).append(value)

    def means(self) -> dict[str, Tensor]:
        """Mean of each quantity over the steps that have it."""
        return {
            name: steps[0] if len(steps) == 1 else torch.stack(steps).mean(0)
            for name, steps in self._steps.items()
        }


class UpdateStatistics:
    """Statistics of the updates since the last read, mean over updates."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    def add(self, values: Statistics, updated: Bool[Tensor, " model"]) -> None:
        """Add those of an update, of the models that it `updated`."""
        for name, value in values.items():
            value = torch.where(updated, value.detach(), 0.0)
            known = self._sums.get(name)
            self._sums[name] = value if known is None else known + value
            count = self._counts.get(name)
            self._counts[name] = updated.clone() if count is None else count + updated.int()

    def pop(self) -> dict[str, Tensor]:
        """Means over the updates; NaN for models without an update. Begins anew."""
        means = {
            name: torch.where(self._counts[name] > 0, total / self._counts[name], torch.nan)
            for name, total in self._sums.items()
        }
        self._sums, self._counts = {}, {}
        return means
