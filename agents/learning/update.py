"""A lesson: what is to be learned from what, and the going over it again and again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch, ModelOutput
from mores.agents.learning.learner_state import LearnerState
from mores.agents.learning.objective import PLAIN_VIEW, Objective
from mores.agents.learning.stacked_model import ModelInputs, StackedModel
from mores.agents.learning.train_state import (
    OptimizerConfig,
    TrainState,
    epoch_permutations,
    optimizer_step,
    split_minibatches,
)
from mores.core.environment import Box
from mores.core.random_streams import RandomStreams

if TYPE_CHECKING:
    from mores.agents.learning.learner import Learner

Parameters = Mapping[str, Tensor]
AnnotateFunction = Callable[[FeedbackBatch, Mapping[str, ModelOutput]], FeedbackBatch]


def unchanged(batch: FeedbackBatch, outputs: Mapping[str, ModelOutput]) -> FeedbackBatch:
    """Nothing more is to be found out about a batch."""
    return batch


@dataclasses.dataclass(frozen=True)
class UpdateBatch:
    """What is to be learned.

    Attributes:
        batches: what from, by phase; samples of all phases correspond.
        objective: what is to become small.
        unit: what is shuffled: samples, or pairs of them.
        annotate: what is found out about a minibatch from what the policies say of it now, such as
            which words a judgement was about; nothing is differentiated through it.
        split_by_principal: a batch for each principal's view of it, where their gradients are kept apart.
    """

    batches: dict[str, FeedbackBatch]
    objective: Objective
    unit: Literal["sample", "pair"] = "sample"
    annotate: AnnotateFunction = unchanged
    split_by_principal: Callable[[FeedbackBatch], list[FeedbackBatch]] | None = None


def update_models(
    learner: Learner,
    state: LearnerState,
    update_batch: UpdateBatch,
    streams: RandomStreams,
    epochs: int,
    num_minibatches: int,
) -> Float[Tensor, " policy"]:
    """Go over a lesson with the policies of a memory; they are changed in place.

    Returns:
        The loss of each policy, averaged over all steps.
    """
    learned = state.persistent_state
    return run_epochs(
        learned.train_state,
        state.spec.stacked_model,
        state.spec.role.observation_space,
        update_batch,
        streams.take(learned.mapping.first_world),
        learned.mapping.models_per_replicate,
        learner.optimizer_config,
        int(learned.num_rounds),
        epochs,
        num_minibatches,
    )


def run_epochs(
    train_state: TrainState,
    stacked_model: StackedModel,
    observation_space: Box,
    update_batch: UpdateBatch,
    streams: RandomStreams,
    models_per_replicate: int,
    optimizer_config: OptimizerConfig,
    round_number: int,
    epochs: int,
    num_minibatches: int,
) -> Float[Tensor, " policy"]:
    """Go over a lesson `epochs` times in `num_minibatches` steps each.

    Args:
        train_state, stacked_model: who learns, of which make.
        observation_space: the layout of a sight.
        update_batch: what.
        streams: of the first world of each replicate, for the order of samples.
        models_per_replicate: policies in a replicate.
        optimizer_config: how parameters follow gradients.
        round_number: the round of training.
        epochs, num_minibatches: how often.
    """
    total = torch.zeros_like(train_state.active, dtype=torch.float32)
    steps = 0
    at = torch.tensor(round_number)
    for epoch, by_phase in enumerate(
        _minibatch_epochs(update_batch, streams, models_per_replicate, epochs, num_minibatches)
    ):
        for part, pieces in enumerate(by_phase):

            def losses(
                parameters: Parameters, pieces: dict[str, FeedbackBatch] = pieces
            ) -> Float[Tensor, "principal policy"]:
                return _losses(stacked_model, observation_space, parameters, pieces, update_batch)

            order = None
            if (
                update_batch.split_by_principal is not None
                and optimizer_config.gradient_aggregation == "pcgrad"
            ):
                order = _principal_order(
                    pieces,
                    update_batch,
                    streams.child(f"epoch {epoch}/part {part}"),
                    models_per_replicate,
                )
            total = total + optimizer_step(train_state, losses, optimizer_config, at, order)
            steps += 1
    return total / max(steps, 1)


def _minibatch_epochs(
    update_batch: UpdateBatch,
    streams: RandomStreams,
    models_per_replicate: int,
    epochs: int,
    num_minibatches: int,
) -> Iterator[list[dict[str, FeedbackBatch]]]:
    """The parts of each pass over a lesson, by phase; samples of all phases correspond."""
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
        yield [
            dict(zip(split, pieces, strict=True)) for pieces in zip(*split.values(), strict=True)
        ]


def _losses(
    stacked_model: StackedModel,
    observation_space: Box,
    parameters: Parameters,
    pieces: dict[str, FeedbackBatch],
    update_batch: UpdateBatch,
) -> Float[Tensor, "principal policy"]:
    """The loss of each policy by principal, averaged over phases."""
    found = []
    for phase, batch in pieces.items():
        outputs = evaluate_views(
            stacked_model, observation_space, parameters, phase, batch, update_batch.objective.views
        )
        batch = update_batch.annotate(batch, outputs)
        views = (
            [batch]
            if update_batch.split_by_principal is None
            else update_batch.split_by_principal(batch)
        )
        each = [update_batch.objective(outputs, view).total for view in views]
        found.append(torch.stack(each) if len(each) > 1 else each[0][None])
    return torch.stack(found).mean(0) if len(found) > 1 else found[0]


def evaluate_views(
    stacked_model: StackedModel,
    observation_space: Box,
    parameters: Parameters,
    phase: str,
    batch: FeedbackBatch,
    views: tuple[str, ...] = (PLAIN_VIEW,),
) -> dict[str, ModelOutput]:
    """What policies say of a batch, by view.

    In the view `judged` they see the judgement on each sample in the part `judgement` of their
    sight, in `hidden` the sight without its evidence, in all others what they saw.
    """
    found = {}
    for view in views:
        question = ModelInputs(
            phase,
            view_observation(view, batch, observation_space),
            batch.action,
            batch.action_mask,
            batch.episode_start,
            batch.recurrent_state,
            batch.mask,
        )
        found[view] = stacked_model.evaluate_actions(parameters, question)
    return found


def view_observation(view: str, batch: FeedbackBatch, observation_space: Box) -> Tensor:
    """The sights of a batch in a view."""
    if view == "critiqued":
        judgement = batch.require("critique", "the view `judged`")
        parts = {
            name: observation_space.read(batch.observation, name)
            for name in observation_space.parts
        }
        parts["critique"] = judgement[:, :, None].expand_as(parts["critique"])
        return observation_space.join(**parts)
    if view == "hidden":
        evidence = batch.require("evidence_mask", "the view `hidden`")
        return torch.where(evidence[:, :, None], batch.observation, 0.0)
    return batch.observation


def _principal_order(
    pieces: dict[str, FeedbackBatch],
    update_batch: UpdateBatch,
    streams: RandomStreams,
    models_per_replicate: int,
) -> Tensor:
    """In which order each policy's principals are projected."""
    assert update_batch.split_by_principal is not None
    batch = next(iter(pieces.values()))
    many = len(update_batch.split_by_principal(batch))
    chance = streams.uniform("principals", models_per_replicate, many)
    return chance.reshape(batch.num_models, many).argsort(1)
