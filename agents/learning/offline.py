"""Offline training: learners that train on the episodes of earlier stages.

One call of `fit_offline` is one pass over the dataset; a stage with `episodes: 20` makes twenty.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Set
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch, ModelOutput
from mores.agents.learning.learner import NetworkLearner
from mores.agents.learning.learner_state import LearnerState
from mores.agents.learning.objective import PLAIN_VIEW
from mores.agents.learning.offline_data import OfflineData, read_offline_data
from mores.agents.learning.update import UpdateBatch, evaluate_views, update_models
from mores.core.episode_dataset import EpisodeDataset
from mores.core.learner import TrainingMode
from mores.core.random_streams import RandomStreams


class OfflineLearner(NetworkLearner):
    """Learner that trains on recorded episodes of its role and the feedback on them."""

    trains: ClassVar[Set[TrainingMode]] = {"offline"}

    batch_size: int = Field(
        default=64, ge=1, le=10_000_000, description="samples, or pairs, in an optimizer step"
    )

    @abstractmethod
    def make_update_batch(
        self, data: OfflineData, state: LearnerState, streams: RandomStreams
    ) -> UpdateBatch:
        """Data and objective of an update, from recorded episodes."""

    def fit_offline(
        self, state: LearnerState, dataset: EpisodeDataset, streams: RandomStreams
    ) -> LearnerState:
        """State after one pass over a dataset."""
        with torch.no_grad():
            data = read_offline_data(dataset, state)
            update_batch = self.make_update_batch(data, state, streams)
        self.validate_update_batch(update_batch)
        num_minibatches = max(1, -(-num_units(update_batch) // self.batch_size))
        state.persistent_state.num_rounds.add_(1)
        update_models(state, update_batch, streams, self.optimizer_config, 1, num_minibatches)
        return state

    def with_reference(
        self, batch: FeedbackBatch, state: LearnerState, phase: str
    ) -> FeedbackBatch:
        """The batch with log-probabilities under the models that training began from."""
        reference = state.persistent_state.train_state.reference_parameters
        out = evaluate_plain_view(state, reference, phase, batch)
        return batch.replace(reference_logp=out.logp, reference_logits=out.logits)


def num_units(update_batch: UpdateBatch) -> int:
    """Number of samples, or of pairs, that are shuffled for each model."""
    batch, unit = next(iter(update_batch.batches.values())), update_batch.unit
    return batch.num_samples if unit == "sample" else batch.require("pairs", "a recipe").shape[1]


def evaluate_plain_view(
    state: LearnerState, parameters: dict[str, Tensor], phase: str, batch: FeedbackBatch
) -> ModelOutput:
    """Outputs of models with these parameters for the recorded observations."""
    spec = state.spec
    return evaluate_views(
        spec.stacked_model, spec.role.observation_space, parameters, phase, batch, (PLAIN_VIEW,)
    )[PLAIN_VIEW]
