"""What a learner keeps: what it did just now, what it remembers, and what it learned.

The first two lead with the world and end with the episode. What was learned belongs to policies,
outlives episodes and stages, and is changed in place: a table has one owner.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from jaxtyping import Float, Int
from torch import Tensor

from mores import tree
from mores.agents.learners.pupil import Pupil
from mores.agents.learners.rollout import Decision, Rollout
from mores.agents.learners.seats import Seats
from mores.agents.policies.stacked import Stack
from mores.errors import UserError
from mores.game import Discrete, MultiDiscrete, Phase, Role, Space

if TYPE_CHECKING:
    from mores.agents.learners.learner import Learner


@dataclasses.dataclass(frozen=True)
class Learned:
    """What the policies of a stack have learned.

    Attributes:
        seats: whose seat is whose.
        pupil: the policies.
        rounds: how many rounds they have learned from, or passes over a record.
        rollout: what was done since the last update.
        extra: what a recipe keeps beside, by name, `[policy, ...]`.
    """

    seats: Seats
    pupil: Pupil
    rounds: Int[Tensor, ""]
    rollout: Rollout
    extra: dict[str, Tensor]


class Make:
    """Whose memory it is, and of what make its policies are: no numbers, nothing that changes."""

    __slots__ = ("player", "role", "stack")

    def __init__(self, player: Learner, role: Role, stack: Stack) -> None:
        self.player, self.role, self.stack = player, role, stack


@dataclasses.dataclass(frozen=True)
class Memory:
    """What a learner keeps at the seats of a role.

    Attributes:
        make: whose it is.
        carry: what policies remember of the episode.
        last: what was done in each phase of the round.
        kept: what was learned, a `Learned`.
    """

    make: Make
    carry: Float[Tensor, "world agent memory"]
    last: Mapping[str, Decision]
    kept: tree.Kept

    @property
    def learned(self) -> Learned:
        """What was learned."""
        return self.kept.held


def check_role(memory: Memory, phase: Phase, seen: Tensor) -> None:
    """See that policies are at the seats that they were made for.

    Raises:
        UserError: another stage has other seats, shows them something else, or asks for other acts.
    """
    role, seats, sees = memory.make.role.name, memory.learned.seats.shape[1], memory.make.stack.sees
    if seen.shape[1] != seats:
        raise UserError(
            f"{role} had {seats} seats when its learner began, and has {seen.shape[1]} here: "
            "stages of a learner have as many"
        )
    if seen.shape[-1] != sees:
        raise UserError(
            f"{role} learned to see {sees} numbers, and sees {seen.shape[-1]} here: stages of a "
            "learner show it the same"
        )
    head, space = memory.make.stack.heads.get(phase.name), phase.acts[role]
    if head is None or (head.space is not space and head.space != space):
        learned = "nothing" if head is None else _choice(head.space)
        raise UserError(
            f"{role} learned to choose {learned} in phase {phase.name!r}, and chooses "
            f"{_choice(space)} here: stages of a learner let it do the same"
        )


def _choice(space: Space) -> str:
    """What may be done, in words."""
    if isinstance(space, Discrete):
        return f"one of {space.options}"
    if isinstance(space, MultiDiscrete):
        return f"one of each of {list(space.options)}"
    parts = (f"{n} [{part.low:g}, {part.high:g}]" for n, part in space.parts.items())
    return f"{space.size} numbers, {', '.join(parts)}"
