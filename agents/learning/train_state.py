"""Training state of stacked models: parameters, optimizer state, stopped models."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.agents.learning import gradients as operators
from mores.agents.learning.adam import Adam, AdamState
from mores.agents.learning.batch import FeedbackBatch
from mores.agents.learning.weights.stacked_weights import (
    flatten_per_model,
    flatten_weights,
    split_flat,
)
from mores.core import pytree
from mores.core.random_streams import RandomStreams

Parameters = dict[str, Tensor]  # by name, `[model, ...]` each
# Losses as a function of parameters. A principal is a person or group whose preferences are a
# separate objective of the same model.
PrincipalLosses = Callable[[Mapping[str, Tensor]], Float[Tensor, "principal model"]]


MAX_NUMBERS_AT_ONCE = 2**20  # largest number of random numbers sampled in one call for permutations
FLAT_NAME = "all"  # name of a model's flat parameter vector, for the optimizer


@dataclasses.dataclass(frozen=True)
class ParameterLayout:
    """Positions of a model's parameters in its flat parameter vector.

    Attributes:
        shapes: shape of each parameter of a model, by name, in the order of the vector.
    """

    shapes: dict[str, tuple[int, ...]]

    @staticmethod
    def from_parameters(parameters: Mapping[str, Tensor]) -> ParameterLayout:
        """Layout of stacked parameters."""
        return ParameterLayout(
            {name: tuple(tensor.shape[1:]) for name, tensor in parameters.items()}
        )

    def unflatten(self, flat_parameters: Float[Tensor, "model number"]) -> Parameters:
        """Parameters by name, as views of the flat tensor."""
        return split_flat(flat_parameters, self.shapes)


@dataclasses.dataclass
class TrainState(pytree.Growing):
    """Training state of stacked models. Its tensors are changed in place.

    The parameters of each model are one flat vector, so that an optimizer step of all models is a
    few operations on one tensor.

    Attributes:
        layout: positions of the parameters in `flat_parameters`.
        flat_parameters: parameters of all models.
        reference_parameters: parameters before training; empty if the recipe does not use them.
        optimizer_state: state of Adam.
        active: whether the model still trains; it stops at the first NaN or infinity.
        stopped_round: training round in which the model stopped; -1: it has not.
        updates: optimizer steps of each model since the stage began; code that changes parameters
            without `optimizer_step` must count its own steps.
    """

    # Fields whose entries may be added when another recipe continues the training.
    growing_fields: ClassVar[tuple[str, ...]] = ("reference_parameters",)

    layout: ParameterLayout
    flat_parameters: Float[Tensor, "model number"]
    reference_parameters: Parameters
    optimizer_state: AdamState
    active: Bool[Tensor, " model"]
    stopped_round: Int[Tensor, " model"]
    updates: Int[Tensor, " model"]

    @staticmethod
    def create(parameters: Parameters, uses_reference_model: bool) -> TrainState:
        """State before training. `uses_reference_model`: stores a copy of the parameters."""
        flat_parameters = flatten_weights(parameters, list(parameters))
        num_models, device = len(flat_parameters), flat_parameters.device
        return TrainState(
            ParameterLayout.from_parameters(parameters),
            flat_parameters,
            copy_parameters(parameters) if uses_reference_model else {},
            Adam().init({FLAT_NAME: flat_parameters}),
            torch.ones(num_models, dtype=torch.bool, device=device),
            torch.full((num_models,), -1, dtype=torch.int64, device=device),
            torch.zeros(num_models, dtype=torch.int64, device=device),
        )

    @functools.cached_property
    def parameters(self) -> Parameters:
        """Parameters by name: views of `flat_parameters`, to be read or written in place."""
        return self.layout.unflatten(self.flat_parameters)

    @functools.cached_property
    def leaves(self) -> Parameters:
        """The same views as leaves of autograd, to compute losses with."""
        return {name: each.detach().requires_grad_() for name, each in self.parameters.items()}

    def deactivate(
        self, nonfinite: Bool[Tensor, " model"], round_number: int | Int[Tensor, ""]
    ) -> None:
        """Stop the training of models with a NaN or an infinity. It cannot be resumed.

        Args:
            nonfinite: models to stop.
            round_number: current training round, recorded in `stopped_round`.
        """
        self.stopped_round.masked_fill_(nonfinite & self.active, int(round_number))
        self.active.logical_and_(~nonfinite)


def copy_parameters(parameters: Mapping[str, Tensor]) -> Parameters:
    """A detached copy of the parameters."""
    return {name: tensor.detach().clone() for name, tensor in parameters.items()}


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Settings of an optimizer step.

    Attributes:
        adam: learning rate, clipping, weight decay.
        gradient_aggregation: combination of the principals' gradients: their `mean`, the mean after
            conflicts are projected out (`pcgrad`), or the shortest vector of their convex hull
            (`mgda`).
    """

    adam: Adam
    gradient_aggregation: Literal["mean", "pcgrad", "mgda"] = "mean"


class OptimizerStep(NamedTuple):
    """Result of an optimizer step.

    Attributes:
        loss: loss of each model before the step, averaged over principals.
        grad_norm: norm of its gradient, before clipping.
    """

    loss: Float[Tensor, " model"]
    grad_norm: Float[Tensor, " model"]


def optimizer_step(
    train_state: TrainState,
    losses: PrincipalLosses,
    config: OptimizerConfig,
    round_number: int | Int[Tensor, ""],
    order: Int[Tensor, "model principal"] | None = None,
    has_samples: Bool[Tensor, " model"] | None = None,
) -> OptimizerStep:
    """Make one optimizer step of all models, in place.

    A model without samples does not move: its gradient is 0, and Adam would follow earlier ones.

    Args:
        train_state: the models.
        losses: losses `[principal, model]` as a function of parameters.
        config: optimizer settings.
        round_number: current training round, recorded for models that stop.
        order: order in which the gradients of each model's principals are projected.
        has_samples: models that have samples in the minibatch; `None`: all.
    """
    leaves = train_state.leaves
    with torch.enable_grad():
        loss = losses(leaves)
        if len(loss) == 1 or config.gradient_aggregation == "mean":
            gradient = _flat_gradient(loss.sum() / len(loss), leaves)
        else:
            # Models are independent: the gradient of their summed loss holds each model's own.
            rows = [_flat_gradient(row.sum(), leaves, retain_graph=True) for row in loss]
            stacked = {FLAT_NAME: torch.stack(rows)}
            combined = (
                operators.pcgrad(stacked, order)
                if config.gradient_aggregation == "pcgrad"
                else operators.mgda(stacked)
            )
            gradient = combined.gradients[FLAT_NAME]
    mean_loss = loss.detach().mean(0) if len(loss) > 1 else loss.detach()[0]
    finite = mean_loss.abs() < torch.inf
    moving = train_state.active & finite
    if has_samples is not None:
        moving &= has_samples
    info = config.adam.step(
        {FLAT_NAME: train_state.flat_parameters},
        {FLAT_NAME: gradient},
        train_state.optimizer_state,
        moving,
    )
    finite &= info.finite
    if finite.is_cuda or not bool(
        finite.all()
    ):  # on an accelerator the check would wait for the device
        train_state.deactivate(~finite, round_number)
    train_state.updates.add_(moving & train_state.active)
    return OptimizerStep(mean_loss, info.grad_norm)


def _flat_gradient(
    loss: Float[Tensor, ""], leaves: Parameters, retain_graph: bool = False
) -> Float[Tensor, "model number"]:
    """Gradient of a loss in the order of the flat parameters; 0 where it does not depend on one."""
    gradients = torch.autograd.grad(
        loss, list(leaves.values()), retain_graph=retain_graph, materialize_grads=True
    )
    return torch.cat([flatten_per_model(gradient) for gradient in gradients], 1)


def epoch_permutations(
    streams: RandomStreams, models_per_replicate: int, num_models: int, size: int, epochs: int
) -> Iterator[Int[Tensor, "model {size}"]]:
    """A random permutation of `size` units for every epoch and model.

    Args:
        streams: random streams of the first world of each replicate.
        models_per_replicate: models in each replicate.
        num_models: models in all replicates.
        size: number of units.
        epochs: number of permutations. Several are sampled in one call, whose cost is fixed.
    """
    at_once = max(1, MAX_NUMBERS_AT_ONCE // (num_models * size))
    for first in range(0, epochs, at_once):
        count = min(at_once, epochs - first)
        rows = torch.arange(first * models_per_replicate, (first + count) * models_per_replicate)
        uniform = streams.uniform("order", rows, size).unflatten(1, (count, models_per_replicate))
        yield from uniform.transpose(0, 1).reshape(count, num_models, size).argsort(-1)


def split_minibatches(
    batch: FeedbackBatch, unit: str, num_minibatches: int, order: Int[Tensor, "model unit"]
) -> Sequence[FeedbackBatch]:
    """A batch split into minibatches.

    Args:
        batch: the batch.
        unit: `sample`, or `pair`: the samples of a pair stay together.
        num_minibatches: largest number of minibatches; fewer where there are fewer units.
        order: permutation of the units of each model.
    """
    if unit == "pair":
        return [batch.take_pairs(part) for part in order.chunk(num_minibatches, 1)]
    shuffled, size = batch.take(order), -(-order.shape[1] // num_minibatches)
    return [shuffled.slice_samples(first, first + size) for first in range(0, order.shape[1], size)]
