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
from mores.agents.learning.learner_state import Memory
from mores.agents.learning.model_mapping import policy_numbers
from mores.agents.learning.objective import PLAIN
from mores.agents.learning.on_policy import Improving, Share01, of_worlds, paid, told
from mores.agents.learning.rollout_buffer import Rollout
from mores.agents.learning.transforms import aggregation
from mores.agents.learning.transforms.groups import Groups
from mores.agents.learning.update import asked
from mores.core.environment import Outcome, Role
from mores.core.errors import UserError

Aggregate = Literal["reward", "sum", "normalise_then_sum", "log_sigmoid", "minimum"]


class Answers(Improving):
    """Learns when every world has completed an episode."""

    whole: ClassVar[bool] = True
    compares: ClassVar[bool] = False  # learns nothing from a group of one

    epochs: int = Field(default=1, ge=1, le=1000, description="passes over what was gathered")
    discount: Share01 = Field(default=1.0, description="of the next round's reward")
    group: Literal["world", "replicate"] = Field(
        default="world", description="whose answers are compared: of a world, or of all worlds"
    )
    aggregate: Aggregate = Field(
        default="reward",
        description="an answer's score: the reward that its seat earned, or of the principals' "
        "own rewards the sum, the sum after normalising each (GDPO), the log-probability of being "
        "good by all (log_sigmoid), or the minimum",
    )

    @property
    def room(self) -> int:
        """Some; more is made when it is needed."""
        return 16

    def in_vain(self, role: Role, rounds: int, worlds: int) -> str:
        """Where nothing is compared."""
        numbers = torch.tensor(policy_numbers(role.count, self.share, self.groups))
        answers = int(numbers.bincount().max()) * (worlds if self.group == "replicate" else 1)
        if not self.compares or answers > 1:
            return ""
        return (
            f"it compares the answers of a group, and with share: {self.share} and group: "
            f"{self.group} a group is one answer: let seats share a policy (share: role), or "
            "compare over several worlds (group: replicate)"
        )

    def ready(self, rollout: Rollout, outcome: Outcome) -> bool:
        """When every world has completed an episode."""
        return bool(rollout.complete.all())

    def sound(self, memory: Memory) -> Bool[Tensor, " policy"]:
        """The same of what principals said, where that is an answer's score."""
        fine, said = super().sound(memory), told(memory).get("reward")
        if said is None or self.aggregate == "reward":
            return fine
        real = of_worlds(memory, memory.learned.rollout.real).any(-1)
        return fine & (said.isfinite().all(-1) | ~real).all(1)

    def grouped(
        self, batches: dict[str, FeedbackBatch], memory: Memory
    ) -> dict[str, FeedbackBatch]:
        """Answers with their groups, and what was said of them."""
        seats = memory.learned.seats
        world = torch.div(seats.rows, seats.shape[1], rounding_mode="floor")
        group = torch.zeros_like(world) if self.group == "replicate" else world
        said = told(memory)
        reward = said["reward"] if "reward" in said else self.paid(memory)[..., None]
        return {
            phase: batch.replace(group=group, reward=reward) for phase, batch in batches.items()
        }

    def paid(self, memory: Memory) -> Float[Tensor, "policy sample"]:
        """What each answer earned, discounted from its start."""
        pay = paid(memory)["reward"]
        real = of_worlds(memory, memory.learned.rollout.real)  # rounds it was given in
        # Discounted by a table of powers: torch's pow differs between vector lanes and tails.
        powers = pay.new_tensor([self.discount**t for t in range(pay.shape[-1])])
        since = (real.cumsum(-1) - 1).clamp(min=0)  # rounds since the answer's first
        return torch.where(real, pay * powers[since], 0.0).sum(-1)

    def score(self, batch: FeedbackBatch, memory: Memory) -> Float[Tensor, "policy sample"]:
        """The score of each answer.

        Raises:
            UserError: principals' own rewards are to be aggregated, and nobody told them.
        """
        if self.aggregate == "reward":
            return self.paid(memory)
        if "reward" not in memory.learned.rollout.told:
            raise UserError(
                f"aggregate: {self.aggregate} needs an environment that tells what each principal "
                "thinks of an answer (feedback `reward`)",
                code="missing",
                path="reward",
            )
        reward = batch.need("reward", self.aggregate)
        groups = Groups.in_batch(batch, self.aggregate)
        if self.aggregate == "sum":
            return aggregation.weighted_sum(reward)
        if self.aggregate == "normalise_then_sum":
            return aggregation.normalise_then_sum(reward, groups)
        if self.aggregate == "minimum":
            return aggregation.minimum(reward)
        # Good is what 85 of 100 own answers are not: the level moves with the policy.
        level = aggregation.reference_rewards(reward, Groups.whole(batch.mask.any(-1)))
        return aggregation.good_by_all(reward, level)

    def with_reference(self, batch: FeedbackBatch, memory: Memory, phase: str) -> FeedbackBatch:
        """Answers with what the policy that training began from says of them."""
        pupil = memory.learned.pupil
        out = asked(
            memory.make.stack, memory.make.role.sees, pupil.reference, phase, batch, (PLAIN,)
        )[PLAIN]
        return batch.replace(reference_logp=out.logp, reference_logits=out.logits)


def only(batches: dict[str, FeedbackBatch], recipe: str) -> tuple[str, FeedbackBatch]:
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


def without(batch: FeedbackBatch, *names: str) -> FeedbackBatch:
    """A batch without some fields."""
    return dataclasses.replace(batch, **dict.fromkeys(names))
