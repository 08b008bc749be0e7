"""Episodic recipes: online learners that train on complete episodes.

A *sample* is the episode of one agent. Its score is the sum of its rewards, discounted from the
start, or an aggregate of the principals' rewards. The samples of a *group* are compared with each
other: those of one world, whose agents get the same prompt, or all samples of a model.
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch
from mores.agents.learning.learner import UpdateObstacle
from mores.agents.learning.learner_state import LearnerState
from mores.agents.learning.model_mapping import model_numbers
from mores.agents.learning.objective import PLAIN_VIEW
from mores.agents.learning.on_policy import (
    OnPolicyLearner,
    UnitInterval,
    buffer_feedback,
    buffer_rewards,
    world_flags_by_model,
)
from mores.agents.learning.rollout_buffer import RolloutBuffer
from mores.agents.learning.transforms import aggregation
from mores.agents.learning.transforms.groups import SampleGroups
from mores.agents.learning.update import evaluate_views
from mores.core.environment import Transition
from mores.core.errors import UserError

RewardAggregation = Literal["reward", "sum", "normalize_then_sum", "log_sigmoid", "minimum"]


class EpisodicLearner(OnPolicyLearner):
    """Learner that updates when every world has completed an episode."""

    episodic: ClassVar[bool] = True
    compares_within_group: ClassVar[bool] = False  # a group of one sample gives no gradient

    update_epochs: int = Field(
        default=1, ge=1, le=1000, description="passes over the rollout in an update"
    )
    gamma: UnitInterval = Field(default=1.0, description="discount factor of a round")
    group_by: Literal["world", "replicate"] = Field(
        default="world", description="samples that form a group: those of a world, or of all worlds"
    )
    reward_aggregation: RewardAggregation = Field(
        default="reward",
        description="score of an episode: the reward of its agent (reward), or of the rewards of "
        "the principals the sum, the sum after normalizing each (normalize_then_sum, GDPO), the "
        "log-probability of being good for all (log_sigmoid), or the minimum",
    )

    @property
    def initial_capacity(self) -> int:
        """Initial rollout capacity in rounds; it grows on demand."""
        return 16

    def update_obstacle(self, state: LearnerState) -> UpdateObstacle:
        """There is no update if every group has one sample and the recipe compares samples."""
        mapping = state.persistent_state.mapping
        num_worlds, num_agents = mapping.shape
        numbers = model_numbers(num_agents, self.parameter_sharing, self.agent_groups)
        group_size = int(torch.tensor(numbers).bincount().max())
        if self.group_by == "replicate":
            group_size *= math.ceil(num_worlds / len(mapping.first_world))
        if not self.compares_within_group or group_size > 1:
            return UpdateObstacle()
        return UpdateObstacle(
            "it compares the episodes of a group, and with parameter_sharing: "
            f"{self.parameter_sharing} and group_by: {self.group_by} a group has one episode; let "
            "agents share a model (parameter_sharing: role) or use several worlds and group_by: "
            "replicate",
            None,
        )

    def ready_to_update(self, rollout: RolloutBuffer, transition: Transition) -> bool:
        """Whether every world has completed an episode."""
        return bool(rollout.episode_complete.all())

    def finite_rewards(self, state: LearnerState) -> Bool[Tensor, " model"]:
        """Models whose rewards are all finite, including those of principals if they are used."""
        finite, reward = super().finite_rewards(state), buffer_feedback(state).get("reward")
        if reward is None or self.reward_aggregation == "reward":
            return finite
        valid = world_flags_by_model(state, state.persistent_state.rollout.valid).any(-1)
        return finite & (reward.isfinite().all(-1) | ~valid).all(1)

    def with_groups(
        self, batches: dict[str, FeedbackBatch], state: LearnerState
    ) -> dict[str, FeedbackBatch]:
        """The batches with groups and rewards."""
        mapping = state.persistent_state.mapping
        world = torch.div(mapping.agent_rows, mapping.shape[1], rounding_mode="floor")
        group = torch.zeros_like(world) if self.group_by == "replicate" else world
        feedback = buffer_feedback(state)
        reward = (
            feedback["reward"] if "reward" in feedback else self.episode_returns(state)[..., None]
        )
        return {
            phase: batch.replace(group=group, reward=reward) for phase, batch in batches.items()
        }

    def episode_returns(self, state: LearnerState) -> Float[Tensor, "model sample"]:
        """Return of each episode, discounted from its start."""
        reward = buffer_rewards(state)["reward"]
        valid = world_flags_by_model(state, state.persistent_state.rollout.valid)
        # Discounted by a table of powers: torch's pow differs between vector lanes and tails.
        powers = reward.new_tensor([self.gamma**t for t in range(reward.shape[-1])])
        elapsed = (valid.cumsum(-1) - 1).clamp(min=0)  # rounds since the first of the episode
        return torch.where(valid, reward * powers[elapsed], 0.0).sum(-1)

    def episode_scores(
        self, batch: FeedbackBatch, state: LearnerState
    ) -> Float[Tensor, "model sample"]:
        """Score of each episode.

        Raises:
            UserError: the environment gives no rewards of principals to aggregate.
        """
        if self.reward_aggregation == "reward":
            return self.episode_returns(state)
        if "reward" not in state.persistent_state.rollout.feedback:
            raise UserError(
                f"reward_aggregation: {self.reward_aggregation} needs an environment that gives "
                "the reward of each principal (feedback `reward`)",
                code="missing",
                path="reward",
            )
        reward = batch.require("reward", self.reward_aggregation)
        groups = SampleGroups.from_batch(batch, self.reward_aggregation)
        if self.reward_aggregation == "sum":
            return aggregation.weighted_sum(reward)
        if self.reward_aggregation == "normalize_then_sum":
            return aggregation.normalize_then_sum(reward, groups)
        if self.reward_aggregation == "minimum":
            return aggregation.minimum(reward)
        # Reference: the reward that 85 of 100 own samples do not reach; it moves with the model.
        all_samples = SampleGroups.single_group(batch.mask.any(-1))
        reference = aggregation.reference_rewards(reward, all_samples)
        return aggregation.sum_log_sigmoid_centered(reward, reference)

    def with_reference(
        self, batch: FeedbackBatch, state: LearnerState, phase: str
    ) -> FeedbackBatch:
        """The batch with log-probabilities under the models that training began from."""
        out = evaluate_views(
            state.spec.stacked_model,
            state.spec.role.observation_space,
            state.persistent_state.train_state.reference_parameters,
            phase,
            batch,
            (PLAIN_VIEW,),
        )[PLAIN_VIEW]
        return batch.replace(reference_logp=out.logp, reference_logits=out.logits)


def single_phase(batches: dict[str, FeedbackBatch], recipe: str) -> tuple[str, FeedbackBatch]:
    """The only phase of the batches, and its batch.

    Raises:
        UserError: there are several phases.
    """
    if len(batches) != 1:
        raise UserError(
            f"{recipe} trains on one phase; the role acts in {list(batches)}", code="unsupported"
        )
    return next(iter(batches.items()))


def drop_fields(batch: FeedbackBatch, *names: str) -> FeedbackBatch:
    """The batch without some fields."""
    return dataclasses.replace(batch, **dict.fromkeys(names))
