"""A learner of a bandit in a user's file: `mores run FILE --load learning_bandit.py`.

`kills.py` uses it: its policy state continues from stage to stage inside a cell.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

import mores
from mores.core.environment import Environment, Phase, Role, StepResult, Transition
from mores.core.learner import Learner
from mores.core.policy import ActionOutput
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete

MEAN_REWARDS = (0.0, 0.3, 1.5, 0.6)  # of the options


@dataclasses.dataclass(frozen=True)
class BanditState:
    reward: Tensor  # [world], of the last round


class Bandit(Environment[BanditState]):
    """Options with normal rewards."""

    @property
    def roles(self) -> tuple[Role, ...]:
        return (Role("gambler", 1, Box.of(nothing=1)),)

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("choose", {"gambler": Discrete(len(MEAN_REWARDS))}),)

    def reset(self, streams: RandomStreams, people: Any = None) -> BanditState:
        return BanditState(torch.zeros(streams.num_worlds))

    def observe(self, state: BanditState, role: str, phase: str) -> Tensor:
        return state.reward[:, None, None]

    def step(
        self, state: BanditState, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[BanditState]:
        mean = torch.tensor(MEAN_REWARDS)[actions["gambler"]]
        reward = mean + streams.normal("pay", 1)[..., 0]
        return StepResult(BanditState(reward[:, 0]), {"gambler": reward})

    def metrics(self, state: BanditState) -> Mapping[str, Tensor]:
        return {"earned": state.reward}

    def latent(self, state: BanditState) -> Mapping[str, Tensor]:
        return {"earned": state.reward}


@dataclasses.dataclass(frozen=True)
class AveragerState:
    total: Tensor  # [world, option]: sum of rewards
    count: Tensor  # [world, option]: choices
    last_action: Tensor  # [world, 1]


class Averager(Learner):
    """Epsilon-greedy: a random option with probability `explore`, else the best mean reward."""

    trains: ClassVar = {"online"}
    explore: float = 0.3

    def initial_state(
        self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams
    ) -> AveragerState:
        zero = torch.zeros(streams.num_worlds, len(MEAN_REWARDS))
        return AveragerState(zero, zero, torch.zeros(streams.num_worlds, 1, dtype=torch.int64))

    def act(
        self, phase: Phase, observation: Any, action_mask: Any, state: Any, streams: RandomStreams
    ) -> ActionOutput:
        best = (state.total / state.count.clamp(min=1)).argmax(-1, keepdim=True)
        random = (streams.uniform("which", 1)[:, 0] * len(MEAN_REWARDS)).long()
        action = torch.where(streams.uniform("explore", 1)[:, 0] < self.explore, random, best)
        return ActionOutput(action, dataclasses.replace(state, last_action=action))

    def update(
        self, state: AveragerState, transition: Transition, streams: RandomStreams
    ) -> AveragerState:
        total = state.total.scatter_add(1, state.last_action, transition.reward)
        count = state.count.scatter_add(1, state.last_action, torch.ones_like(transition.reward))
        return dataclasses.replace(state, total=total, count=count)


mores.register("environment", "learning_bandit", Bandit)
mores.register("policy", "learning_averager", Averager)
