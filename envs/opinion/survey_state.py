"""State of a survey."""

from __future__ import annotations

import dataclasses

from jaxtyping import Float, Int
from torch import Tensor

from mores.core.people import People


@dataclasses.dataclass(frozen=True)
class SurveyState:
    """Answers so far, in the order in which each question lists its options. Missing ones are 0."""

    people: People
    belief_shift: Int[Tensor, "world question"]  # 0 or 1: who is told which belief
    rounds_elapsed: Int[Tensor, " world"]
    answers: Float[Tensor, "world person cell option"]  # probabilities
    drawn: Float[Tensor, "world person cell"]  # score of one answer drawn from them
