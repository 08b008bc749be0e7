"""Proximal policy optimization (Schulman et al. 2017, arXiv 1707.06347).

    L = -E[min(r A, clip(r, 1 - c, 1 + c) A)] + v E[(V - R)^2] - e E[entropy]

with generalized advantages A, normalized for each model over its rollout (the original and most
code normalize each minibatch). All models of a stack update together every `num_steps` rounds.
Policy and value have separate networks, as in Stable-Baselines3.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch
from mores.agents.learning.learner import UpdateObstacle
from mores.agents.learning.learner_state import LearnerState
from mores.agents.learning.losses import (
    policy_gradient_diagnostics,
    policy_gradient_loss,
    value_loss,
)
from mores.agents.learning.objective import LossTerm, Objective
from mores.agents.learning.on_policy import OnPolicyLearner, UnitInterval, buffer_rewards
from mores.agents.learning.rollout_buffer import RolloutBuffer
from mores.agents.learning.transforms.advantages import (
    explained_variance,
    generalized_advantages,
    normalize_advantages,
)
from mores.agents.learning.update import UpdateBatch
from mores.core.environment import Transition


class PPO(OnPolicyLearner):
    """Proximal policy optimization: clipped policy gradient with a value head."""

    has_critic: ClassVar[bool] = True

    num_steps: int = Field(default=128, ge=1, le=1_000_000, description="rounds between updates")
    num_minibatches: int = Field(default=4, ge=1, le=100_000, description="minibatches of a pass")
    gae_lambda: UnitInterval = Field(default=0.95, description="lambda of GAE")
    clip_range: float = Field(
        default=0.2, gt=0, le=10, description="largest change of the probability ratio in an update"
    )
    normalize_advantage: bool = Field(
        default=True,
        description="scale advantages to unit standard deviation; if false, small errors of the "
        "value head move a converged model less",
    )
    vf_coef: float = Field(default=0.5, ge=0, description="weight of the value loss")
    ent_coef: float = Field(default=0.01, ge=0, description="weight of the entropy bonus")

    @property
    def initial_capacity(self) -> int:
        """Rollout capacity: the rounds between updates."""
        return self.num_steps

    def update_obstacle(self, state: LearnerState) -> UpdateObstacle:
        """Number of rounds that an update needs, and that were recorded."""
        length = int(state.persistent_state.rollout.length)
        recorded = f", the rollout has {length}" if length else ""
        reason = f"an update needs {self.num_steps} rounds (num_steps){recorded}"
        return UpdateObstacle(reason, self.num_steps)

    def ready_to_update(self, rollout: RolloutBuffer, transition: Transition) -> bool:
        """Whether the rollout has `num_steps` rounds."""
        return int(rollout.length) >= self.num_steps

    def make_update_batch(
        self, batches: dict[str, FeedbackBatch], state: LearnerState
    ) -> UpdateBatch:
        """Update on all decisions; the phases of a round count as consecutive steps."""
        estimate = self._advantages(list(batches.values()), buffer_rewards(state))
        is_recurrent = state.spec.stacked_model.recurrent_state_size > 0
        prepared = {}
        for i, (phase, batch) in enumerate(batches.items()):
            batch = batch.replace(
                advantage=estimate.advantage[..., i], value_target=estimate.value_target[..., i]
            )
            prepared[phase] = batch if is_recurrent else steps_as_samples(batch)
        statistics = {"explained_variance": estimate.explained_variance}
        return UpdateBatch(prepared, self.objective, statistics=statistics)

    @property
    def objective(self) -> Objective:
        """Clipped policy gradient with entropy bonus, and value loss."""
        loss_kwargs = {
            "clip_mode": "token",
            "clip_range_low": self.clip_range,
            "clip_range_high": self.clip_range,
            "ent_coef": self.ent_coef,
        }
        policy_term = LossTerm(
            policy_gradient_loss, 1.0, loss_kwargs, diagnostics=policy_gradient_diagnostics
        )
        return Objective((policy_term, LossTerm(value_loss, self.vf_coef)))

    def _advantages(
        self, batches: list[FeedbackBatch], rewards: dict[str, Tensor]
    ) -> _PhaseAdvantages:
        """Advantages and value targets, `[model, row, round, phase]`.

        The discount of a round is divided equally among its phases.
        """
        mask = torch.stack([batch.mask for batch in batches], -1)
        old_value = torch.stack([batch.require("old_value", "ppo") for batch in batches], -1)
        is_last_phase = torch.zeros_like(mask)
        is_last_phase[..., -1] = True

        def in_last_phase(name: str) -> Tensor:
            x = rewards[name][..., None]
            return torch.where(is_last_phase, x, torch.zeros_like(x)).flatten(2)

        estimate = generalized_advantages(
            in_last_phase("reward"),
            old_value.flatten(2),
            in_last_phase("bootstrap_value"),
            in_last_phase("terminated"),
            in_last_phase("truncated"),
            mask.flatten(2),
            self.gamma ** (1 / len(batches)),
            self.gae_lambda,
        )
        advantage = estimate.advantage
        if self.normalize_advantage:
            advantage = normalize_advantages(advantage, mask.flatten(2))
        shape = mask.shape[2:]
        target = estimate.value_target
        explained = explained_variance(old_value.flatten(2), target, mask.flatten(2))
        return _PhaseAdvantages(
            advantage.unflatten(2, shape), target.unflatten(2, shape), explained
        )


@dataclasses.dataclass(frozen=True)
class _PhaseAdvantages:
    advantage: Tensor
    value_target: Tensor
    explained_variance: Tensor  # [model]


def steps_as_samples(batch: FeedbackBatch) -> FeedbackBatch:
    """The batch with every step as a separate sample, for models without recurrent state."""
    fields = {}
    for field in dataclasses.fields(FeedbackBatch):
        value = getattr(batch, field.name)
        if value is not None and field.name not in ("episode_start", "recurrent_state"):
            fields[field.name] = value.flatten(1, 2).unsqueeze(2)
    return FeedbackBatch(**fields)
