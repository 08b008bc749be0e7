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
from mores.agents.learning.learner_state import Memory
from mores.agents.learning.losses import pg, value
from mores.agents.learning.objective import Objective, Weighted
from mores.agents.learning.on_policy import Improving, Share01, paid
from mores.agents.learning.rollout_buffer import Rollout
from mores.agents.learning.transforms.advantages import generalised_advantages, normalise
from mores.agents.learning.update import Lesson
from mores.core.environment import Outcome, Role


class PPO(Improving):
    """Clipped policy gradient with a value head: learns from reward, step by step."""

    critic: ClassVar[bool] = True

    horizon: int = Field(default=128, ge=1, le=1_000_000, description="rounds between updates")
    minibatches: int = Field(default=4, ge=1, le=100_000, description="parts of a pass")
    smoothing: Share01 = Field(default=0.95, description="of advantages (lambda of GAE)")
    clip: float = Field(
        default=0.2, gt=0, le=10, description="how far probabilities may move in an update"
    )
    normalise: bool = Field(
        default=True,
        description="bring advantages to unit spread; off, a policy that has nothing left to learn "
        "is not moved by small errors of its value head",
    )
    value_weight: float = Field(default=0.5, ge=0, description="of the value head's error")
    entropy_weight: float = Field(default=0.01, ge=0, description="of the bonus for chance")

    @property
    def room(self) -> int:
        """All rounds between updates."""
        return self.horizon

    def in_vain(self, role: Role, rounds: int, worlds: int) -> str:
        """Where it never comes to its first update."""
        if rounds >= self.horizon:
            return ""
        return (
            f"it first learns after {self.horizon} rounds (horizon), and these are {rounds} in "
            "all: lower horizon, or have more episodes"
        )

    def waits(self, memory: Memory, who: str = "") -> str:
        """For rounds."""
        have = int(memory.learned.rollout.count)
        return f"it learns every {self.horizon} rounds (horizon), and had {have}"

    def ready(self, rollout: Rollout, outcome: Outcome) -> bool:
        """Every `horizon` rounds."""
        return int(rollout.count) >= self.horizon

    def lesson(self, batches: dict[str, FeedbackBatch], memory: Memory) -> Lesson:
        """Advantages over all decisions, those of a round's phases one after another."""
        estimate = self._estimate(list(batches.values()), paid(memory))
        whole = memory.make.stack.carry_size > 0
        ready = {}
        for i, (phase, batch) in enumerate(batches.items()):
            batch = batch.replace(
                advantage=estimate.advantage[..., i], value_target=estimate.value_target[..., i]
            )
            ready[phase] = batch if whole else single_steps(batch)
        return Lesson(ready, self.objective)

    @property
    def objective(self) -> Objective:
        """The clipped gain, the value's error, and the bonus for chance."""
        settings = {
            "clip_mode": "token",
            "clip_low": self.clip,
            "clip_high": self.clip,
            "entropy": self.entropy_weight,
        }
        return Objective((Weighted(pg, 1.0, settings), Weighted(value, self.value_weight)))

    def _estimate(self, batches: list[FeedbackBatch], pay: dict[str, Tensor]) -> _Estimate:
        """Advantages and value targets, `[policy, row, round, phase]`.

        Every phase of a round has its share of the round's discount.
        """
        mask = torch.stack([batch.mask for batch in batches], -1)
        old = torch.stack([batch.need("old_value", "ppo") for batch in batches], -1)
        last = torch.zeros_like(mask)
        last[..., -1] = True

        def in_last_phase(name: str) -> Tensor:
            x = pay[name][..., None]
            return torch.where(last, x, torch.zeros_like(x)).flatten(2)

        found = generalised_advantages(
            in_last_phase("reward"),
            old.flatten(2),
            in_last_phase("ahead"),
            in_last_phase("terminated"),
            in_last_phase("truncated"),
            mask.flatten(2),
            self.discount ** (1 / len(batches)),
            self.smoothing,
        )
        advantage = found.advantage
        if self.normalise:
            advantage = normalise(advantage, mask.flatten(2))
        shape = mask.shape[2:]
        return _Estimate(advantage.unflatten(2, shape), found.value_target.unflatten(2, shape))


@dataclasses.dataclass(frozen=True)
class _Estimate:
    advantage: Tensor
    value_target: Tensor


def single_steps(batch: FeedbackBatch) -> FeedbackBatch:
    """Every step as a sample of its own, for policies that remember nothing."""
    fields = {}
    for field in dataclasses.fields(FeedbackBatch):
        held = getattr(batch, field.name)
        if held is not None and field.name not in ("begins", "carry"):
            fields[field.name] = held.flatten(1, 2).unsqueeze(2)
    return FeedbackBatch(**fields)
