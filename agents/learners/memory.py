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
from mores.game import Role

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
