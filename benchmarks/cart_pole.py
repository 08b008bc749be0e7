"""CartPole as an environment of mores: the equations of Gymnasium's CartPole-v1, in many worlds.

Barto, Sutton and Anderson 1983. Constants and Euler steps are those of Gymnasium: `learning.py`
compares both before it measures anything.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from mores.agents.scripted.uniform_random import UniformRandom
from mores.core.environment import Environment, Phase, Role, StepResult
from mores.core.policy import Policy
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete

GRAVITY, CART_MASS, POLE_MASS, HALF_LENGTH, FORCE, TIME_STEP = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
MAX_POSITION, MAX_ANGLE = 2.4, 12 * 2 * math.pi / 360  # m, rad


@dataclasses.dataclass(frozen=True)
class CartState:
    physics: Tensor  # [world, 4]: position, velocity, angle, angular velocity
    rounds: Tensor  # [world]: completed rounds


class CartPole(Environment[CartState]):
    """A pole on a cart that is pushed left or right. The reward is 1 in every round."""

    @property
    def roles(self) -> tuple[Role, ...]:
        return (Role("player", 1, Box.of(cart=4)),)

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("push", {"player": Discrete(2)}),)

    def reset(self, streams: RandomStreams, people: object = None) -> CartState:
        physics = streams.uniform("start", 1, 4)[:, 0] * 0.1 - 0.05
        return CartState(physics, torch.zeros(streams.num_worlds, device=streams.device))

    def observe(self, state: CartState, role: str, phase: str) -> Tensor:
        return state.physics[:, None]

    def step(
        self, state: CartState, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[CartState]:
        position, velocity, angle, angular_velocity = state.physics.unbind(-1)
        force = torch.where(actions["player"][:, 0] == 1, FORCE, -FORCE)
        cos, sin, mass = torch.cos(angle), torch.sin(angle), CART_MASS + POLE_MASS
        temp = (force + POLE_MASS * HALF_LENGTH * angular_velocity * angular_velocity * sin) / mass
        inertia = HALF_LENGTH * (4.0 / 3.0 - POLE_MASS * cos * cos / mass)
        angular_acceleration = (GRAVITY * sin - cos * temp) / inertia
        acceleration = temp - POLE_MASS * HALF_LENGTH * angular_acceleration * cos / mass
        components = (
            position + TIME_STEP * velocity,
            velocity + TIME_STEP * acceleration,
            angle + TIME_STEP * angular_velocity,
            angular_velocity + TIME_STEP * angular_acceleration,
        )
        physics = torch.stack(components, -1)
        fell = (physics[:, 0].abs() > MAX_POSITION) | (physics[:, 2].abs() > MAX_ANGLE)
        reward = {"player": torch.ones_like(state.rounds)[:, None]}
        return StepResult(CartState(physics, state.rounds + 1), reward, fell)

    def metrics(self, state: CartState) -> Mapping[str, Tensor]:
        return {"rounds": state.rounds}

    def default_policies(self) -> Mapping[str, Policy]:
        return {"player": UniformRandom()}
