"""Training on the best of the learner's own samples: expert iteration, online DPO.

Expert iteration (Anthony et al. 2017, arXiv 1705.08439, here with sampling in place of search, as
in Gulcehre et al. 2023, 2308.08998) imitates the best samples of each group. Online DPO (Guo et al.
2024, arXiv 2402.04792) prefers the best sample of a group to the worst.
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
    """Expert iteration: imitates the samples of each group with the highest reward."""

    compares_within_group: ClassVar[bool] = True

    update_epochs: int = Field(
        default=2, ge=1, le=1000, description="passes over the rollout in an update"
    )
    top_fraction: float = Field(
        default=0.25, gt=0, le=1, description="share of a group that is imitated"
    )

    def make_update_batch(
        self, batches: dict[str, FeedbackBatch], state: LearnerState
    ) -> UpdateBatch:
        """Update on the best samples of each group; on all, where all scores are equal."""
        marked = {}
        for phase, batch in self.with_groups(batches, state).items():
            groups = SampleGroups.from_batch(batch, "expert_iteration")
            score = self.episode_scores(batch, state)
            threshold = groups.quantile(score, 1.0 - self.top_fraction)
            marked[phase] = batch.replace(desirable=groups.valid & (score >= threshold))
        return UpdateBatch(marked, self.objective)

    @property
    def objective(self) -> Objective:
        """Negative log-likelihood of the best samples."""
        return Objective((LossTerm(nll_loss, 1.0, {"subset": "desirable"}),))


class OnlineDPO(EpisodicLearner):
    """Online DPO: prefers the best sample of each group, by reward, to the worst."""

    compares_within_group: ClassVar[bool] = True

    beta: float = Field(default=0.1, gt=0, le=100, description="scale of log-ratios (beta)")

    @property
    def uses_reference_model(self) -> bool:
        """True: log-ratios are relative to the model that training began from."""
        return True

    def make_update_batch(
        self, batches: dict[str, FeedbackBatch], state: LearnerState
    ) -> UpdateBatch:
        """Update on one pair of each group whose scores differ."""
        paired = {}
        for phase, batch in self.with_groups(batches, state).items():
            groups = SampleGroups.from_batch(batch, "online_dpo")
            score = self.episode_scores(batch, state)
            batch = batch.replace(pairs=best_worst_pairs(score, groups))
            paired[phase] = self.with_reference(batch, state, phase)
        unit = "pair" if self.num_minibatches > 1 else "sample"
        return UpdateBatch(paired, self.objective, unit=unit)

    @property
    def objective(self) -> Objective:
        """Preference loss of DPO."""
        return Objective((LossTerm(preference_loss, 1.0, {"beta": self.beta}),))


def best_worst_pairs(score: torch.Tensor, groups: SampleGroups) -> torch.Tensor:
    """Pair of the first best and the first worst sample of each group.

    Returns:
        `[model, sample, 2]` indices in the row of the best sample; -1 twice in all other rows, and
        in groups whose scores are equal.
    """
    num_models, num_samples = score.shape
    num_slots = num_samples + 1

    def first_highest(values: torch.Tensor) -> torch.Tensor:
        """First sample with the highest value of the group, for each sample."""
        valid_values = torch.where(groups.valid, values, -math.inf)
        highest = values.new_full((num_models, num_slots), -math.inf)
        highest = highest.scatter_reduce(1, groups.group_index, valid_values, "amax")
        is_highest = (valid_values == highest.gather(1, groups.group_index)) & groups.valid
        position = torch.arange(num_samples, device=score.device).expand(num_models, -1)
        first = torch.full_like(highest, num_samples, dtype=torch.int64)
        position = torch.where(is_highest, position, num_samples)
        first = first.scatter_reduce(1, groups.group_index, position, "amin")
        return first.gather(1, groups.group_index)

    best, worst = first_highest(score), first_highest(-score)
    position = torch.arange(num_samples, device=score.device)
    best_score = score.gather(1, best.clamp(max=num_samples - 1))
    differs = best_score > score.gather(1, worst.clamp(max=num_samples - 1))
    is_best = groups.valid & (best == position) & differs
    pairs = torch.stack([best, worst], -1)
    return torch.where(is_best[..., None], pairs, -1)
