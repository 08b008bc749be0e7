"""Updates: an objective, the batches it is minimized on, and the loop over epochs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch, ModelOutput
from mores.agents.learning.learner_state import LearnerState
from mores.agents.learning.model_stack import ModelInputs, ModelStack
from mores.agents.learning.objective import PLAIN_VIEW, Objective
from mores.agents.learning.train_state import (
    OptimizerConfig,
    TrainState,
    epoch_permutations,
    optimizer_step,
    split_minibatches,
)
from mores.agents.learning.update_statistics import Statistics, StepStatistics
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box

Parameters = Mapping[str, Tensor]
AnnotateFunction = Callable[[FeedbackBatch, Mapping[str, ModelOutput]], FeedbackBatch]


def unchanged(batch: FeedbackBatch, outputs: Mapping[str, ModelOutput]) -> FeedbackBatch:
    """The batch itself: an `annotate` function that adds nothing."""
    return batch


@dataclasses.dataclass(frozen=True)
class UpdateBatch:
    """Data and objective of one update.

    Attributes:
        batches: batches by phase; samples correspond across phases.
        objective: loss to minimize.
        unit: unit that is shuffled: samples, or pairs of samples.
        annotate: adds fields to a minibatch that depend on the current outputs of the models, such
            as the steps that a critique criticizes; no gradient flows through it.
        split_by_principal: one batch per principal, where their gradients are computed separately.
        statistics: quantities of the whole batch for training curves, such as the variance of
            returns that the value head explains.
    """

    batches: dict[str, FeedbackBatch]
    objective: Objective
    unit: Literal["sample", "pair"] = "sample"
    annotate: AnnotateFunction = unchanged
    split_by_principal: Callable[[FeedbackBatch], list[FeedbackBatch]] | None = None
    statistics: Statistics = dataclasses.field(default_factory=dict)


def update_models(
    state: LearnerState,
    update_batch: UpdateBatch,
    streams: RandomStreams,
    optimizer_config: OptimizerConfig,
    epochs: int,
    num_minibatches: int,
) -> None:
    """Run an update on the models of a state, in place."""
    persistent = state.persistent_state
    statistics = run_epochs(
        persistent.train_state,
        state.spec.stacked_model,
        state.spec.role.observation_space,
        update_batch,
        streams.take(persistent.mapping.first_world),
        persistent.mapping.models_per_replicate,
        optimizer_config,
        int(persistent.num_rounds),
        epochs,
        num_minibatches,
    )
    updated = persistent.train_state.active
    persistent.statistics.add({**statistics, **update_batch.statistics}, updated)


def run_epochs(
    train_state: TrainState,
    stacked_model: ModelStack,
    observation_space: Box,
    update_batch: UpdateBatch,
    streams: RandomStreams,
    models_per_replicate: int,
    optimizer_config: OptimizerConfig,
    round_number: int,
    epochs: int,
    num_minibatches: int,
) -> dict[str, Tensor]:
    """Run `epochs` passes over an update batch, in `num_minibatches` optimizer steps each.

    Args:
        train_state, stacked_model: the models, changed in place, and their architecture.
        observation_space: layout of an observation.
        update_batch: data and objective.
        streams: random streams of the first world of each replicate, for the order of samples.
        models_per_replicate: models in each replicate.
        optimizer_config: optimizer settings.
        round_number: current round of training.
        epochs, num_minibatches: number of passes, and of optimizer steps in a pass.

    Returns:
        Statistics of the optimizer steps by name, `[model]`: `loss`, the terms of the objective,
        `grad_norm`, and the terms' diagnostics.
    """
    statistics = StepStatistics()
    for epoch, minibatches in enumerate(
        _minibatch_epochs(update_batch, streams, models_per_replicate, epochs, num_minibatches)
    ):
        is_last = epoch == epochs - 1
        for part, minibatch in enumerate(minibatches):

            def losses(
                parameters: Parameters,
                minibatch: dict[str, FeedbackBatch] = minibatch,
                with_diagnostics: bool = is_last,
            ) -> Float[Tensor, "principal model"]:
                return _losses(
                    stacked_model,
                    observation_space,
                    parameters,
                    minibatch,
                    update_batch,
                    statistics,
                    with_diagnostics,
                )

            order = None
            if (
                update_batch.split_by_principal is not None
                and optimizer_config.gradient_aggregation == "pcgrad"
            ):
                order = _principal_order(
                    minibatch,
                    update_batch,
                    streams.child(f"epoch {epoch}/part {part}"),
                    models_per_replicate,
                )
            present = _has_samples(minibatch)
            step = optimizer_step(
                train_state, losses, optimizer_config, round_number, order, present
            )
            statistics.add({"loss": step.loss, "grad_norm": step.grad_norm}, present)
    return statistics.means()


def _minibatch_epochs(
    update_batch: UpdateBatch,
    streams: RandomStreams,
    models_per_replicate: int,
    epochs: int,
    num_minibatches: int,
) -> Iterator[list[dict[str, FeedbackBatch]]]:
    """Minibatches of each epoch, by phase; samples correspond across phases."""
    first = next(iter(update_batch.batches.values()))
    if num_minibatches <= 1 and update_batch.unit == "sample":
        yield from ([update_batch.batches] for _ in range(epochs))
        return
    size = first.num_samples
    if update_batch.unit == "pair":
        size = first.require("pairs", "a recipe").shape[1]
    for order in epoch_permutations(streams, models_per_replicate, first.num_models, size, epochs):
        split = {
            phase: split_minibatches(batch, update_batch.unit, min(num_minibatches, size), order)
            for phase, batch in update_batch.batches.items()
        }
        yield [dict(zip(split, parts, strict=True)) for parts in zip(*split.values(), strict=True)]


def _losses(
    stacked_model: ModelStack,
    observation_space: Box,
    parameters: Parameters,
    minibatch: dict[str, FeedbackBatch],
    update_batch: UpdateBatch,
    statistics: StepStatistics,
    with_diagnostics: bool,
) -> Float[Tensor, "principal model"]:
    """Loss of each model by principal, averaged over phases; adds its terms to `statistics`."""
    objective, phase_losses = update_batch.objective, []
    parts: list[Statistics] = []
    for phase, batch in minibatch.items():
        outputs = evaluate_views(
            stacked_model, observation_space, parameters, phase, batch, objective.views
        )
        batch = update_batch.annotate(batch, outputs)
        split = update_batch.split_by_principal
        principal_batches = [batch] if split is None else split(batch)
        losses = [objective(outputs, each) for each in principal_batches]
        totals = [loss.total for loss in losses]
        phase_losses.append(torch.stack(totals) if len(totals) > 1 else totals[0][None])
        parts += [loss.by_term for loss in losses]
        if with_diagnostics:
            parts += [objective.diagnostics(outputs, each) for each in principal_batches]
    statistics.add(_mean_by_name(parts), _has_samples(minibatch))
    return torch.stack(phase_losses).mean(0) if len(phase_losses) > 1 else phase_losses[0]


def _has_samples(minibatch: Mapping[str, FeedbackBatch]) -> Bool[Tensor, " model"]:
    """Models with a valid step in any phase."""
    rows = [batch.mask.flatten(1).any(1) for batch in minibatch.values()]
    return rows[0] if len(rows) == 1 else torch.stack(rows).any(0)


def _mean_by_name(parts: Sequence[Statistics]) -> dict[str, Tensor]:
    """Mean of each quantity over the parts, phases and principals, that have it."""
    values: dict[str, list[Tensor]] = {}
    for part in parts:
        for name, value in part.items():
            values.setdefault(name, []).append(value)
    return {n: v[0] if len(v) == 1 else torch.stack(v).mean(0) for n, v in values.items()}


def evaluate_views(
    stacked_model: ModelStack,
    observation_space: Box,
    parameters: Parameters,
    phase: str,
    batch: FeedbackBatch,
    views: tuple[str, ...] = (PLAIN_VIEW,),
) -> dict[str, ModelOutput]:
    """Outputs of the models for a batch, by view: see `view_observation`."""
    outputs = {}
    for view in views:
        inputs = ModelInputs(
            phase,
            view_observation(view, batch, observation_space),
            batch.action,
            batch.action_mask,
            batch.episode_start,
            batch.recurrent_state,
            batch.mask,
        )
        outputs[view] = stacked_model.evaluate_actions(parameters, inputs)
    return outputs


def view_observation(view: str, batch: FeedbackBatch, observation_space: Box) -> Tensor:
    """Observations of a batch in a view.

    `critiqued`: the part `critique` of the observation holds the critique of the sample;
    `evidence_masked`: the evidence is set to 0; any other view: the recorded observation.
    """
    if view == "critiqued":
        critique = batch.require("critique", "the view `critiqued`")
        parts = {
            name: observation_space.read(batch.observation, name)
            for name in observation_space.parts
        }
        parts["critique"] = critique[:, :, None].expand_as(parts["critique"])
        return observation_space.join(**parts)
    if view == "evidence_masked":
        visible = batch.require("evidence_mask", "the view `evidence_masked`")
        return torch.where(visible[:, :, None], batch.observation, 0.0)
    return batch.observation


def _principal_order(
    minibatch: dict[str, FeedbackBatch],
    update_batch: UpdateBatch,
    streams: RandomStreams,
    models_per_replicate: int,
) -> Tensor:
    """Random order in which the gradients of each model's principals are projected."""
    assert update_batch.split_by_principal is not None
    batch = next(iter(minibatch.values()))
    num_principals = len(update_batch.split_by_principal(batch))
    uniform = streams.uniform("principals", models_per_replicate, num_principals)
    return uniform.reshape(batch.num_models, num_principals).argsort(1)
