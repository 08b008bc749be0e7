"""Policy gradients on complete episodes: REINFORCE, RLOO, GRPO, GRAO.

They differ in the baseline. REINFORCE (Williams 1992) compares the return after each action with
the model's mean over all actions. RLOO (arXiv 2402.14740) and GRPO (2402.03300) compare the score
of a sample with its group. GRAO (2508.07750) adds a demonstration to the group.
See `mores.agents.learning.transforms.group_advantages`.

None of them has a value head: the return of a truncated episode is the sum of its rewards up to the
cut, as in the other episodic recipes. Only PPO bootstraps there.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch
from mores.agents.learning.demonstration_rollout import concat_samples, demonstration_batch
from mores.agents.learning.episodic import EpisodicLearner
from mores.agents.learning.learner_state import LearnerState
from mores.agents.learning.losses import (
    kl_loss,
    policy_gradient_diagnostics,
    policy_gradient_loss,
)
from mores.agents.learning.objective import LossTerm, Objective
from mores.agents.learning.on_policy import buffer_feedback, buffer_rewards
from mores.agents.learning.train_state import OptimizerConfig
from mores.agents.learning.transforms.advantages import (
    broadcast_to_steps,
    center_advantages,
    center_by_step,
    discounted_returns,
    normalize_advantages,
)
from mores.agents.learning.transforms.group_advantages import (
    grao_advantages,
    grpo_advantages,
    rloo_advantages,
)
from mores.agents.learning.transforms.groups import SampleGroups
from mores.agents.learning.update import UpdateBatch
from mores.core.errors import ParameterError, UserError


class REINFORCE(EpisodicLearner):
    """REINFORCE: returns less their mean as advantages of actions."""

    gamma: float = Field(default=0.99, ge=0, le=1, description="discount factor of a round")
    ent_coef: float = Field(default=0.01, ge=0, description="weight of the entropy bonus")
    baseline: Literal["model", "round"] = Field(
        default="model",
        description="mean that is subtracted from returns: of all actions of the model, or of its "
        "actions in the same round, where returns depend on the time that is left",
    )
    normalize_advantage: bool = Field(
        default=False,
        description="scale advantages to unit standard deviation. Where large losses are rare, an "
        "update without one has small advantages, which this enlarges, and an update with one is "
        "reduced: the model may learn to take a risk whose expectation is negative",
    )

    def make_update_batch(
        self, batches: dict[str, FeedbackBatch], state: LearnerState
    ) -> UpdateBatch:
        """Update on every action, with the return after it as advantage."""
        rewards = buffer_rewards(state)
        mask = next(iter(batches.values())).mask
        ends = (rewards["terminated"], rewards["truncated"])
        returns = discounted_returns(rewards["reward"], *ends, mask, self.gamma)
        if self.baseline == "round":
            returns = center_by_step(returns, mask)
        scaled = normalize_advantages if self.normalize_advantage else center_advantages
        advantage = scaled(returns, mask)
        prepared = {phase: batch.replace(advantage=advantage) for phase, batch in batches.items()}
        return UpdateBatch(prepared, self.objective)

    @property
    def objective(self) -> Objective:
        """Policy gradient without clipping, with entropy bonus."""
        loss_kwargs = {"clip_mode": "none", "ent_coef": self.ent_coef}
        diagnostics = policy_gradient_diagnostics
        term = LossTerm(policy_gradient_loss, 1.0, loss_kwargs, diagnostics=diagnostics)
        return Objective((term,))


class GroupPolicyGradient(EpisodicLearner):
    """Policy gradient whose advantages compare the samples of a group."""

    compares_within_group: ClassVar[bool] = True

    ent_coef: float = Field(default=0.0, ge=0, description="weight of the entropy bonus")
    kl_coef: float = Field(
        default=0.0, ge=0, description="weight of the divergence from the initial model"
    )
    gradient_aggregation: Literal["none", "mean", "pcgrad", "mgda"] = Field(
        default="none",
        description="none: one score per sample, by reward_aggregation; mean: mean of the "
        "principals' gradients; pcgrad: mean after conflicts are projected out; mgda: shortest "
        "vector of their convex hull",
    )

    @model_validator(mode="after")
    def _check_aggregation(self) -> GroupPolicyGradient:
        if self.gradient_aggregation != "none" and self.reward_aggregation != "reward":
            raise ParameterError(
                "reward_aggregation",
                message=f"gradient_aggregation: {self.gradient_aggregation} does not aggregate "
                "rewards; leave out reward_aggregation",
                code="conflict",
            )
        return self

    @property
    def uses_reference_model(self) -> bool:
        """Whether the divergence from the initial model has weight."""
        return self.kl_coef > 0

    @property
    def optimizer_config(self) -> OptimizerConfig:
        """Adam, with `gradient_aggregation` of the principals' gradients."""
        return OptimizerConfig(
            self.adam, "mean" if self.gradient_aggregation == "none" else self.gradient_aggregation
        )

    def make_update_batch(
        self, batches: dict[str, FeedbackBatch], state: LearnerState
    ) -> UpdateBatch:
        """Update with one advantage per sample, or one for each principal."""
        prepared = {}
        for phase, batch in self.with_groups(batches, state).items():
            groups = SampleGroups.from_batch(batch, type(self).__name__)
            if self.gradient_aggregation != "none":
                reward = self._principal_rewards(batch, state)
                advantages = [
                    self.episode_advantages(reward[..., k], groups) for k in range(reward.shape[-1])
                ]
                batch = batch.replace(reward=torch.stack(advantages, -1))
            else:
                advantage = self.episode_advantages(self.episode_scores(batch, state), groups)
                batch = batch.replace(advantage=broadcast_to_steps(advantage, batch.mask))
            if self.uses_reference_model:
                batch = self.with_reference(batch, state, phase)
            prepared[phase] = batch
        split = None if self.gradient_aggregation == "none" else split_by_principal
        return UpdateBatch(prepared, self.objective, split_by_principal=split)

    def episode_advantages(
        self, score: Float[Tensor, "model sample"], groups: SampleGroups
    ) -> Float[Tensor, "model sample"]:
        """Advantage of each sample."""
        return grpo_advantages(score, groups)

    @property
    def objective(self) -> Objective:
        """Policy gradient, and the divergence from the initial model if it has weight."""
        loss_kwargs = {**self.loss_kwargs, "ent_coef": self.ent_coef}
        diagnostics = policy_gradient_diagnostics
        terms = [LossTerm(policy_gradient_loss, 1.0, loss_kwargs, diagnostics=diagnostics)]
        if self.kl_coef > 0:
            terms.append(LossTerm(kl_loss, self.kl_coef, {"reduction": "sample"}))
        return Objective(tuple(terms))

    @property
    def loss_kwargs(self) -> dict[str, object]:
        """Keyword arguments of the policy-gradient loss."""
        return {"clip_mode": "none", "reduction": "sample"}

    def _principal_rewards(
        self, batch: FeedbackBatch, state: LearnerState
    ) -> Float[Tensor, "model sample principal"]:
        reward = buffer_feedback(state).get("reward")
        if reward is None:
            raise UserError(
                f"gradient_aggregation: {self.gradient_aggregation} needs an environment that "
                "gives the reward of each principal (feedback `reward`)",
                code="missing",
                path="reward",
            )
        return reward


def split_by_principal(batch: FeedbackBatch) -> list[FeedbackBatch]:
    """One batch per principal; `reward` of the given batch holds the principals' advantages."""
    advantage = batch.require("reward", "principals' gradients")
    return [
        batch.replace(advantage=broadcast_to_steps(advantage[..., k], batch.mask))
        for k in range(advantage.shape[-1])
    ]


class GRPO(GroupPolicyGradient):
    """Group relative policy optimization: scores normalized in the group, clipped ratios."""

    clip_range: float = Field(
        default=0.2, gt=0, le=10, description="largest change of the probability ratio in an update"
    )
    scale_rewards: Literal["group", "batch", "none"] = Field(
        default="group", description="samples whose standard deviation scales advantages"
    )

    def episode_advantages(
        self, score: Float[Tensor, "model sample"], groups: SampleGroups
    ) -> Float[Tensor, "model sample"]:
        """Score minus the group's mean, scaled according to `scale_rewards`."""
        return grpo_advantages(score, groups, self.scale_rewards)

    @property
    def loss_kwargs(self) -> dict[str, object]:
        """Clipping per action; mean over the actions of a sample, then over samples."""
        clip_range = {"clip_range_low": self.clip_range, "clip_range_high": self.clip_range}
        return {"clip_mode": "token", "reduction": "sample", **clip_range}


class RLOO(GroupPolicyGradient):
    """REINFORCE leave-one-out: the baseline is the mean score of the other samples."""

    def episode_advantages(
        self, score: Float[Tensor, "model sample"], groups: SampleGroups
    ) -> Float[Tensor, "model sample"]:
        """Score minus the mean score of the other samples."""
        return rloo_advantages(score, groups)

    @property
    def loss_kwargs(self) -> dict[str, object]:
        """Log-probability of a whole sample: the sum over its actions."""
        return {"clip_mode": "none", "reduction": "constant", "constant_length": 1.0}


class GRAO(GroupPolicyGradient):
    """Group relative alignment optimization: GRPO with a demonstration in the group.

    The probability of a demonstration below the group's mean falls. Needs an environment that gives
    demonstrations and their returns.
    """

    # False: the demonstration makes a group of two with a single sample.
    compares_within_group: ClassVar[bool] = False

    imitation_coef: float = Field(
        default=0.5, ge=0, description="weight of the demonstration's advantage (b)"
    )
    regularization_coef: float = Field(
        default=0.6, ge=0, description="weight of the contrast of samples and demonstration (l)"
    )

    @model_validator(mode="after")
    def _check_grao(self) -> GRAO:
        if self.gradient_aggregation != "none" or self.reward_aggregation != "reward":
            is_gradient = self.gradient_aggregation != "none"
            raise ParameterError(
                "gradient_aggregation" if is_gradient else "reward_aggregation",
                message="grao needs one score per sample; leave out gradient_aggregation and "
                "reward_aggregation",
                code="unsupported",
            )
        return self

    def make_update_batch(
        self, batches: dict[str, FeedbackBatch], state: LearnerState
    ) -> UpdateBatch:
        """Update on generated samples and demonstrations, with one advantage each."""
        feedback = buffer_feedback(state)
        names = ("demonstration", "demonstration_return")
        missing = [name for name in names if name not in feedback]
        if missing:
            raise UserError(
                "grao needs an environment that gives demonstrations and their returns "
                "(feedback `demonstration` and `demonstration_return`)",
                code="missing",
                path=missing[0],
            )
        phase, batch = next(iter(self.with_groups(batches, state).items()))
        generated = batch.replace(
            is_demonstration=torch.zeros_like(batch.mask[..., 0]),
            reward=self.episode_scores(batch, state)[..., None],
        )
        actions, returns = (feedback[name] for name in names)
        role = state.spec.role
        demonstrations = demonstration_batch(actions, returns[..., None], generated, role)
        both = concat_samples(generated, demonstrations)
        groups = SampleGroups.from_batch(both, "grao")
        score = both.require("reward", "grao")[..., 0]
        is_demonstration = both.require("is_demonstration", "grao").bool()
        advantage = grao_advantages(
            score, groups, is_demonstration, self.imitation_coef, self.regularization_coef
        )
        both = both.replace(advantage=broadcast_to_steps(advantage, both.mask))
        if self.uses_reference_model:
            both = self.with_reference(both, state, phase)
        return UpdateBatch({phase: both}, self.objective)
