"""Scripted assistants: they learn where people stand from their answers, and say something.

All hold a belief about the people's mean position. What they say in a round was learned before
that round's answers came in, as a model in use was trained on yesterday's data:

    a' = a + rate * (answers + ahead * trend - a)

Their first answers are believed at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from mores.core.environment import Act, Box, Phase, Player, Role
from mores.core.errors import UserError
from mores.core.random_streams import Draws


@dataclasses.dataclass(frozen=True)
class Memory:
    """What an assistant holds: the layout of its sight, its belief, whether it has begun."""

    sees: Box
    belief: Float[Tensor, "world assistant value"]
    begun: Bool[Tensor, " world"]


class LookAhead(Player):
    """Learns where people stand, and aims some rounds further along history's trend."""

    traits: ClassVar[Mapping[str, object]] = {"learns": True, "stochastic": False}

    rate: float = Field(
        default=0.2, ge=0, le=1, description="learning rate (eta), share of the gap a round"
    )
    ahead: float = Field(
        default=0.0, ge=0, description="rounds of history's trend to aim ahead (L)"
    )

    def start(self, role: Role, phases: tuple[Phase, ...], draws: Draws) -> Memory:
        """No belief yet."""
        for part in ("answers", "trend"):
            if part not in role.sees.parts:
                raise UserError(
                    f"{type(self).__name__} needs a role that sees {part!r}",
                    code="unsupported",
                    path=f"players.{role.name}",
                )
        size = role.sees.parts["answers"].size
        belief = torch.zeros(draws.worlds, role.count, size, device=draws.device)
        return Memory(role.sees, belief, torch.zeros_like(belief[:, 0, 0], dtype=torch.bool))

    def act(
        self, phase: Phase, seen: Tensor, legal: Tensor | None, memory: Memory, draws: Draws
    ) -> Act:
        """Say something on the belief held so far, then learn from this round's answers."""
        answers, trend = memory.sees.read(seen, "answers"), memory.sees.read(seen, "trend")
        belief = torch.where(memory.begun[:, None, None], memory.belief, answers)
        learned = belief + self.rate * (answers + self.ahead * trend - belief)
        position, voice = self.say(belief)
        loud = torch.full_like(position[..., :1], voice)
        after = dataclasses.replace(memory, belief=learned, begun=torch.ones_like(memory.begun))
        return Act(torch.cat([position, loud], -1), after)

    @property
    def frank(self) -> bool:
        """Whether it says what it believes, at full voice."""
        return type(self).say is LookAhead.say

    def say(self, belief: Tensor) -> tuple[Tensor, float]:
        """What to say on a belief `[world, assistant, value]`, and how loudly."""
        return belief, 1.0


class Mirror(LookAhead):
    """Learns where people stand, and says it back to them."""

    ahead: float = Field(default=0.0, ge=0, le=0, description="a mirror does not look ahead")


class Persuade(LookAhead):
    """Learns where people stand, and speaks from there towards a goal of its own."""

    goal: list[float] = Field(min_length=1, description="where it wants people, one a value")
    reach: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="share of the way from people to the goal that it speaks from",
    )

    def start(self, role: Role, phases: tuple[Phase, ...], draws: Draws) -> Memory:
        """No belief yet; the goal must fit the number of values."""
        memory = super().start(role, phases, draws)
        if len(self.goal) != memory.belief.shape[-1]:
            raise UserError(
                f"persuade: goal has {len(self.goal)} values, people {memory.belief.shape[-1]}",
                code="wrong_shape",
                path="persuade.goal",
            )
        return memory

    def say(self, belief: Tensor) -> tuple[Tensor, float]:
        """A point on the way from the people to the goal."""
        goal = torch.tensor(self.goal, dtype=belief.dtype, device=belief.device)
        return belief + self.reach * (goal - belief), 1.0


class Silent(LookAhead):
    """Learns as the others do, and says nothing: the placebo."""

    def say(self, belief: Tensor) -> tuple[Tensor, float]:
        """Nothing."""
        return belief, 0.0
