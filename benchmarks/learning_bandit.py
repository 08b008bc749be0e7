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
from mores.core.environment import (
    ActionOutput,
    Box,
    Discrete,
    Environment,
    Phase,
    Policy,
    Role,
    StepResult,
    Transition,
)
from mores.core.random_streams import RandomStreams

WORTH = (0.0, 0.3, 1.5, 0.6)  # what an option pays on average


@dataclasses.dataclass(frozen=True)
class Paid:
    earned: Tensor  # [world], last time


class Bandit(Environment[Paid]):
    """Options that pay by chance."""

    @property
    def roles(self) -> tuple[Role, ...]:
        return (Role("gambler", 1, Box.of(nothing=1)),)

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("choose", {"gambler": Discrete(len(WORTH))}),)

    def reset(self, streams: RandomStreams, people: Any = None) -> Paid:
        return Paid(torch.zeros(streams.num_worlds))

    def observe(self, state: Paid, role: str, phase: str) -> Tensor:
        return state.earned[:, None, None]

    def step(
        self, state: Paid, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[Paid]:
        worth = torch.tensor(WORTH)[actions["gambler"]]
        paid = worth + streams.normal("pay", 1)[..., 0]
        return StepResult(Paid(paid[:, 0]), {"gambler": paid})

    def metrics(self, state: Paid) -> Mapping[str, Tensor]:
        return {"earned": state.earned}

    def latent(self, state: Paid) -> Mapping[str, Tensor]:
        return {"earned": state.earned}


@dataclasses.dataclass(frozen=True)
class Means:
    total: Tensor  # [world, option]
    count: Tensor  # [world, option]
    last: Tensor  # [world, 1]


class Averager(Policy):
    """Tries options at random now and then, and else takes what has paid best on average."""

    explore: float = 0.3

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Means:
        zero = torch.zeros(streams.num_worlds, len(WORTH))
        return Means(zero, zero, torch.zeros(streams.num_worlds, 1, dtype=torch.int64))

    def on_episode_start(self, state: Means, initial: Any, reset_mask: Tensor) -> Means:
        return state  # what was learned stays

    def act(
        self, phase: Phase, observation: Any, action_mask: Any, state: Means, streams: RandomStreams
    ) -> ActionOutput:
        best = (state.total / state.count.clamp(min=1)).argmax(-1, keepdim=True)
        anyhow = (streams.uniform("which", 1)[:, 0] * len(WORTH)).long()
        chosen = torch.where(streams.uniform("explore", 1)[:, 0] < self.explore, anyhow, best)
        return ActionOutput(chosen, dataclasses.replace(state, last=chosen))

    def update(self, state: Means, transition: Transition, streams: RandomStreams) -> Means:
        total = state.total.scatter_add(1, state.last, transition.reward)
        count = state.count.scatter_add(1, state.last, torch.ones_like(transition.reward))
        return dataclasses.replace(state, total=total, count=count)


mores.register("environment", "learning_bandit", Bandit)
mores.register("policy", "learning_averager", Averager)
