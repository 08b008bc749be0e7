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

from mores.agents.learning.model_mapping import Seats
from mores.agents.learning.rollout_buffer import Decision, Rollout
from mores.agents.learning.stacked_model import Stack
from mores.agents.learning.train_state import Pupil
from mores.core import pytree
from mores.core.environment import Box, Discrete, MultiDiscrete, Phase, Role, Space
from mores.core.errors import UserError

if TYPE_CHECKING:
    from mores.agents.learning.learner import Learner


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
    kept: pytree.Kept

    @property
    def learned(self) -> Learned:
        """What was learned."""
        return self.kept.held


def check_role(memory: Memory, role: Role) -> None:
    """See that policies go on at seats like those that they were made for.

    Raises:
        UserError: another stage has other seats, or shows them something else.
    """
    seats, saw = memory.learned.seats.shape[1], memory.make.role.sees
    if role.count != seats:
        raise UserError(
            f"{role.name} had {seats} seats when its learner began, and has {role.count} here: "
            "stages of a learner have as many",
            code="incompatible",
            path=f"players.{role.name}",
        )
    if role.sees.size != saw.size:
        raise UserError(
            f"{role.name} learned to see {saw.size} numbers, and sees {role.sees.size} here: "
            "stages of a learner show it the same",
            code="incompatible",
            path=f"players.{role.name}",
        )
    if (then := _parts(saw)) != (now := _parts(role.sees)):
        raise UserError(
            f"{role.name} learned to see {then}, and sees {now} here: stages of a learner show it "
            "the same",
            code="incompatible",
            path=f"players.{role.name}",
        )


def check_acts(memory: Memory, phase: Phase) -> None:
    """See that policies are asked for what they learned to do.

    Raises:
        UserError: another stage asks for other acts.
    """
    role = memory.make.role.name
    head, space = memory.make.stack.heads.get(phase.name), phase.acts[role]
    if head is None or (head.space is not space and head.space != space):
        learned = "nothing" if head is None else _choice(head.space)
        raise UserError(
            f"{role} learned to choose {learned} in phase {phase.name!r}, and chooses "
            f"{_choice(space)} here: stages of a learner let it do the same",
            code="incompatible",
            path=f"players.{role}",
        )


def _parts(sees: Box) -> str:
    """What is seen, in order, and how many numbers of it."""
    return ", ".join(f"{name} ({part.size})" for name, part in sees.parts.items())


def _choice(space: Space) -> str:
    """What may be done, in words."""
    if isinstance(space, Discrete):
        return f"one of {space.options}"
    if isinstance(space, MultiDiscrete):
        return f"one of each of {list(space.options)}"
    parts = (f"{n} [{part.low:g}, {part.high:g}]" for n, part in space.parts.items())
    return f"{space.size} numbers, {', '.join(parts)}"
