"""Stacked policies in training: their parameters, what the optimiser knows, who has stopped."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.agents.learning import gradients as operators
from mores.agents.learning.adam import Adam, AdamState
from mores.agents.learning.batch import FeedbackBatch
from mores.agents.learning.weights.stacked_weights import cut, flat
from mores.core.random_streams import Draws

Parameters = dict[str, Tensor]
Losses = Callable[[Mapping[str, Tensor]], Float[Tensor, "principal policy"]]


AT_ONCE = 2**20  # at most so many numbers are drawn ahead for orders
ALL = "all"  # the name of a policy's parameters end to end, for the optimiser


@dataclasses.dataclass(frozen=True)
class Layout:
    """Which numbers of a policy are which of its parameters.

    Attributes:
        shapes: of a policy's parameters, by name, in the order of the numbers.
    """

    shapes: dict[str, tuple[int, ...]]

    @staticmethod
    def of(parameters: Mapping[str, Tensor]) -> Layout:
        """That of policies with these parameters."""
        return Layout({name: tuple(tensor.shape[1:]) for name, tensor in parameters.items()})

    def cut(self, numbers: Float[Tensor, "policy number"]) -> Parameters:
        """Parameters by name, as parts of the same memory."""
        return cut(numbers, self.shapes)


@dataclasses.dataclass(frozen=True)
class Pupil:
    """Policies that are trained, `[policy, ...]` each; all of it is changed in place.

    A policy's parameters lie end to end, so that a step of all is a few operations on one tensor.

    Attributes:
        layout: which of them are which.
        numbers: the parameters.
        reference: the parameters that training began from; empty where nobody asks for them.
        moments: of the optimiser.
        active: policies that go on learning; one that met a number that is none has stopped.
        stopped: the round of training in which it did, -1 if it did not.
        updates: steps that each has made since the stage began; whoever changes parameters without
            `descend` counts them.
    """

    grows: ClassVar[tuple[str, ...]] = ("reference",)  # with a recipe that takes over

    layout: Layout
    numbers: Float[Tensor, "policy number"]
    reference: Parameters
    moments: AdamState
    active: Bool[Tensor, " policy"]
    stopped: Int[Tensor, " policy"]
    updates: Int[Tensor, " policy"]

    @staticmethod
    def of(parameters: Parameters, refers: bool) -> Pupil:
        """Policies that have learned nothing yet; `refers`: they keep what they began from."""
        numbers = flat(parameters, list(parameters))
        policies, device = len(numbers), numbers.device
        return Pupil(
            Layout.of(parameters),
            numbers,
            copied(parameters) if refers else {},
            Adam().start({ALL: numbers}),
            torch.ones(policies, dtype=torch.bool, device=device),
            torch.full((policies,), -1, dtype=torch.int64, device=device),
            torch.zeros(policies, dtype=torch.int64, device=device),
        )

    @functools.cached_property
    def parameters(self) -> Parameters:
        """The parameters by name: parts of `numbers`, to be read, or written in place."""
        return self.layout.cut(self.numbers)

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
    live = pupil.numbers.detach().requires_grad_()
    with torch.enable_grad():
        found = losses(pupil.layout.cut(live))
        if len(found) == 1 or how.conflict == "mean":
            whole = found.sum() if len(found) == 1 else found.sum() / len(found)
            (gradient,) = torch.autograd.grad(whole, live)
        else:
            # Of the sum of all policies' losses: each policy's own, since none meets another.
            each = [torch.autograd.grad(loss.sum(), live, retain_graph=True)[0] for loss in found]
            several = {ALL: torch.stack(each)}
            combined = (
                operators.pcgrad(several, order)
                if how.conflict == "project"
                else operators.min_norm(several)
            )
            gradient = combined.gradients[ALL]
    loss = found.detach().mean(0)
    sound = torch.isfinite(loss)
    update = how.adam.step(
        {ALL: pupil.numbers}, {ALL: gradient}, pupil.moments, pupil.active & sound
    )
    pupil.stop(~(update.finite & sound), now)
    pupil.updates.add_(pupil.active)
    return loss


def orders(
    draws: Draws, each: int, policies: int, size: int, epochs: int
) -> Iterator[Int[Tensor, "policy {size}"]]:
    """An order of `size` things for every epoch and policy.

    Args:
        draws: of the first world of each replicate.
        each: policies in a replicate.
        policies: in all.
        size: how many things.
        epochs: how many orders. Several are drawn at once: few numbers cost as much as many.
    """
    at_once = max(1, AT_ONCE // (policies * size))
    for first in range(0, epochs, at_once):
        many = min(at_once, epochs - first)
        asking = torch.arange(first * each, (first + many) * each)
        chance = draws.uniform("order", asking, size).unflatten(1, (many, each))
        yield from chance.transpose(0, 1).reshape(many, policies, size).argsort(-1)


def minibatches(
    batch: FeedbackBatch, unit: str, count: int, order: Int[Tensor, "policy unit"]
) -> Sequence[FeedbackBatch]:
    """A batch in `count` parts.

    Args:
        batch: all of it.
        unit: `sample`, or `pair`: pairs stay together.
        count: how many parts, at most; fewer where there are fewer units.
        order: of the units of each policy.
    """
    if unit == "pair":
        return [batch.take_pairs(part) for part in order.chunk(count, 1)]
    shuffled, size = batch.take(order), -(-order.shape[1] // count)
    return [shuffled.part(first, first + size) for first in range(0, order.shape[1], size)]
