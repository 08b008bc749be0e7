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
from mores.agents.learning.demonstration_rollout import demonstrations, joined
from mores.agents.learning.episodic import Answers
from mores.agents.learning.learner_state import Memory
from mores.agents.learning.losses import kl, pg
from mores.agents.learning.objective import Objective, Weighted
from mores.agents.learning.on_policy import paid, told
from mores.agents.learning.train_state import Descent
from mores.agents.learning.transforms.advantages import normalise, returns, to_steps
from mores.agents.learning.transforms.group_advantages import grao, grpo, rloo
from mores.agents.learning.transforms.groups import Groups
from mores.agents.learning.update import Lesson
from mores.core.errors import ParameterError, UserError


class REINFORCE(Answers):
    """Rewards to come, compared with the policy's mean: learns from reward, episode by episode."""

    discount: float = Field(default=0.99, ge=0, le=1, description="of the next round's reward")
    entropy_weight: float = Field(default=0.01, ge=0, description="of the bonus for chance")

    def lesson(self, batches: dict[str, FeedbackBatch], memory: Memory) -> Lesson:
        """Every act by what came after it."""
        pay = paid(memory)
        mask = next(iter(batches.values())).mask
        ends = (pay["terminated"], pay["truncated"])
        worth = returns(pay["reward"], *ends, mask, self.discount)
        advantage = normalise(worth, mask)
        ready = {phase: batch.replace(advantage=advantage) for phase, batch in batches.items()}
        return Lesson(ready, self.objective)

    @property
    def objective(self) -> Objective:
        """Likelihood of acts, weighed by their advantage."""
        settings = {"clip_mode": "none", "entropy": self.entropy_weight}
        return Objective((Weighted(pg, 1.0, settings),))


class GroupGradient(Answers):
    """Answers against others to the same request."""

    compares: ClassVar[bool] = True

    entropy_weight: float = Field(default=0.0, ge=0, description="of the bonus for chance")
    kl_weight: float = Field(
        default=0.0, ge=0, description="of the divergence from the policy that training began from"
    )
    conflict: Literal["none", "mean", "project", "min_norm"] = Field(
        default="none",
        description="none: one score an answer, as `aggregate` says; mean: of the principals' own "
        "gradients; project: of what is left of them when conflicts are projected out (PCGrad); "
        "min_norm: the shortest of their mixtures (MGDA)",
    )

    @model_validator(mode="after")
    def _one_way(self) -> GroupGradient:
        if self.conflict != "none" and self.aggregate != "reward":
            raise ParameterError(
                "aggregate",
                message=f"conflict: {self.conflict} keeps principals apart and aggregates "
                "nothing: leave aggregate out",
                code="conflict",
            )
        return self

    @property
    def refers(self) -> bool:
        """Where divergence counts."""
        return self.kl_weight > 0

    @property
    def descent(self) -> Descent:
        """Adam, with principals' gradients as `conflict` says."""
        return Descent(self.adam, "mean" if self.conflict == "none" else self.conflict)

    def lesson(self, batches: dict[str, FeedbackBatch], memory: Memory) -> Lesson:
        """One advantage an answer, or one for each principal."""
        grouped = self.grouped(batches, memory)
        ready = {}
        for phase, batch in grouped.items():
            groups = Groups.in_batch(batch, type(self).__name__)
            if self.conflict != "none":
                reward = self._each(batch, memory)
                worths = [self.worth(reward[..., k], groups) for k in range(reward.shape[-1])]
                batch = batch.replace(reward=torch.stack(worths, -1))
            else:
                worth = self.worth(self.score(batch, memory), groups)
                batch = batch.replace(advantage=to_steps(worth, batch.mask))
            ready[phase] = self.with_reference(batch, memory, phase) if self.refers else batch
        principals = None if self.conflict == "none" else by_principal
        return Lesson(ready, self.objective, principals=principals)

    def worth(
        self, score: Float[Tensor, "policy sample"], groups: Groups
    ) -> Float[Tensor, "policy sample"]:
        """The advantage of each answer."""
        return grpo(score, groups)

    @property
    def objective(self) -> Objective:
        """The gain, and the divergence where it counts."""
        terms = [Weighted(pg, 1.0, {**self.gain, "entropy": self.entropy_weight})]
        if self.kl_weight > 0:
            terms.append(Weighted(kl, self.kl_weight, {"per": "sample"}))
        return Objective(tuple(terms))

    @property
    def gain(self) -> dict[str, object]:
        """Settings of the policy-gradient term."""
        return {"clip_mode": "none", "per": "sample"}

    def _each(self, batch: FeedbackBatch, memory: Memory) -> Float[Tensor, "policy sample k"]:
        reward = told(memory).get("reward")
        if reward is None:
            raise UserError(
                f"conflict: {self.conflict} needs an environment that tells what each principal "
                "thinks of an answer (feedback `reward`)",
                code="missing",
                path="reward",
            )
        return reward


def by_principal(batch: FeedbackBatch) -> list[FeedbackBatch]:
    """The batch as each principal sees it: their advantages stand in `reward`."""
    advantage = batch.need("reward", "principals' gradients")
    return [
        batch.replace(advantage=to_steps(advantage[..., k], batch.mask))
        for k in range(advantage.shape[-1])
    ]


class GRPO(GroupGradient):
    """Answers by their place in the group, clipped: learns from reward, answer by answer."""

    clip: float = Field(
        default=0.2, gt=0, le=10, description="how far probabilities may move in an update"
    )
    scale: Literal["group", "batch", "none"] = Field(
        default="group", description="whose spread of scores advantages are divided by"
    )

    def worth(
        self, score: Float[Tensor, "policy sample"], groups: Groups
    ) -> Float[Tensor, "policy sample"]:
        """By the group's mean and spread."""
        return grpo(score, groups, self.scale)

    @property
    def gain(self) -> dict[str, object]:
        """Clipped act by act, averaged within an answer and then over answers."""
        clips = {"clip_low": self.clip, "clip_high": self.clip}
        return {"clip_mode": "token", "per": "sample", **clips}


class RLOO(GroupGradient):
    """Answers against the mean of the others (leave one out): learns from reward."""

    def worth(
        self, score: Float[Tensor, "policy sample"], groups: Groups
    ) -> Float[Tensor, "policy sample"]:
        """What it scores more than the others."""
        return rloo(score, groups)

    @property
    def gain(self) -> dict[str, object]:
        """The likelihood of a whole answer: the sum over its acts."""
        return {"clip_mode": "none", "per": "constant", "length": 1.0}


class GRAO(GroupGradient):
    """GRPO with a demonstration in the group: learns from reward and from somebody else's answer.

    A demonstration worse than the group's mean is unlearned. Needs an environment that shows
    demonstrations and says what they are worth.
    """

    compares: ClassVar[bool] = False  # with the demonstration, where nobody else is there

    imitation: float = Field(default=0.5, ge=0, description="of the demonstration's advantage (b)")
    regularisation: float = Field(
        default=0.6, ge=0, description="of the contrast of own answers and demonstration (l)"
    )

    @model_validator(mode="after")
    def _own_way(self) -> GRAO:
        if self.conflict != "none" or self.aggregate != "reward":
            raise ParameterError(
                "conflict" if self.conflict != "none" else "aggregate",
                message="grao knows one score an answer: leave conflict and aggregate out",
                code="unsupported",
            )
        return self

    def lesson(self, batches: dict[str, FeedbackBatch], memory: Memory) -> Lesson:
        """Own answers and demonstrations, with one coefficient each."""
        said = told(memory)
        lacking = [name for name in ("demonstration", "demonstration_worth") if name not in said]
        if lacking:
            raise UserError(
                "grao needs an environment that demonstrates answers and says what they are worth "
                "(feedback `demonstration` and `demonstration_worth`)",
                code="missing",
                path=lacking[0],
            )
        grouped = self.grouped(batches, memory)
        phase = next(iter(grouped))
        batch = grouped[phase]
        own = batch.replace(
            reference=torch.zeros_like(batch.mask[..., 0]),
            reward=self.score(batch, memory)[..., None],
        )
        worth_shown = said["demonstration_worth"][..., None]
        shown = demonstrations(said["demonstration"], worth_shown, own, memory.make.role)
        both = joined(own, shown)
        groups = Groups.in_batch(both, "grao")
        score = both.need("reward", "grao")[..., 0]
        reference = both.need("reference", "grao").bool()
        worth = grao(score, groups, reference, self.imitation, self.regularisation)
        both = both.replace(advantage=to_steps(worth, both.mask))
        if self.refers:
            both = self.with_reference(both, memory, phase)
        return Lesson({phase: both}, self.objective)
