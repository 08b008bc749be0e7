"""Imitation of demonstrations: supervised fine-tuning."""

from __future__ import annotations

from pydantic import Field

from mores.agents.learning.learner_state import Memory
from mores.agents.learning.losses import nll
from mores.agents.learning.objective import Objective, Weighted
from mores.agents.learning.offline import Fitting
from mores.agents.learning.offline_data import Record
from mores.agents.learning.update import Lesson
from mores.core.random_streams import Draws


class SFT(Fitting):
    """Imitates what it was shown: learns from demonstrations."""

    label_smoothing: float = Field(
        default=0.0, ge=0, le=1, description="share of the target spread over all options"
    )

    def lesson(self, record: Record, memory: Memory, draws: Draws) -> Lesson:
        """All demonstrations."""
        return Lesson({record.phase: record.demonstrations("sft")}, self.objective)

    @property
    def objective(self) -> Objective:
        """Their likelihood."""
        return Objective((Weighted(nll, 1.0, {"smoothing": self.label_smoothing}),))
