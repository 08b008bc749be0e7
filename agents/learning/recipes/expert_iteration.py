"""Learning from the better of one's own answers: expert iteration, online DPO.

Expert iteration (Anthony et al. 2017, arXiv 1705.08439, here with sampling for search, as Gulcehre
et al. 2023, 2308.08998, have it) imitates the best answers to each request. Online DPO (Guo et al.
2024, arXiv 2402.04792) prefers the best to the worst, by whoever scores them.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field

from mores.agents.learning.batch import FeedbackBatch
from mores.agents.learning.episodic import EpisodicLearner
from mores.agents.learning.learner_state import LearnerState
from mores.agents.learning.losses import nll_loss, preference_loss
from mores.agents.learning.objective import LossTerm, Objective
from mores.agents.learning.transforms.groups import SampleGroups
from mores.agents.learning.update import UpdateBatch


class ExpertIteration(EpisodicLearner):
    """Imitates the best of its own answers to each request: learns from reward."""

    compares_within_group: ClassVar[bool] = True

    update_epochs: int = Field(
        default=2, ge=1, le=1000, description="passes over what was gathered"
    )
    top_fraction: float = Field(
        default=0.25, gt=0, le=1, description="share of a group that is imitated"
    )

    def make_update_batch(
        self, batches: dict[str, FeedbackBatch], state: LearnerState
    ) -> UpdateBatch:
        """The best answers of each group; all, where nobody is better."""
        ready = {}
        for phase, batch in self.with_groups(batches, state).items():
            groups = SampleGroups.from_batch(batch, "expert_iteration")
            score = self.episode_scores(batch, state)
            level = groups.quantile(score, 1.0 - self.top_fraction)
            ready[phase] = batch.replace(desirable=groups.valid & (score >= level))
        return UpdateBatch(ready, self.objective)

    @property
    def objective(self) -> Objective:
        """Likelihood of what is imitated."""
        return Objective((LossTerm(nll_loss, 1.0, {"subset": "desirable"}),))


class OnlineDPO(EpisodicLearner):
    """Prefers its best answer to its worst, group by group: learns from reward."""

    compares_within_group: ClassVar[bool] = True

    beta: float = Field(default=0.1, gt=0, le=100, description="of log-ratios (beta)")

    @property
    def uses_reference_model(self) -> bool:
        """Log-ratios are to the policy that training began from."""
        return True

    def make_update_batch(
        self, batches: dict[str, FeedbackBatch], state: LearnerState
    ) -> UpdateBatch:
        """A pair for each group whose answers differ in score."""
        ready = {}
        for phase, batch in self.with_groups(batches, state).items():
            groups = SampleGroups.from_batch(batch, "online_dpo")
            score = self.episode_scores(batch, state)
            ready[phase] = self.with_reference(
                batch.replace(pairs=best_worst_pairs(score, groups)), state, phase
            )
        return UpdateBatch(
            ready, self.objective, unit="pair" if self.num_minibatches > 1 else "sample"
        )

    @property
    def objective(self) -> Objective:
        """The preference loss of DPO."""
        return Objective((LossTerm(preference_loss, 1.0, {"beta": self.beta}),))


def best_worst_pairs(score: torch.Tensor, groups: SampleGroups) -> torch.Tensor:
    """For each sample that is its group's first best, it and the group's first worst; else -1.

    Returns:
        `[policy, sample, 2]` indices, -1 twice where a sample is not the best, or all are equal.
    """
    policies, samples = score.shape
    slots = samples + 1

    def first_of(values: torch.Tensor) -> torch.Tensor:
        """In each sample's group, the first sample that has the group's highest value."""
        kept = torch.where(groups.valid, values, -math.inf)
        top = values.new_full((policies, slots), -math.inf)
        top = top.scatter_reduce(1, groups.group_index, kept, "amax")
        at_top = (kept == top.gather(1, groups.group_index)) & groups.valid
        place = torch.arange(samples, device=score.device).expand(policies, -1)
        first = torch.full((policies, slots), samples, dtype=torch.int64, device=score.device)
        where = torch.where(at_top, place, samples)
        return first.scatter_reduce(1, groups.group_index, where, "amin").gather(
            1, groups.group_index
        )

    best, worst = first_of(score), first_of(-score)
    place = torch.arange(samples, device=score.device)
    spread = score.gather(1, best.clamp(max=samples - 1)) > score.gather(
        1, worst.clamp(max=samples - 1)
    )
    is_best = groups.valid & (best == place) & spread
    pairs = torch.stack([best, worst], -1)
    return torch.where(is_best[..., None], pairs, -1)
