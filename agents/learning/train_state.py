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
from mores.agents.learning.weights.stacked_weights import flatten_weights, split_flat
from mores.core.random_streams import RandomStreams

Parameters = dict[str, Tensor]
PrincipalLosses = Callable[[Mapping[str, Tensor]], Float[Tensor, "principal policy"]]


MAX_NUMBERS_AT_ONCE = 2**20  # at most so many numbers are drawn ahead for orders
FLAT_NAME = "all"  # the name of a policy's parameters end to end, for the optimiser


@dataclasses.dataclass(frozen=True)
class ParameterLayout:
    """Which numbers of a policy are which of its parameters.

    Attributes:
        shapes: of a policy's parameters, by name, in the order of the numbers.
    """

    shapes: dict[str, tuple[int, ...]]

    @staticmethod
    def from_parameters(parameters: Mapping[str, Tensor]) -> ParameterLayout:
        """That of policies with these parameters."""
        return ParameterLayout(
            {name: tuple(tensor.shape[1:]) for name, tensor in parameters.items()}
        )

    def unflatten(self, flat_parameters: Float[Tensor, "policy number"]) -> Parameters:
        """Parameters by name, as parts of the same memory."""
        return split_flat(flat_parameters, self.shapes)


@dataclasses.dataclass(frozen=True)
class TrainState:
    """Policies that are trained, `[policy, ...]` each; all of it is changed in place.

    A policy's parameters lie end to end, so that a step of all is a few operations on one tensor.

    Attributes:
        layout: which of them are which.
        flat_parameters: the parameters.
        reference_parameters: the parameters that training began from; empty where nobody asks for them.
        optimizer_state: of the optimiser.
        active: policies that go on learning; one that met a number that is none has stopped.
        stopped_round: the round of training in which it did, -1 if it did not.
        updates: steps that each has made since the stage began; whoever changes parameters without
            `optimizer_step` counts them.
    """

    growing_fields: ClassVar[tuple[str, ...]] = (
        "reference_parameters",
    )  # with a recipe that takes over

    layout: ParameterLayout
    flat_parameters: Float[Tensor, "policy number"]
    reference_parameters: Parameters
    optimizer_state: AdamState
    active: Bool[Tensor, " policy"]
    stopped_round: Int[Tensor, " policy"]
    updates: Int[Tensor, " policy"]

    @staticmethod
    def create(parameters: Parameters, uses_reference_model: bool) -> TrainState:
        """Policies that have learned nothing yet; `uses_reference_model`: they keep what they began from."""
        numbers = flatten_weights(parameters, list(parameters))
        policies, device = len(numbers), numbers.device
        return TrainState(
            ParameterLayout.from_parameters(parameters),
            numbers,
            copy_parameters(parameters) if uses_reference_model else {},
            Adam().init({FLAT_NAME: numbers}),
            torch.ones(policies, dtype=torch.bool, device=device),
            torch.full((policies,), -1, dtype=torch.int64, device=device),
            torch.zeros(policies, dtype=torch.int64, device=device),
        )

    @functools.cached_property
    def parameters(self) -> Parameters:
        """The parameters by name: parts of `flat_parameters`, to be read, or written in place."""
        return self.layout.unflatten(self.flat_parameters)

    def deactivate(self, nonfinite: Bool[Tensor, " policy"], round_number: Int[Tensor, ""]) -> None:
        """These policies met a number that is none: they stay as they are from now on."""
        fresh = nonfinite & self.active
        self.stopped_round.copy_(
            torch.where(fresh, round_number.to(self.stopped_round.device), self.stopped_round)
        )
        self.active.logical_and_(~nonfinite)


def copy_parameters(parameters: Mapping[str, Tensor]) -> Parameters:
    """Parameters that stay as they are now."""
    return {name: tensor.detach().clone() for name, tensor in parameters.items()}


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """How parameters follow gradients.

    Attributes:
        adam: rate, clip and the like.
        gradient_aggregation: what becomes of principals' gradients: their `mean`, the mean of what is left of
            each when conflicts are projected out (`project`, PCGrad), or the shortest of their
            mixtures (`mgda`, MGDA).
    """

    adam: Adam
    gradient_aggregation: Literal["mean", "pcgrad", "mgda"] = "mean"


def optimizer_step(
    train_state: TrainState,
    losses: PrincipalLosses,
    config: OptimizerConfig,
    round_number: Int[Tensor, ""],
    order: Int[Tensor, "policy principal"] | None = None,
) -> Float[Tensor, " policy"]:
    """One step of all policies.

    Args:
        train_state: who learns.
        losses: `[principal, policy]` of parameters; mostly there is one principal.
        config: rate, clip and the like.
        round_number: the round of training, told of policies that have to stop.
        order: in which order each policy's principals are projected.

    Returns:
        The loss of each policy before the step, the mean over principals.
    """
    live = train_state.flat_parameters.detach().requires_grad_()
    with torch.enable_grad():
        found = losses(train_state.layout.unflatten(live))
        if len(found) == 1 or config.gradient_aggregation == "mean":
            whole = found.sum() if len(found) == 1 else found.sum() / len(found)
            (gradient,) = torch.autograd.grad(whole, live)
        else:
            # Of the sum of all policies' losses: each policy's own, since none meets another.
            each = [torch.autograd.grad(loss.sum(), live, retain_graph=True)[0] for loss in found]
            several = {FLAT_NAME: torch.stack(each)}
            combined = (
                operators.pcgrad(several, order)
                if config.gradient_aggregation == "pcgrad"
                else operators.mgda(several)
            )
            gradient = combined.gradients[FLAT_NAME]
    loss = found.detach().mean(0)
    sound = torch.isfinite(loss)
    update = config.adam.step(
        {FLAT_NAME: train_state.flat_parameters},
        {FLAT_NAME: gradient},
        train_state.optimizer_state,
        train_state.active & sound,
    )
    train_state.deactivate(~(update.finite & sound), round_number)
    train_state.updates.add_(train_state.active)
    return loss


def epoch_permutations(
    streams: RandomStreams, models_per_replicate: int, num_models: int, size: int, epochs: int
) -> Iterator[Int[Tensor, "policy {size}"]]:
    """An order of `size` things for every epoch and policy.

    Args:
        streams: of the first world of each replicate.
        models_per_replicate: policies in a replicate.
        num_models: in all.
        size: how many things.
        epochs: how many orders. Several are drawn at once: few numbers cost as much as many.
    """
    at_once = max(1, MAX_NUMBERS_AT_ONCE // (num_models * size))
    for first in range(0, epochs, at_once):
        many = min(at_once, epochs - first)
        asking = torch.arange(first * models_per_replicate, (first + many) * models_per_replicate)
        chance = streams.uniform("order", asking, size).unflatten(1, (many, models_per_replicate))
        yield from chance.transpose(0, 1).reshape(many, num_models, size).argsort(-1)


def split_minibatches(
    batch: FeedbackBatch, unit: str, num_minibatches: int, order: Int[Tensor, "policy unit"]
) -> Sequence[FeedbackBatch]:
    """A batch in `num_minibatches` parts.

    Args:
        batch: all of it.
        unit: `sample`, or `pair`: pairs stay together.
        num_minibatches: how many parts, at most; fewer where there are fewer units.
        order: of the units of each policy.
    """
    if unit == "pair":
        return [batch.take_pairs(part) for part in order.chunk(num_minibatches, 1)]
    shuffled, size = batch.take(order), -(-order.shape[1] // num_minibatches)
    return [shuffled.slice_samples(first, first + size) for first in range(0, order.shape[1], size)]
