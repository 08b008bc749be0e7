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

from mores.agents.learning.weights.selective_restore import Loss, choose, restore, share_restored
from mores.agents.learning.weights.stacked_weights import (
    PerPolicy,
    Weights,
    check_layout,
    check_share,
    put,
    spread,
)
from mores.core.errors import UserError

Gradient = Callable[[dict[str, Tensor]], dict[str, Tensor]]


@dataclasses.dataclass(frozen=True)
class Plan:
    """How to recover.

    Attributes:
        allowed: by how much the downstream loss may rise, in its unit, at least 0.
        share: share of all weights that may be restored in a step.
        warm_up: steps before it is decided who must go carefully.
        steps: steps in all.
        check_every: steps between two measurements of the downstream loss.
        given_back: fraction of what a careful step restored that is given back.
    """

    allowed: PerPolicy
    share: float = 0.002
    warm_up: int = 5
    steps: int = 20
    check_every: int = 5
    given_back: float = 0.2

    def __post_init__(self) -> None:
        check_share(self.share, "share")
        check_share(self.given_back, "given_back")
        if not 0 <= self.warm_up <= self.steps or self.check_every < 1:
            raise UserError(
                "a plan has warm_up from 0 to steps and check_every from 1, not "
                f"warm_up {self.warm_up}, steps {self.steps}, check_every {self.check_every}",
                code="out_of_range",
                path="check_every" if self.check_every < 1 else "warm_up",
            )


class Recovered(NamedTuple):
    """What recovery came to.

    Attributes:
        weights: the last weights of every policy that were within what is allowed.
        careful: policies that had to begin again and give back.
        share: share of weights that are as the aligned model has them.
        before: downstream loss before.
        after: and after.
    """

    weights: dict[str, Tensor]
    careful: Bool[Tensor, " policy"]
    share: Float[Tensor, " policy"]
    before: Float[Tensor, " policy"]
    after: Float[Tensor, " policy"]


def recover(
    tuned: Weights,
    aligned: Weights,
    alignment_gradient: Gradient,
    downstream_gradient: Gradient,
    downstream_loss: Loss,
    plan: Plan,
) -> Recovered:
    """Restore alignment of every policy as far as its downstream loss allows.

    Args:
        tuned: weights after fine-tuning.
        aligned: weights before it.
        alignment_gradient: of every policy's alignment loss, from weights; tensors that it leaves
            out are not restored.
        downstream_gradient: of a loss that stands for the downstream task, from weights.
        downstream_loss: what is measured, `[policy]`, from weights; without chance.
        plan: how.

    Raises:
        UserError: layouts differ.
    """
    check_layout(tuned, aligned)
    before = downstream_loss(dict(tuned))
    limit = before + plan.allowed

    walk = _Walk(tuned, aligned, alignment_gradient, plan.share)
    for _ in range(plan.warm_up):
        walk.step(torch.ones_like(before, dtype=torch.bool))
    loss = downstream_loss(walk.weights)
    within = loss <= limit  # NaN is not
    careful = ~within
    best, after = put(tuned, walk.weights, within), torch.where(within, loss, before)
    walk.again(careful)

    going = torch.ones_like(careful)
    for step in range(plan.steps):
        moving = going & (careful if step < plan.warm_up else torch.ones_like(careful))
        if not bool(moving.any()):
            continue
        restored = walk.step(moving)
        returning = moving & careful
        if bool(returning.any()):
            walk.give_back(restored, returning, downstream_gradient, plan.given_back)
        if (step + 1) % plan.check_every == 0 or step + 1 == plan.steps:
            loss = downstream_loss(walk.weights)
            within = loss <= limit
            best = put(best, walk.weights, within & moving)
            after = torch.where(within & moving, loss, after)
            going = going & (within | ~moving)
    return Recovered(best, careful, share_restored(best, aligned), before, after)


class _Walk:
    """Weights on their way, and the gradients that have added up."""

    def __init__(self, tuned: Weights, aligned: Weights, gradient: Gradient, share: float) -> None:
        self.tuned, self.aligned, self.gradient, self.share = tuned, aligned, gradient, share
        self.weights, self.total = dict(tuned), {}

    def step(self, policies: Bool[Tensor, " policy"]) -> dict[str, Tensor]:
        """Restore a share of the weights of these policies; returns which."""
        for name, slope in self.gradient(self.weights).items():
            slope = torch.where(spread(policies, slope), slope, 0.0)
            self.total[name] = self.total[name] + slope if name in self.total else slope
        chosen = choose(self.weights, self.aligned, self.total, self.share)
        chosen = {name: mask & spread(policies, mask) for name, mask in chosen.items()}
        self.weights = restore(self.weights, self.aligned, chosen)
        return chosen

    def give_back(
        self,
        restored: Weights,
        policies: Bool[Tensor, " policy"],
        gradient: Gradient,
        fraction: float,
    ) -> None:
        """Return a fraction of the weights just restored, and forget the gradients."""
        slope = gradient(self.weights)
        slope = {name: slope[name] for name in restored if name in slope}
        among = {name: mask & spread(policies, mask) for name, mask in restored.items()}
        chosen = choose(self.weights, self.tuned, slope, fraction, among, of="eligible")
        self.weights = restore(self.weights, self.tuned, chosen)
        self._forget(policies)

    def again(self, policies: Bool[Tensor, " policy"]) -> None:
        """Put these policies back to the tuned weights."""
        self.weights = put(self.weights, self.tuned, policies)
        self._forget(policies)

    def _forget(self, policies: Bool[Tensor, " policy"]) -> None:
        self.total = {
            name: torch.where(spread(policies, slope), 0.0, slope)
            for name, slope in self.total.items()
        }
