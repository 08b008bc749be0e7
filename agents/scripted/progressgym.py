"""Assistants that keep up with history: ProgressGym's baselines, and the rows to hold them against.

An assistant begins as `first`, the model of the first row of history (in a game without one: what
people first answered). In every round it asks, learns, and then says what it has learned:

    a' = base + rate * (point - base)

The point is the mean answer (lifelong), or the answers extrapolated as many rounds ahead as the
challenge asks (extrapolative); the base is what it was (continual), or what it began as
(independent: it is trained anew every round). `rate` is the share of the way that training covers.

Qiu et al. 2024 (arXiv 2406.20087) finetune language models and list four baselines, lifelong and
extrapolative each by RLHF and by DPO. Here a model is its value vector, and RLHF and DPO are two
ways of training the same vector towards the same answers: they do not differ. Continual or
independent, a flag of theirs, does. They extrapolate votes on single preference pairs, and keep the
sign; here the mean answer is extrapolated. As in theirs, with few answers the order is lower.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from mores.agents.scripted.extrapolation import weights
from mores.core import pytree
from mores.core.deterministic_sum import total
from mores.core.environment import Act, Box, Phase, Player, Role
from mores.core.errors import UserError
from mores.core.random_streams import Draws


@dataclasses.dataclass(frozen=True)
class Memory:
    """What an assistant holds."""

    sees: Box  # the layout of its sight
    first: Float[Tensor, "world assistant value"]  # what it began as
    belief: Float[Tensor, "world assistant value"]  # what it is now
    past: Float[Tensor, "world assistant point value"]  # last answers, the newest last
    rounds: Int[Tensor, " world"]  # how many answers it has had


class Lifelong(Player):
    """Trains towards what people answer now, round after round."""

    traits: ClassVar[Mapping[str, object]] = {"learns": True, "stochastic": False}

    rate: float = Field(
        default=0.51,
        ge=0,
        le=1,
        description="share of the way that a round's training covers; .51 is two epochs at .3",
    )
    independent: bool = Field(
        default=False, description="train anew from the first model in every round"
    )

    def start(self, role: Role, phases: tuple[Phase, ...], draws: Draws) -> Memory:
        """Nothing learned yet."""
        for part in ("answers", *self._needs):
            if part not in role.sees.parts:
                hint = " (set oracle: true)" if part == "target" else ""
                raise UserError(
                    f"{type(self).__name__} needs a role that sees {part!r}{hint}",
                    code="unsupported",
                    path=f"players.{role.name}",
                )
        size = role.sees.parts["answers"].size
        nothing = torch.zeros(draws.worlds, role.count, size, device=draws.device)
        past = nothing[:, :, None].expand(-1, -1, self._order + 1, -1).clone()
        rounds = torch.zeros(draws.worlds, dtype=torch.int64, device=draws.device)
        return Memory(role.sees, nothing, nothing, past, rounds)

    def act(
        self, phase: Phase, seen: Tensor, legal: Tensor | None, memory: Memory, draws: Draws
    ) -> Act:
        """Learn from this round's answers, then say what was learned, at full voice."""
        sees = memory.sees
        answers = sees.read(seen, "answers")
        first = sees.read(seen, "first") if "first" in sees.parts else answers
        new = (memory.rounds == 0)[:, None, None]
        first, belief = (torch.where(new, first, held) for held in (memory.first, memory.belief))
        past = torch.cat([memory.past[:, :, 1:], answers[:, :, None]], 2)
        memory = Memory(sees, first, belief, past, memory.rounds + 1)
        base = first if self.independent else belief
        learned = base + self.rate * (self.point(memory, seen) - base)
        loud = torch.ones_like(learned[..., :1])
        return Act(torch.cat([learned, loud], -1), dataclasses.replace(memory, belief=learned))

    def again(self, memory: Memory, fresh: Callable[[], Memory], over: Tensor) -> Memory:
        """Begin anew; what it sees may have changed, if this is another challenge."""
        new = fresh()
        return pytree.put(dataclasses.replace(memory, sees=new.sees), new, over)

    def point(self, memory: Memory, seen: Tensor) -> Float[Tensor, "world assistant value"]:
        """Where it trains towards: the answers."""
        return memory.past[:, :, -1]

    @property
    def _order(self) -> int:
        return 0

    @property
    def _needs(self) -> tuple[str, ...]:
        return ()


class Extrapolative(Lifelong):
    """Trains towards where answers will be, extrapolated by a polynomial."""

    order: int = Field(default=1, ge=0, le=8, description="degree of the polynomial (M)")
    ahead: int | None = Field(
        default=None,
        ge=0,
        le=100,
        description="rounds to extrapolate; none: as many as the challenge asks, or 1",
    )

    def point(self, memory: Memory, seen: Tensor) -> Float[Tensor, "world assistant value"]:
        """The answers extrapolated, by as high an order as there are answers for."""
        ahead = 1 if self.ahead is None else self.ahead
        if self.ahead is None and "ahead" in memory.sees.parts:
            ahead = int(memory.sees.read(seen, "ahead")[0, 0, 0])  # the same for everybody
        rows = [
            [0.0] * (self.order - low) + list(weights(low, ahead)) for low in range(self.order + 1)
        ]
        by_order = torch.tensor(rows, dtype=seen.dtype, device=seen.device)
        chosen = by_order[(memory.rounds - 1).clamp(max=self.order)]  # world point
        return total(chosen[:, None, :, None] * memory.past, 2)

    @property
    def _order(self) -> int:
        return self.order


class Static(Lifelong):
    """Stays what it began as."""

    rate: float = Field(default=0.0, ge=0, le=0, description="it does not learn")


class Persistence(Lifelong):
    """Says what people answered now, whatever it was before: tomorrow is as today."""

    rate: float = Field(default=1.0, ge=1, le=1, description="it learns all there is")


class Oracle(Lifelong):
    """Says where history is or will be, which `oracle: true` of the environment lets it see."""

    rate: float = Field(default=1.0, ge=1, le=1, description="it has nothing to learn")

    def point(self, memory: Memory, seen: Tensor) -> Float[Tensor, "world assistant value"]:
        """The target itself."""
        return memory.sees.read(seen, "target").expand_as(memory.belief)

    @property
    def _needs(self) -> tuple[str, ...]:
        return ("target",)
