"""Statistics of updates, for training curves: losses, gradient norms, distance from the old policy.

An update consists of optimizer steps. Losses of terms, the total loss and the gradient norm are
means over all steps of an update, each before its step. What the terms' `diagnostics` return
(entropy, divergence from the old policy, clipped steps) is the mean over the steps of the last
epoch: the policy after the earlier epochs, at a fraction of the cost. Steps on minibatches in which
a model has no valid sample are left out, such as those on rounds after the end of its episodes.
Between two reads, updates count alike, and those in which a quantity is NaN are left out.

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
        self._has_gaps = False

    def add(self, values: Statistics, has_samples: Bool[Tensor, " model"] | None = None) -> None:
        """Add those of a step, of the models that had samples in it; `None`: all had."""
        for name, value in values.items():
            if has_samples is not None:
                value = torch.where(has_samples, value, torch.nan)
                self._has_gaps = True
            self._steps.setdefault(name, []).append(value)

    def means(self) -> dict[str, Tensor]:
        """Mean of each quantity over the steps that have it; NaN for models without any."""
        return {
            name: steps[0]
            if len(steps) == 1
            else torch.stack(steps).nanmean(0)
            if self._has_gaps
            else torch.stack(steps).mean(0)
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
            counts = updated & ~value.isnan()
            value = torch.where(counts, value.detach(), 0.0)
            known, count = self._sums.get(name), self._counts.get(name)
            self._sums[name] = value if known is None else known + value
            self._counts[name] = counts.int() if count is None else count + counts

    def pop(self) -> dict[str, Tensor]:
        """Means over the updates; NaN for models without one that has it. Begins anew."""
        means = {
            name: torch.where(self._counts[name] > 0, total / self._counts[name], torch.nan)
            for name, total in self._sums.items()
        }
        self._sums, self._counts = {}, {}
        return means
