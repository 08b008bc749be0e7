"""Stacked policies in training: their parameters, what the optimiser knows, who has stopped."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.agents.learners import gradients as operators
from mores.agents.learners.adam import Adam, AdamState
from mores.agents.learners.batch import FeedbackBatch
from mores.draws import Draws

Parameters = dict[str, Tensor]
Losses = Callable[[Mapping[str, Tensor]], Float[Tensor, "principal policy"]]


@dataclasses.dataclass(frozen=True)
class Pupil:
    """Policies that are trained, `[policy, ...]` each; all of it is changed in place.

    Attributes:
        parameters: of the policies, by name.
        reference: the parameters that training began from; empty where nobody asks for them.
        moments: of the optimiser.
        active: policies that go on learning; one that met a number that is none has stopped.
        stopped: the round of training in which it did, -1 if it did not.
        updates: steps that each has made since the stage began.
    """

    grows: ClassVar[tuple[str, ...]] = ("reference",)  # with a recipe that takes over

    parameters: Parameters
    reference: Parameters
    moments: AdamState
    active: Bool[Tensor, " policy"]
    stopped: Int[Tensor, " policy"]
    updates: Int[Tensor, " policy"]

    @staticmethod
    def of(parameters: Parameters, refers: bool) -> Pupil:
        """Policies that have learned nothing yet; `refers`: they keep what they began from."""
        first = next(iter(parameters.values()))
        return Pupil(
            parameters,
            copied(parameters) if refers else {},
            Adam().start(parameters),
            torch.ones(len(first), dtype=torch.bool, device=first.device),
            torch.full((len(first),), -1, dtype=torch.int64, device=first.device),
            torch.zeros(len(first), dtype=torch.int64, device=first.device),
        )

    def stop(self, wrong: Bool[Tensor, " policy"], now: Int[Tensor, ""]) -> None:
        """These policies met a number that is none: they stay as they are from now on."""
        fresh = wrong & self.active
        self.stopped.copy_(torch.where(fresh, now.to(self.stopped.device), self.stopped))
        self.active.logical_and_(~wrong)


def copied(parameters: Mapping[str, Tensor]) -> Parameters:
    """Parameters that stay as they are now."""
    return {name: tensor.detach().clone() for name, tensor in parameters.items()}


@dataclasses.dataclass(frozen=True)
class Descent:
    """How parameters follow gradients.

    Attributes:
        adam: rate, clip and the like.
        conflict: what becomes of principals' gradients: their `mean`, the mean of what is left of
            each when conflicts are projected out (`project`, PCGrad), or the shortest of their
            mixtures (`min_norm`, MGDA).
    """

    adam: Adam
    conflict: Literal["mean", "project", "min_norm"] = "mean"


def descend(
    pupil: Pupil,
    losses: Losses,
    how: Descent,
    now: Int[Tensor, ""],
    order: Int[Tensor, "policy principal"] | None = None,
) -> Float[Tensor, " policy"]:
    """One step of all policies.

    Args:
        pupil: who learns.
        losses: `[principal, policy]` of parameters; mostly there is one principal.
        how: rate, clip and the like.
        now: the round of training, told of policies that have to stop.
        order: in which order each policy's principals are projected.

    Returns:
        The loss of each policy before the step, the mean over principals.
    """
    live = {name: tensor.detach().requires_grad_() for name, tensor in pupil.parameters.items()}
    with torch.enable_grad():
        found = losses(live)
        if len(found) == 1 or how.conflict == "mean":
            gradients = _gradients(found.sum() / len(found), live)
        else:
            each = [_gradients(loss.sum(), live, keep=True) for loss in found]
            stacked = {name: torch.stack([one[name] for one in each]) for name in live}
            combined = (
                operators.pcgrad(stacked, order)
                if how.conflict == "project"
                else operators.min_norm(stacked)
            )
            gradients = combined.gradients
    loss = found.detach().mean(0)
    sound = torch.isfinite(loss)
    update = how.adam.step(pupil.parameters, gradients, pupil.moments, pupil.active & sound)
    pupil.stop(~(update.finite & sound), now)
    pupil.updates.add_(pupil.active)
    return loss


def _gradients(loss: Tensor, live: Parameters, keep: bool = False) -> Parameters:
    """Gradients of the sum of all policies' losses: each policy's own, since none meets another."""
    found = torch.autograd.grad(
        loss, list(live.values()), retain_graph=keep, allow_unused=True, materialize_grads=True
    )
    return dict(zip(live, found, strict=True))


def minibatches(
    batch: FeedbackBatch,
    unit: str,
    count: int,
    draws: Draws,
    each: int,
) -> Sequence[FeedbackBatch]:
    """A batch in `count` parts, shuffled for every policy on its own.

    Args:
        batch: all of it.
        unit: `sample`, or `pair`: pairs stay together.
        count: how many parts, at most; fewer where there are fewer units.
        draws: of the first world of each replicate.
        each: policies in a replicate.
    """
    size = batch.samples if unit == "sample" else batch.need("pairs", "a recipe").shape[1]
    take = batch.take if unit == "sample" else batch.take_pairs
    if count <= 1 and unit == "sample":
        return [batch]
    order = draws.uniform("order", each, size).reshape(batch.policies, size).argsort(1)
    return [take(part) for part in order.chunk(min(count, size), 1)]
