"""Learning from what was recorded in earlier stages: the loop `fit`.

A pass over the record is one call; a stage of `episodes: 20` makes twenty.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch, ModelOutput
from mores.agents.learning.learner import Learner
from mores.agents.learning.learner_state import LearnerState
from mores.agents.learning.objective import PLAIN_VIEW
from mores.agents.learning.offline_data import OfflineData, read_offline_data
from mores.agents.learning.update import UpdateBatch, evaluate_views, update_models
from mores.core.random_streams import RandomStreams


class OfflineLearner(Learner):
    """Learns from a record of what its role did and was told."""

    batch_size: int = Field(
        default=64, ge=1, le=10_000_000, description="samples, or pairs, of one step"
    )

    @abstractmethod
    def make_update_batch(
        self, data: OfflineData, state: LearnerState, streams: RandomStreams
    ) -> UpdateBatch:
        """What is to be learned from a record."""

    def fit_offline(
        self, state: LearnerState, dataset: Any, streams: RandomStreams
    ) -> LearnerState:
        """Go over the record once."""
        with torch.no_grad():
            record = read_offline_data(dataset, state)
            lesson = self.make_update_batch(record, state, streams)
        self.validate_update_batch(lesson)
        batch = next(iter(lesson.batches.values()))
        size = (
            batch.num_samples
            if lesson.unit == "sample"
            else batch.require("pairs", "pairs").shape[1]
        )
        state.persistent_state.num_rounds.add_(1)
        update_models(self, state, lesson, streams, 1, max(1, -(-size // self.batch_size)))
        return state

    def with_reference(
        self, batch: FeedbackBatch, state: LearnerState, phase: str
    ) -> FeedbackBatch:
        """Samples with what the policy that training began from says of them."""
        out = evaluate_plain_view(
            state, state.persistent_state.train_state.reference_parameters, phase, batch
        )
        return batch.replace(reference_logp=out.logp, reference_logits=out.logits)


def evaluate_plain_view(
    state: LearnerState, parameters: dict[str, Tensor], phase: str, batch: FeedbackBatch
) -> ModelOutput:
    """What policies with these parameters say of a batch, as they would see it in use."""
    make = state.spec
    return evaluate_views(
        make.stacked_model, make.role.observation_space, parameters, phase, batch, (PLAIN_VIEW,)
    )[PLAIN_VIEW]
