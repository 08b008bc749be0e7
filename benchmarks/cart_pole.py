"""CartPole as a game of mores: the equations of Gymnasium's CartPole-v1, many worlds at once.

Barto, Sutton and Anderson 1983; constants and Euler steps as in Gymnasium, which `learning.py`
checks it against before it measures anything.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from mores.agents.scripted.uniform_random import UniformRandom
from mores.core.environment import Box, Discrete, Environment, Phase, Policy, Role, StepResult
from mores.core.random_streams import RandomStreams

GRAVITY, CART, POLE, HALF_LENGTH, FORCE, SECONDS = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
FURTHEST, STEEPEST = 2.4, 12 * 2 * math.pi / 360


@dataclasses.dataclass(frozen=True)
class Cart:
    now: Tensor  # [world, 4]: place, speed, angle, turning
    rounds: Tensor  # [world], how long the pole has stood


class CartPole(Environment[Cart]):
    """A pole on a cart that is pushed left or right; a point for every round that it stands."""

    @property
    def roles(self) -> tuple[Role, ...]:
        return (Role("player", 1, Box.of(cart=4)),)

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("push", {"player": Discrete(2)}),)

    def reset(self, streams: RandomStreams, people: object = None) -> Cart:
        now = streams.uniform("start", 1, 4)[:, 0] * 0.1 - 0.05
        return Cart(now, torch.zeros(streams.num_worlds, device=streams.device))

    def observe(self, state: Cart, role: str, phase: str) -> Tensor:
        return state.now[:, None]

    def step(
        self, state: Cart, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[Cart]:
        place, speed, angle, turning = state.now.unbind(-1)
        force = torch.where(actions["player"][:, 0] == 1, FORCE, -FORCE)
        cos, sin = torch.cos(angle), torch.sin(angle)
        mass = CART + POLE
        push = (force + POLE * HALF_LENGTH * turning * turning * sin) / mass
        lever = HALF_LENGTH * (4.0 / 3.0 - POLE * cos * cos / mass)
        spin = (GRAVITY * sin - cos * push) / lever
        thrust = push - POLE * HALF_LENGTH * spin * cos / mass
        moved = (
            place + SECONDS * speed,
            speed + SECONDS * thrust,
            angle + SECONDS * turning,
            turning + SECONDS * spin,
        )
        now = torch.stack(moved, -1)
        fell = (now[:, 0].abs() > FURTHEST) | (now[:, 2].abs() > STEEPEST)
        return StepResult(
            Cart(now, state.rounds + 1), {"player": torch.ones_like(state.rounds)[:, None]}, fell
        )

    def metrics(self, state: Cart) -> Mapping[str, Tensor]:
        return {"rounds": state.rounds}

    def default_policies(self) -> Mapping[str, Policy]:
        return {"player": UniformRandom()}
