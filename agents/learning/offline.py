"""Learning from what was recorded in earlier stages: the loop `fit`.

A pass over the record is one call; a stage of `episodes: 20` makes twenty.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch, Output
from mores.agents.learning.learner import Learner
from mores.agents.learning.learner_state import Memory
from mores.agents.learning.objective import PLAIN
from mores.agents.learning.offline_data import Record, read
from mores.agents.learning.update import Lesson, asked, teach
from mores.core.random_streams import Draws


class Fitting(Learner):
    """Learns from a record of what its role did and was told."""

    batch_size: int = Field(
        default=64, ge=1, le=10_000_000, description="samples, or pairs, of one step"
    )

    @abstractmethod
    def lesson(self, record: Record, memory: Memory, draws: Draws) -> Lesson:
        """What is to be learned from a record."""

    def fit(self, memory: Memory, experience: Any, draws: Draws) -> Memory:
        """Go over the record once."""
        with torch.no_grad():
            record = read(experience, memory)
            lesson = self.lesson(record, memory, draws)
        self.check(lesson)
        batch = next(iter(lesson.batches.values()))
        size = batch.samples if lesson.unit == "sample" else batch.need("pairs", "pairs").shape[1]
        memory.learned.rounds.add_(1)
        teach(self, memory, lesson, draws, 1, max(1, -(-size // self.batch_size)))
        return memory

    def with_reference(self, batch: FeedbackBatch, memory: Memory, phase: str) -> FeedbackBatch:
        """Samples with what the policy that training began from says of them."""
        out = said(memory, memory.learned.pupil.reference, phase, batch)
        return batch.replace(reference_logp=out.logp, reference_logits=out.logits)


def said(memory: Memory, parameters: dict[str, Tensor], phase: str, batch: FeedbackBatch) -> Output:
    """What policies with these parameters say of a batch, as they would see it in use."""
    make = memory.make
    return asked(make.stack, make.role.sees, parameters, phase, batch, (PLAIN,))[PLAIN]
