"""Imitation of demonstrations: supervised fine-tuning."""

from __future__ import annotations

from pydantic import Field

from mores.agents.learners.fit import Fitting
from mores.agents.learners.lesson import Lesson
from mores.agents.learners.memory import Memory
from mores.agents.learners.objective import Objective, Weighted
from mores.agents.learners.record import Record
from mores.agents.learners.terms import nll
from mores.draws import Draws


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
