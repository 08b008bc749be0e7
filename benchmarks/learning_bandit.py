"""A gambler who learns, as a file of somebody's own: `mores run FILE --load learning_bandit.py`.

For `kills.py`: what is learned goes on from stage to stage inside a cell.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

import mores
from mores.core.environment import Act, Box, Discrete, Game, Outcome, Phase, Player, Role, Step
from mores.core.random_streams import Draws

WORTH = (0.0, 0.3, 1.5, 0.6)  # what an option pays on average


@dataclasses.dataclass(frozen=True)
class Paid:
    earned: Tensor  # [world], last time


class Bandit(Game[Paid]):
    """Options that pay by chance."""

    @property
    def roles(self) -> tuple[Role, ...]:
        return (Role("gambler", 1, Box.of(nothing=1)),)

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("choose", {"gambler": Discrete(len(WORTH))}),)

    def reset(self, draws: Draws, start: Any = None) -> Paid:
        return Paid(torch.zeros(draws.worlds))

    def observe(self, state: Paid, role: str, phase: str) -> Tensor:
        return state.earned[:, None, None]

    def step(
        self, state: Paid, phase: str, actions: Mapping[str, Tensor], draws: Draws
    ) -> Step[Paid]:
        worth = torch.tensor(WORTH)[actions["gambler"]]
        paid = worth + draws.normal("pay", 1)[..., 0]
        return Step(Paid(paid[:, 0]), {"gambler": paid})

    def measures(self, state: Paid) -> Mapping[str, Tensor]:
        return {"earned": state.earned}

    def hidden(self, state: Paid) -> Mapping[str, Tensor]:
        return {"earned": state.earned}


@dataclasses.dataclass(frozen=True)
class Means:
    total: Tensor  # [world, option]
    count: Tensor  # [world, option]
    last: Tensor  # [world, 1]


class Averager(Player):
    """Tries options at random now and then, and else takes what has paid best on average."""

    explore: float = 0.3

    def start(self, role: Role, phases: tuple[Phase, ...], draws: Draws) -> Means:
        zero = torch.zeros(draws.worlds, len(WORTH))
        return Means(zero, zero, torch.zeros(draws.worlds, 1, dtype=torch.int64))

    def again(self, memory: Means, fresh: Any, over: Tensor) -> Means:
        return memory  # what was learned stays

    def act(self, phase: Phase, seen: Any, legal: Any, memory: Means, draws: Draws) -> Act:
        best = (memory.total / memory.count.clamp(min=1)).argmax(-1, keepdim=True)
        anyhow = (draws.uniform("which", 1)[:, 0] * len(WORTH)).long()
        chosen = torch.where(draws.uniform("explore", 1)[:, 0] < self.explore, anyhow, best)
        return Act(chosen, dataclasses.replace(memory, last=chosen))

    def learn(self, memory: Means, outcome: Outcome, draws: Draws) -> Means:
        total = memory.total.scatter_add(1, memory.last, outcome.reward)
        count = memory.count.scatter_add(1, memory.last, torch.ones_like(outcome.reward))
        return dataclasses.replace(memory, total=total, count=count)


mores.register("environment", "learning_bandit", Bandit)
mores.register("player", "learning_averager", Averager)
