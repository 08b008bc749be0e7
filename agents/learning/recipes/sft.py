"""Supervised fine-tuning: imitation of demonstrations."""

from __future__ import annotations

from pydantic import Field

from mores.agents.learning.learner_state import LearnerState
from mores.agents.learning.losses import nll_loss
from mores.agents.learning.objective import LossTerm, Objective
from mores.agents.learning.offline import OfflineLearner
from mores.agents.learning.offline_data import OfflineData
from mores.agents.learning.update import UpdateBatch
from mores.core.random_streams import RandomStreams


class SFT(OfflineLearner):
    """Supervised fine-tuning, also called behavior cloning."""

    label_smoothing: float = Field(
        default=0.0, ge=0, le=1, description="share of the target uniform over legal options"
    )

    def make_update_batch(
        self, data: OfflineData, state: LearnerState, streams: RandomStreams
    ) -> UpdateBatch:
        """One batch of all demonstrations."""
        return UpdateBatch({data.phase: data.demonstrations("sft")}, self.objective)

    @property
    def objective(self) -> Objective:
        """Negative log-likelihood of the demonstrations."""
        return Objective((LossTerm(nll_loss, 1.0, {"label_smoothing": self.label_smoothing}),))
