"""Recipes that learn from whole answers while acting: what they have in common.

An *answer* is one seat's episode. Its score is the sum of its rewards, discounted from the start,
or what principals say of it, aggregated. Answers of a *group* are compared with each other: those
given in the same world, to the same request, or all of a policy.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch
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
from mores.core.environment import Role, Transition
from mores.core.errors import UserError

RewardAggregation = Literal["reward", "sum", "normalize_then_sum", "log_sigmoid", "minimum"]


class EpisodicLearner(OnPolicyLearner):
    """Learns when every world has completed an episode."""

    episodic: ClassVar[bool] = True
    compares_within_group: ClassVar[bool] = False  # learns nothing from a group of one

    update_epochs: int = Field(
        default=1, ge=1, le=1000, description="passes over what was gathered"
    )
    gamma: UnitInterval = Field(default=1.0, description="of the next round's reward")
    group_by: Literal["world", "replicate"] = Field(
        default="world", description="whose answers are compared: of a world, or of all worlds"
    )
    reward_aggregation: RewardAggregation = Field(
        default="reward",
        description="an answer's score: the reward that its seat earned, or of the principals' "
        "own rewards the sum, the sum after normalising each (GDPO), the log-probability of being "
        "good by all (log_sigmoid), or the minimum",
    )

    @property
    def initial_capacity(self) -> int:
        """Some; more is made when it is needed."""
        return 16

    def never_updates_reason(self, role: Role, rounds: int, worlds: int) -> str:
        """Where nothing is compared."""
        numbers = torch.tensor(
            model_numbers(role.num_agents, self.parameter_sharing, self.agent_groups)
        )
        answers = int(numbers.bincount().max()) * (worlds if self.group_by == "replicate" else 1)
        if not self.compares_within_group or answers > 1:
            return ""
        return (
            f"it compares the answers of a group, and with share: {self.parameter_sharing} and group: "
            f"{self.group_by} a group is one answer: let seats share a policy (share: role), or "
            "compare over several worlds (group: replicate)"
        )

    def ready_to_update(self, rollout: RolloutBuffer, transition: Transition) -> bool:
        """When every world has completed an episode."""
        return bool(rollout.episode_complete.all())

    def finite_rewards(self, state: LearnerState) -> Bool[Tensor, " policy"]:
        """The same of what principals said, where that is an answer's score."""
        fine, said = super().finite_rewards(state), buffer_feedback(state).get("reward")
        if said is None or self.reward_aggregation == "reward":
            return fine
        real = world_flags_by_model(state, state.persistent_state.rollout.valid).any(-1)
        return fine & (said.isfinite().all(-1) | ~real).all(1)

    def with_groups(
        self, batches: dict[str, FeedbackBatch], state: LearnerState
    ) -> dict[str, FeedbackBatch]:
        """Answers with their groups, and what was said of them."""
        seats = state.persistent_state.mapping
        world = torch.div(seats.agent_rows, seats.shape[1], rounding_mode="floor")
        group = torch.zeros_like(world) if self.group_by == "replicate" else world
        said = buffer_feedback(state)
        reward = said["reward"] if "reward" in said else self.episode_returns(state)[..., None]
        return {
            phase: batch.replace(group=group, reward=reward) for phase, batch in batches.items()
        }

    def episode_returns(self, state: LearnerState) -> Float[Tensor, "policy sample"]:
        """What each answer earned, discounted from its start."""
        pay = buffer_rewards(state)["reward"]
        real = world_flags_by_model(
            state, state.persistent_state.rollout.valid
        )  # rounds it was given in
        # Discounted by a table of powers: torch's pow differs between vector lanes and tails.
        powers = pay.new_tensor([self.gamma**t for t in range(pay.shape[-1])])
        since = (real.cumsum(-1) - 1).clamp(min=0)  # rounds since the answer's first
        return torch.where(real, pay * powers[since], 0.0).sum(-1)

    def episode_scores(
        self, batch: FeedbackBatch, state: LearnerState
    ) -> Float[Tensor, "policy sample"]:
        """The score of each answer.

        Raises:
            UserError: principals' own rewards are to be aggregated, and nobody told them.
        """
        if self.reward_aggregation == "reward":
            return self.episode_returns(state)
        if "reward" not in state.persistent_state.rollout.feedback:
            raise UserError(
                f"aggregate: {self.reward_aggregation} needs an environment that tells what each principal "
                "thinks of an answer (feedback `reward`)",
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
        # Good is what 85 of 100 own answers are not: the level moves with the policy.
        level = aggregation.reference_rewards(reward, SampleGroups.single_group(batch.mask.any(-1)))
        return aggregation.sum_log_sigmoid_centered(reward, level)

    def with_reference(
        self, batch: FeedbackBatch, state: LearnerState, phase: str
    ) -> FeedbackBatch:
        """Answers with what the policy that training began from says of them."""
        pupil = state.persistent_state.train_state
        out = evaluate_views(
            state.spec.stacked_model,
            state.spec.role.observation_space,
            pupil.reference_parameters,
            phase,
            batch,
            (PLAIN_VIEW,),
        )[PLAIN_VIEW]
        return batch.replace(reference_logp=out.logp, reference_logits=out.logits)


def single_phase(batches: dict[str, FeedbackBatch], recipe: str) -> tuple[str, FeedbackBatch]:
    """The one phase that a recipe can deal with.

    Raises:
        UserError: there are several.
    """
    if len(batches) != 1:
        raise UserError(
            f"{recipe} learns what is done in one phase, and here are {list(batches)}",
            code="unsupported",
        )
    return next(iter(batches.items()))


def drop_fields(batch: FeedbackBatch, *names: str) -> FeedbackBatch:
    """A batch without some fields."""
    return dataclasses.replace(batch, **dict.fromkeys(names))
