"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347).

    L = -E[min(r A, clip(r, 1 - c, 1 + c) A)] + v E[(V - R)^2] - e E[entropy]

with generalised advantages A, normalised for each policy over what it gathered (the original and
most code do it for each minibatch). Every `horizon` rounds all policies of a stack learn at once.
Value and policy have a network each, as in Stable-Baselines3.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch
from mores.agents.learning.learner_state import LearnerState
from mores.agents.learning.losses import policy_gradient_loss, value_loss
from mores.agents.learning.objective import LossTerm, Objective
from mores.agents.learning.on_policy import OnPolicyLearner, UnitInterval, buffer_rewards
from mores.agents.learning.rollout_buffer import RolloutBuffer
from mores.agents.learning.transforms.advantages import generalized_advantages, normalize_advantages
from mores.agents.learning.update import UpdateBatch
from mores.core.environment import Role, Transition


class PPO(OnPolicyLearner):
    """Clipped policy gradient with a value head: learns from reward, step by step."""

    has_critic: ClassVar[bool] = True

    num_steps: int = Field(default=128, ge=1, le=1_000_000, description="rounds between updates")
    num_minibatches: int = Field(default=4, ge=1, le=100_000, description="parts of a pass")
    gae_lambda: UnitInterval = Field(default=0.95, description="of advantages (lambda of GAE)")
    clip_range: float = Field(
        default=0.2, gt=0, le=10, description="how far probabilities may move in an update"
    )
    normalize_advantage: bool = Field(
        default=True,
        description="bring advantages to unit spread; off, a policy that has nothing left to learn "
        "is not moved by small errors of its value head",
    )
    vf_coef: float = Field(default=0.5, ge=0, description="of the value head's error")
    ent_coef: float = Field(default=0.01, ge=0, description="of the bonus for chance")

    @property
    def initial_capacity(self) -> int:
        """All rounds between updates."""
        return self.num_steps

    def never_updates_reason(self, role: Role, rounds: int, worlds: int) -> str:
        """Where it never comes to its first update."""
        if rounds >= self.num_steps:
            return ""
        return (
            f"it first learns after {self.num_steps} rounds (horizon), and these are {rounds} in "
            "all: lower horizon, or have more episodes"
        )

    def no_update_reason(self, state: LearnerState, member_name: str = "") -> str:
        """For rounds."""
        have = int(state.persistent_state.rollout.length)
        return f"it learns every {self.num_steps} rounds (horizon), and had {have}"

    def ready_to_update(self, rollout: RolloutBuffer, transition: Transition) -> bool:
        """Every `num_steps` rounds."""
        return int(rollout.length) >= self.num_steps

    def make_update_batch(
        self, batches: dict[str, FeedbackBatch], state: LearnerState
    ) -> UpdateBatch:
        """Advantages over all decisions, those of a round's phases one after another."""
        estimate = self._advantages(list(batches.values()), buffer_rewards(state))
        whole = state.spec.stacked_model.recurrent_state_size > 0
        ready = {}
        for i, (phase, batch) in enumerate(batches.items()):
            batch = batch.replace(
                advantage=estimate.advantage[..., i], value_target=estimate.value_target[..., i]
            )
            ready[phase] = batch if whole else steps_as_samples(batch)
        return UpdateBatch(ready, self.objective)

    @property
    def objective(self) -> Objective:
        """The clipped gain, the value's error, and the bonus for chance."""
        settings = {
            "clip_mode": "token",
            "clip_range_low": self.clip_range,
            "clip_range_high": self.clip_range,
            "ent_coef": self.ent_coef,
        }
        return Objective(
            (LossTerm(policy_gradient_loss, 1.0, settings), LossTerm(value_loss, self.vf_coef))
        )

    def _advantages(
        self, batches: list[FeedbackBatch], rewards: dict[str, Tensor]
    ) -> _PhaseAdvantages:
        """Advantages and value targets, `[policy, row, round, phase]`.

        Every phase of a round has its share of the round's discount.
        """
        mask = torch.stack([batch.mask for batch in batches], -1)
        old = torch.stack([batch.require("old_value", "ppo") for batch in batches], -1)
        last = torch.zeros_like(mask)
        last[..., -1] = True

        def in_last_phase(name: str) -> Tensor:
            x = rewards[name][..., None]
            return torch.where(last, x, torch.zeros_like(x)).flatten(2)

        found = generalized_advantages(
            in_last_phase("reward"),
            old.flatten(2),
            in_last_phase("bootstrap_value"),
            in_last_phase("terminated"),
            in_last_phase("truncated"),
            mask.flatten(2),
            self.gamma ** (1 / len(batches)),
            self.gae_lambda,
        )
        advantage = found.advantage
        if self.normalize_advantage:
            advantage = normalize_advantages(advantage, mask.flatten(2))
        shape = mask.shape[2:]
        return _PhaseAdvantages(
            advantage.unflatten(2, shape), found.value_target.unflatten(2, shape)
        )


@dataclasses.dataclass(frozen=True)
class _PhaseAdvantages:
    advantage: Tensor
    value_target: Tensor


def steps_as_samples(batch: FeedbackBatch) -> FeedbackBatch:
    """Every step as a sample of its own, for policies that remember nothing."""
    fields = {}
    for field in dataclasses.fields(FeedbackBatch):
        held = getattr(batch, field.name)
        if held is not None and field.name not in ("begins", "carry"):
            fields[field.name] = held.flatten(1, 2).unsqueeze(2)
    return FeedbackBatch(**fields)
