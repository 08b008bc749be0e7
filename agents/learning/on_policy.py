"""Learning from reward while acting: the loop `improve`.

PPO learns every `horizon` rounds, wherever episodes stand. Recipes of whole answers (REINFORCE,
GRPO ...; `answers.py`) learn when every world has completed an episode; a *sample* is one seat's
episode. Where worlds begin anew by themselves, what they do after their first complete episode is
left out until the others are done.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool, Shaped
from pydantic import Field
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch
from mores.agents.learning.learner import Learner, kept_as
from mores.agents.learning.learner_state import Learned, Memory
from mores.agents.learning.rollout_buffer import Rollout
from mores.agents.learning.update import Lesson, teach
from mores.core.environment import Outcome
from mores.core.random_streams import Draws

Share01 = Annotated[float, Field(ge=0, le=1)]


class Improving(Learner):
    """Learns from reward as it acts."""

    work: ClassVar[tuple[str, ...]] = ("epochs",)

    temperature: float = Field(
        default=1.0, ge=1, le=1, description="it draws as it learns; assist takes the likeliest"
    )
    epochs: int = Field(default=4, ge=1, le=1000, description="passes over what was gathered")
    minibatches: int = Field(default=1, ge=1, le=100_000, description="parts of a pass")
    discount: Share01 = Field(default=0.99, description="of the next round's reward")

    @abstractmethod
    def ready(self, rollout: Rollout, outcome: Outcome) -> bool:
        """Whether it is time to learn; the rollout has this round already."""

    @abstractmethod
    def lesson(self, batches: dict[str, FeedbackBatch], memory: Memory) -> Lesson:
        """What is to be learned from what was gathered, `[policy, row, round]` by phase."""

    def learn(self, memory: Memory, outcome: Outcome, draws: Draws) -> Memory:
        """Keep the round, and learn when it is time."""
        learned = memory.learned
        learned.rounds.add_(1)
        ahead = self._ahead(memory, outcome)
        rollout = learned.rollout.add(memory.last, outcome, ahead)
        if self.whole:
            rollout.close(outcome.ended)
        if rollout is not learned.rollout:
            learned = _with_rollout(learned, rollout)
            memory = kept_as(memory, learned)
        if not self.ready(rollout, outcome):
            return memory
        with torch.no_grad():
            learned.pupil.stop(~self.sound(memory), learned.rounds)
            batches = gathered(memory)
            lesson = self.lesson(batches, memory)
        self.check(lesson)
        teach(self, memory, lesson, draws, self.epochs, self.minibatches)
        rollout.clear(memory.carry, self.whole)
        return memory

    def sound(self, memory: Memory) -> Bool[Tensor, " policy"]:
        """Policies to which all that was paid is a number.

        Not every lesson would notice: whose answer is the best of its group may still be told.
        """
        rollout = memory.learned.rollout
        pay = torch.where(rollout.real[..., None], rollout.reward, 0.0)
        return of_seats(memory, pay).isfinite().flatten(1).all(1)

    def _ahead(self, memory: Memory, outcome: Outcome) -> Tensor | None:
        """What the value head expects of the sight after the round, where that is needed."""
        if not self.critic:
            return None
        learned = memory.learned
        last = int(learned.rollout.count) + 1 >= self.room
        if not last and not bool(outcome.truncated.any()):
            return None
        seats = learned.seats
        with torch.no_grad():
            values = memory.make.stack.values(
                learned.pupil.parameters,
                seats.by_policy(outcome.seen),
                seats.by_policy(memory.carry),
            )
        return seats.by_world(values)


def _with_rollout(learned: Learned, rollout: Rollout) -> Learned:
    return Learned(learned.seats, learned.pupil, learned.rounds, rollout, learned.extra)


def of_seats(
    memory: Memory, x: Shaped[Tensor, "round world agent *more"]
) -> Shaped[Tensor, "policy row count *more"]:
    """What a rollout keeps of seats, of the rounds that were gathered."""
    learned = memory.learned
    return learned.seats.by_policy(x[: int(learned.rollout.count)].movedim(0, 2))


def of_worlds(
    memory: Memory, x: Shaped[Tensor, "round world"]
) -> Shaped[Tensor, "policy row count"]:
    """What a rollout keeps of worlds, for each of their seats."""
    agents = memory.learned.seats.shape[1]
    return of_seats(memory, x[..., None].expand(*x.shape, agents))


def gathered(memory: Memory) -> dict[str, FeedbackBatch]:
    """What was gathered, by phase: `[policy, row, round]`, a row being a seat in a world."""
    seats, rollout = memory.learned.seats, memory.learned.rollout
    mask = of_worlds(memory, rollout.real) & seats.real[..., None]
    begins = of_worlds(memory, rollout.begins)
    carry = seats.by_policy(rollout.carry) if rollout.carry.shape[-1] else None
    found = {}
    for phase, done in rollout.decisions.items():
        found[phase] = FeedbackBatch(
            of_seats(memory, done.seen),
            of_seats(memory, done.acted),
            mask,
            legal=of_seats(memory, done.legal) if done.legal.shape[-1] else None,
            begins=begins,
            carry=carry,
            old_logp=of_seats(memory, done.logp),
            old_value=of_seats(memory, done.value),
        )
    return found


def paid(memory: Memory) -> dict[str, Tensor]:
    """Reward, expectation at cuts, ends: `[policy, row, round]` by name."""
    rollout = memory.learned.rollout
    return {
        "terminated": of_worlds(memory, rollout.terminated),
        "truncated": of_worlds(memory, rollout.truncated),
        "reward": of_seats(memory, rollout.reward),
        "ahead": of_seats(memory, rollout.ahead),
    }


def told(memory: Memory) -> dict[str, Tensor]:
    """What was said of each row's episode, `[policy, row, ...]` by name."""
    seats = memory.learned.seats
    return {name: seats.by_policy(x) for name, x in memory.learned.rollout.told.items()}
