"""Policy gradients over whole answers: REINFORCE, RLOO, GRPO, GRAO.

They differ in what is compared: each act's rewards to come, with the policy's mean over all acts
(REINFORCE, Williams 1992); or whole answers, with the other answers to the same request (RLOO,
arXiv 2402.14740; GRPO, 2402.03300), or with those and somebody else's answer (GRAO, 2508.07750).
See `mores.agents.learning.transforms.group_advantages`.
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
from mores.agents.learning.losses import kl_loss, policy_gradient_loss
from mores.agents.learning.objective import LossTerm, Objective
from mores.agents.learning.on_policy import buffer_feedback, buffer_rewards
from mores.agents.learning.train_state import OptimizerConfig
from mores.agents.learning.transforms.advantages import (
    broadcast_to_steps,
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
    """Rewards to come, compared with the policy's mean: learns from reward, episode by episode."""

    gamma: float = Field(default=0.99, ge=0, le=1, description="of the next round's reward")
    ent_coef: float = Field(default=0.01, ge=0, description="of the bonus for chance")

    def make_update_batch(
        self, batches: dict[str, FeedbackBatch], state: LearnerState
    ) -> UpdateBatch:
        """Every act by what came after it."""
        pay = buffer_rewards(state)
        mask = next(iter(batches.values())).mask
        ends = (pay["terminated"], pay["truncated"])
        worth = discounted_returns(pay["reward"], *ends, mask, self.gamma)
        advantage = normalize_advantages(worth, mask)
        ready = {phase: batch.replace(advantage=advantage) for phase, batch in batches.items()}
        return UpdateBatch(ready, self.objective)

    @property
    def objective(self) -> Objective:
        """Likelihood of acts, weighed by their advantage."""
        settings = {"clip_mode": "none", "ent_coef": self.ent_coef}
        return Objective((LossTerm(policy_gradient_loss, 1.0, settings),))


class GroupPolicyGradient(EpisodicLearner):
    """Answers against others to the same request."""

    compares_within_group: ClassVar[bool] = True

    ent_coef: float = Field(default=0.0, ge=0, description="of the bonus for chance")
    kl_coef: float = Field(
        default=0.0, ge=0, description="of the divergence from the policy that training began from"
    )
    gradient_aggregation: Literal["none", "mean", "pcgrad", "mgda"] = Field(
        default="none",
        description="none: one score an answer, as `aggregate` says; mean: of the principals' own "
        "gradients; project: of what is left of them when conflicts are projected out (PCGrad); "
        "min_norm: the shortest of their mixtures (MGDA)",
    )

    @model_validator(mode="after")
    def _check_aggregation(self) -> GroupPolicyGradient:
        if self.gradient_aggregation != "none" and self.reward_aggregation != "reward":
            raise ParameterError(
                "aggregate",
                message=f"conflict: {self.gradient_aggregation} keeps principals apart and aggregates "
                "nothing: leave aggregate out",
                code="gradient_aggregation",
            )
        return self

    @property
    def uses_reference_model(self) -> bool:
        """Where divergence counts."""
        return self.kl_coef > 0

    @property
    def optimizer_config(self) -> OptimizerConfig:
        """Adam, with principals' gradients as `conflict` says."""
        return OptimizerConfig(
            self.adam, "mean" if self.gradient_aggregation == "none" else self.gradient_aggregation
        )

    def make_update_batch(
        self, batches: dict[str, FeedbackBatch], state: LearnerState
    ) -> UpdateBatch:
        """One advantage an answer, or one for each principal."""
        grouped = self.with_groups(batches, state)
        ready = {}
        for phase, batch in grouped.items():
            groups = SampleGroups.from_batch(batch, type(self).__name__)
            if self.gradient_aggregation != "none":
                reward = self._principal_rewards(batch, state)
                worths = [
                    self.episode_advantages(reward[..., k], groups) for k in range(reward.shape[-1])
                ]
                batch = batch.replace(reward=torch.stack(worths, -1))
            else:
                worth = self.episode_advantages(self.episode_scores(batch, state), groups)
                batch = batch.replace(advantage=broadcast_to_steps(worth, batch.mask))
            ready[phase] = (
                self.with_reference(batch, state, phase) if self.uses_reference_model else batch
            )
        principals = None if self.gradient_aggregation == "none" else split_by_principal
        return UpdateBatch(ready, self.objective, split_by_principal=principals)

    def episode_advantages(
        self, score: Float[Tensor, "policy sample"], groups: SampleGroups
    ) -> Float[Tensor, "policy sample"]:
        """The advantage of each answer."""
        return grpo_advantages(score, groups)

    @property
    def objective(self) -> Objective:
        """The gain, and the divergence where it counts."""
        terms = [
            LossTerm(policy_gradient_loss, 1.0, {**self.loss_kwargs, "ent_coef": self.ent_coef})
        ]
        if self.kl_coef > 0:
            terms.append(LossTerm(kl_loss, self.kl_coef, {"reduction": "sample"}))
        return Objective(tuple(terms))

    @property
    def loss_kwargs(self) -> dict[str, object]:
        """Settings of the policy-gradient term."""
        return {"clip_mode": "none", "reduction": "sample"}

    def _principal_rewards(
        self, batch: FeedbackBatch, state: LearnerState
    ) -> Float[Tensor, "policy sample k"]:
        reward = buffer_feedback(state).get("reward")
        if reward is None:
            raise UserError(
                f"conflict: {self.gradient_aggregation} needs an environment that tells what each principal "
                "thinks of an answer (feedback `reward`)",
                code="missing",
                path="reward",
            )
        return reward


def split_by_principal(batch: FeedbackBatch) -> list[FeedbackBatch]:
    """The batch as each principal sees it: their advantages stand in `reward`."""
    advantage = batch.require("reward", "principals' gradients")
    return [
        batch.replace(advantage=broadcast_to_steps(advantage[..., k], batch.mask))
        for k in range(advantage.shape[-1])
    ]


class GRPO(GroupPolicyGradient):
    """Answers by their place in the group, clipped: learns from reward, answer by answer."""

    clip_range: float = Field(
        default=0.2, gt=0, le=10, description="how far probabilities may move in an update"
    )
    scale_rewards: Literal["group", "batch", "none"] = Field(
        default="group", description="whose spread of scores advantages are divided by"
    )

    def episode_advantages(
        self, score: Float[Tensor, "policy sample"], groups: SampleGroups
    ) -> Float[Tensor, "policy sample"]:
        """By the group's mean and spread."""
        return grpo_advantages(score, groups, self.scale_rewards)

    @property
    def loss_kwargs(self) -> dict[str, object]:
        """Clipped act by act, averaged within an answer and then over answers."""
        clips = {"clip_range_low": self.clip_range, "clip_range_high": self.clip_range}
        return {"clip_mode": "token", "reduction": "sample", **clips}


class RLOO(GroupPolicyGradient):
    """Answers against the mean of the others (leave one out): learns from reward."""

    def episode_advantages(
        self, score: Float[Tensor, "policy sample"], groups: SampleGroups
    ) -> Float[Tensor, "policy sample"]:
        """What it scores more than the others."""
        return rloo_advantages(score, groups)

    @property
    def loss_kwargs(self) -> dict[str, object]:
        """The likelihood of a whole answer: the sum over its acts."""
        return {"clip_mode": "none", "reduction": "constant", "constant_length": 1.0}


class GRAO(GroupPolicyGradient):
    """GRPO with a demonstration in the group: learns from reward and from somebody else's answer.

    A demonstration worse than the group's mean is unlearned. Needs an environment that shows
    demonstrations and says what they are worth.
    """

    compares_within_group: ClassVar[bool] = (
        False  # with the demonstration, where nobody else is there
    )

    imitation_coef: float = Field(
        default=0.5, ge=0, description="of the demonstration's advantage (b)"
    )
    regularization_coef: float = Field(
        default=0.6, ge=0, description="of the contrast of own answers and demonstration (l)"
    )

    @model_validator(mode="after")
    def _check_grao(self) -> GRAO:
        if self.gradient_aggregation != "none" or self.reward_aggregation != "reward":
            raise ParameterError(
                "gradient_aggregation" if self.gradient_aggregation != "none" else "aggregate",
                message="grao knows one score an answer: leave conflict and aggregate out",
                code="unsupported",
            )
        return self

    def make_update_batch(
        self, batches: dict[str, FeedbackBatch], state: LearnerState
    ) -> UpdateBatch:
        """Own answers and demonstrations, with one coefficient each."""
        said = buffer_feedback(state)
        lacking = [name for name in ("demonstration", "demonstration_return") if name not in said]
        if lacking:
            raise UserError(
                "grao needs an environment that demonstrates answers and says what they are worth "
                "(feedback `demonstration` and `demonstration_worth`)",
                code="missing",
                path=lacking[0],
            )
        grouped = self.with_groups(batches, state)
        phase = next(iter(grouped))
        batch = grouped[phase]
        own = batch.replace(
            is_demonstration=torch.zeros_like(batch.mask[..., 0]),
            reward=self.episode_scores(batch, state)[..., None],
        )
        worth_shown = said["demonstration_return"][..., None]
        shown = demonstration_batch(said["demonstration"], worth_shown, own, state.spec.role)
        both = concat_samples(own, shown)
        groups = SampleGroups.from_batch(both, "grao")
        score = both.require("reward", "grao")[..., 0]
        reference = both.require("is_demonstration", "grao").bool()
        worth = grao_advantages(
            score, groups, reference, self.imitation_coef, self.regularization_coef
        )
        both = both.replace(advantage=broadcast_to_steps(worth, both.mask))
        if self.uses_reference_model:
            both = self.with_reference(both, state, phase)
        return UpdateBatch({phase: both}, self.objective)
