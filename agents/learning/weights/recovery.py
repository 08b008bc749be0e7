"""Recovery of alignment step by step, with roll-back: the loop of Yang et al. 2025.

Every step copies a small share of weights from the aligned model (`select_weights` by the gradient
of the alignment loss, summed over steps). After the warm-up steps the downstream loss is measured.
Models whose loss rose by more than allowed restart from the fine-tuned weights, with roll-back:
after each of their steps the fraction `rollback_fraction` of the weights just restored returns to
the fine-tuned model, those with the largest gradient of a downstream loss that decreases by it. All
models continue until their downstream loss, measured every few steps, exceeds its limit; the result
is the last weights within the limit.

Source: "Alleviating the Fear of Losing Alignment in LLM Fine-tuning" (arXiv 2504.09757) and its
code, github.com/kangyangWHU/LLMAlignment, whose defaults these are. As there, gradients are summed
over the steps of a model without roll-back, and are cleared at every roll-back. Differences: losses
here, where the paper measures a score that may drop by 5 %; every model decides independently; and
ties of the threshold do not drop weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.agents.learning.weights.selective_restore import (
    LossPerModel,
    restore,
    restored_fraction,
    select_weights,
)
from mores.agents.learning.weights.stacked_weights import (
    PerModel,
    StackedWeights,
    broadcast_like,
    check_fraction,
    check_layout,
    replace_models,
)
from mores.core.errors import UserError

GradientFunction = Callable[[dict[str, Tensor]], dict[str, Tensor]]


@dataclasses.dataclass(frozen=True)
class RecoveryConfig:
    """Settings of `recover`.

    Attributes:
        max_loss_increase: allowed increase of the downstream loss, in its unit, at least 0.
        step_fraction: largest share of all weights that a step restores.
        warmup_steps: steps before the models with roll-back are determined.
        steps: total number of steps.
        check_every: steps between two measurements of the downstream loss.
        rollback_fraction: fraction of the weights restored in a step that is rolled back.
    """

    max_loss_increase: PerModel
    step_fraction: float = 0.002
    warmup_steps: int = 5
    steps: int = 20
    check_every: int = 5
    rollback_fraction: float = 0.2

    def __post_init__(self) -> None:
        check_fraction(self.step_fraction, "step_fraction")
        check_fraction(self.rollback_fraction, "rollback_fraction")
        if not 0 <= self.warmup_steps <= self.steps or self.check_every < 1:
            raise UserError(
                "warmup_steps must lie in [0, steps] and check_every be 1 or more, not "
                f"warmup_steps {self.warmup_steps}, steps {self.steps}, check_every "
                f"{self.check_every}",
                code="out_of_range",
                path="check_every" if self.check_every < 1 else "warmup_steps",
            )


class RecoveryResult(NamedTuple):
    """Result of `recover`.

    Attributes:
        weights: the last weights of every model within the limit of its loss.
        rolled_back: models that restarted with roll-back.
        restored_fraction: share of weights that equal those of the aligned model.
        loss_before: downstream loss before.
        loss_after: downstream loss after.
    """

    weights: dict[str, Tensor]
    rolled_back: Bool[Tensor, " model"]
    restored_fraction: Float[Tensor, " model"]
    loss_before: Float[Tensor, " model"]
    loss_after: Float[Tensor, " model"]


def recover(
    finetuned: StackedWeights,
    aligned: StackedWeights,
    alignment_gradient: GradientFunction,
    downstream_gradient: GradientFunction,
    downstream_loss: LossPerModel,
    config: RecoveryConfig,
) -> RecoveryResult:
    """Restore the alignment of every model as far as its downstream loss allows.

    Args:
        finetuned: weights after fine-tuning.
        aligned: weights before it.
        alignment_gradient: gradient of every model's alignment loss, from weights; tensors that it
            leaves out are not restored.
        downstream_gradient: gradient of a loss of the downstream task, from weights.
        downstream_loss: the measured loss, `[model]`, from weights; deterministic.
        config: settings.

    Raises:
        UserError: layouts differ.
    """
    check_layout(finetuned, aligned)
    before = downstream_loss(dict(finetuned))
    limit = before + config.max_loss_increase

    state = _RecoveryState(finetuned, aligned, alignment_gradient, config.step_fraction)
    for _ in range(config.warmup_steps):
        state.step(torch.ones_like(before, dtype=torch.bool))
    loss = downstream_loss(state.weights)
    within = loss <= limit  # False for NaN
    rolls_back = ~within
    best = replace_models(finetuned, state.weights, within)
    after = torch.where(within, loss, before)
    state.reset(rolls_back)

    active = torch.ones_like(rolls_back)
    for step in range(config.steps):
        stepping = active & rolls_back if step < config.warmup_steps else active
        if not bool(stepping.any()):
            continue
        restored = state.step(stepping)
        returning = stepping & rolls_back
        if bool(returning.any()):
            state.roll_back(restored, returning, downstream_gradient, config.rollback_fraction)
        if (step + 1) % config.check_every == 0 or step + 1 == config.steps:
            loss = downstream_loss(state.weights)
            within = loss <= limit
            best = replace_models(best, state.weights, within & stepping)
            after = torch.where(within & stepping, loss, after)
            active = active & (within | ~stepping)
    return RecoveryResult(best, rolls_back, restored_fraction(best, aligned), before, after)


class _RecoveryState:
    """Current weights, and the sum of the gradients."""

    def __init__(
        self,
        finetuned: StackedWeights,
        aligned: StackedWeights,
        gradient: GradientFunction,
        step_fraction: float,
    ) -> None:
        self.finetuned, self.aligned, self.gradient = finetuned, aligned, gradient
        self.step_fraction = step_fraction
        self.weights, self.gradient_sum = dict(finetuned), {}

    def step(self, models: Bool[Tensor, " model"]) -> dict[str, Tensor]:
        """Restore a share of the weights of these models; returns the mask of those weights."""
        for name, gradient in self.gradient(self.weights).items():
            gradient = torch.where(broadcast_like(models, gradient), gradient, 0.0)
            self.gradient_sum[name] = (
                self.gradient_sum[name] + gradient if name in self.gradient_sum else gradient
            )
        mask = select_weights(self.weights, self.aligned, self.gradient_sum, self.step_fraction)
        mask = {name: m & broadcast_like(models, m) for name, m in mask.items()}
        self.weights = restore(self.weights, self.aligned, mask)
        return mask

    def roll_back(
        self,
        restored: StackedWeights,
        models: Bool[Tensor, " model"],
        gradient: GradientFunction,
        fraction: float,
    ) -> None:
        """Return a fraction of the weights just restored, and clear the gradients."""
        gradients = gradient(self.weights)
        gradients = {name: gradients[name] for name in restored if name in gradients}
        candidates = {name: mask & broadcast_like(models, mask) for name, mask in restored.items()}
        mask = select_weights(
            self.weights, self.finetuned, gradients, fraction, candidates, fraction_of="eligible"
        )
        self.weights = restore(self.weights, self.finetuned, mask)
        self._clear_gradients(models)

    def reset(self, models: Bool[Tensor, " model"]) -> None:
        """Set these models to the fine-tuned weights."""
        self.weights = replace_models(self.weights, self.finetuned, models)
        self._clear_gradients(models)

    def _clear_gradients(self, models: Bool[Tensor, " model"]) -> None:
        self.gradient_sum = {
            name: torch.where(broadcast_like(models, gradient), 0.0, gradient)
            for name, gradient in self.gradient_sum.items()
        }
