"""Recovering alignment step by step, with roll-back: the loop of Yang et al. 2025.

Every step copies a small share of weights from the aligned model (`restoring.choose` by the
gradient of the alignment loss, summed over steps). After a warm-up the downstream loss is measured.
Policies that lost more than allowed begin again from the tuned weights, and go carefully: after
each of their steps the fraction `given_back` of the weights just restored returns to the tuned
model, those with the largest gradient of a downstream loss whose way back is downhill. All go on
until their downstream loss, measured every few steps, exceeds what is allowed, and keep the last
weights that were within it.

Source: "Alleviating the Fear of Losing Alignment in LLM Fine-tuning" (arXiv 2504.09757) and its
code, github.com/kangyangWHU/LLMAlignment, whose defaults these are. As there, gradients add up
over the steps of a policy that does not give back, and are forgotten at every roll-back. What
differs: losses here, where the paper measures a score that may drop by 5 %; every policy decides
for itself; and ties of the threshold do not drop weights.
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
    """How to recover.

    Attributes:
        max_loss_increase: by how much the downstream loss may rise, in its unit, at least 0.
        step_fraction: share of all weights that may be restored in a step.
        warmup_steps: steps before it is decided who must go carefully.
        steps: steps in all.
        check_every: steps between two measurements of the downstream loss.
        rollback_fraction: fraction of what a careful step restored that is given back.
    """

    max_loss_increase: PerModel
    step_fraction: float = 0.002
    warmup_steps: int = 5
    steps: int = 20
    check_every: int = 5
    rollback_fraction: float = 0.2

    def __post_init__(self) -> None:
        check_fraction(self.step_fraction, "restored_fraction")
        check_fraction(self.rollback_fraction, "rollback_fraction")
        if not 0 <= self.warmup_steps <= self.steps or self.check_every < 1:
            raise UserError(
                "a plan has warm_up from 0 to steps and check_every from 1, not "
                f"warm_up {self.warmup_steps}, steps {self.steps}, check_every {self.check_every}",
                code="out_of_range",
                path="check_every" if self.check_every < 1 else "warmup_steps",
            )


class RecoveryResult(NamedTuple):
    """What recovery came to.

    Attributes:
        weights: the last weights of every policy that were within what is allowed.
        rolled_back: policies that had to begin again and give back.
        restored_fraction: share of weights that are as the aligned model has them.
        loss_before: downstream loss before.
        loss_after: and after.
    """

    weights: dict[str, Tensor]
    rolled_back: Bool[Tensor, " policy"]
    restored_fraction: Float[Tensor, " policy"]
    loss_before: Float[Tensor, " policy"]
    loss_after: Float[Tensor, " policy"]


def recover(
    finetuned: StackedWeights,
    aligned: StackedWeights,
    alignment_gradient: GradientFunction,
    downstream_gradient: GradientFunction,
    downstream_loss: LossPerModel,
    config: RecoveryConfig,
) -> RecoveryResult:
    """Restore alignment of every policy as far as its downstream loss allows.

    Args:
        finetuned: weights after fine-tuning.
        aligned: weights before it.
        alignment_gradient: of every policy's alignment loss, from weights; tensors that it leaves
            out are not restored.
        downstream_gradient: of a loss that stands for the downstream task, from weights.
        downstream_loss: what is measured, `[policy]`, from weights; without chance.
        config: how.

    Raises:
        UserError: layouts differ.
    """
    check_layout(finetuned, aligned)
    before = downstream_loss(dict(finetuned))
    limit = before + config.max_loss_increase

    walk = _RecoveryState(finetuned, aligned, alignment_gradient, config.step_fraction)
    for _ in range(config.warmup_steps):
        walk.step(torch.ones_like(before, dtype=torch.bool))
    loss = downstream_loss(walk.weights)
    within = loss <= limit  # NaN is not
    careful = ~within
    best, after = replace_models(finetuned, walk.weights, within), torch.where(within, loss, before)
    walk.reset(careful)

    going = torch.ones_like(careful)
    for step in range(config.steps):
        moving = going & (careful if step < config.warmup_steps else torch.ones_like(careful))
        if not bool(moving.any()):
            continue
        restored = walk.step(moving)
        returning = moving & careful
        if bool(returning.any()):
            walk.roll_back(restored, returning, downstream_gradient, config.rollback_fraction)
        if (step + 1) % config.check_every == 0 or step + 1 == config.steps:
            loss = downstream_loss(walk.weights)
            within = loss <= limit
            best = replace_models(best, walk.weights, within & moving)
            after = torch.where(within & moving, loss, after)
            going = going & (within | ~moving)
    return RecoveryResult(best, careful, restored_fraction(best, aligned), before, after)


class _RecoveryState:
    """Weights on their way, and the gradients that have added up."""

    def __init__(
        self,
        finetuned: StackedWeights,
        aligned: StackedWeights,
        gradient: GradientFunction,
        step_fraction: float,
    ) -> None:
        self.finetuned, self.aligned, self.gradient, self.step_fraction = (
            finetuned,
            aligned,
            gradient,
            step_fraction,
        )
        self.weights, self.gradient_sum = dict(finetuned), {}

    def step(self, models: Bool[Tensor, " policy"]) -> dict[str, Tensor]:
        """Restore a share of the weights of these policies; returns which."""
        for name, slope in self.gradient(self.weights).items():
            slope = torch.where(broadcast_like(models, slope), slope, 0.0)
            self.gradient_sum[name] = (
                self.gradient_sum[name] + slope if name in self.gradient_sum else slope
            )
        chosen = select_weights(self.weights, self.aligned, self.gradient_sum, self.step_fraction)
        chosen = {name: mask & broadcast_like(models, mask) for name, mask in chosen.items()}
        self.weights = restore(self.weights, self.aligned, chosen)
        return chosen

    def roll_back(
        self,
        restored: StackedWeights,
        models: Bool[Tensor, " policy"],
        gradient: GradientFunction,
        fraction: float,
    ) -> None:
        """Return a fraction of the weights just restored, and forget the gradients."""
        slope = gradient(self.weights)
        slope = {name: slope[name] for name in restored if name in slope}
        among = {name: mask & broadcast_like(models, mask) for name, mask in restored.items()}
        chosen = select_weights(
            self.weights, self.finetuned, slope, fraction, among, fraction_of="eligible"
        )
        self.weights = restore(self.weights, self.finetuned, chosen)
        self._clear_gradients(models)

    def reset(self, models: Bool[Tensor, " policy"]) -> None:
        """Put these policies back to the tuned weights."""
        self.weights = replace_models(self.weights, self.finetuned, models)
        self._clear_gradients(models)

    def _clear_gradients(self, models: Bool[Tensor, " policy"]) -> None:
        self.gradient_sum = {
            name: torch.where(broadcast_like(models, slope), 0.0, slope)
            for name, slope in self.gradient_sum.items()
        }
