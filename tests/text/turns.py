"""Turns of agents that random agents come into: observations, masks, text."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mores.agents.scripted.uniform_random import UniformRandom, UniformRandomState
from mores.core.environment import Environment, Phase
from mores.core.policy import ActionOutput
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Space
from mores.core.turn_text import TurnText
from mores.sim.simulation import simulate


@dataclasses.dataclass(frozen=True)
class Turn:
    """A turn of an agent, and its text."""

    role: str
    phase: str
    space: Space
    observation: Tensor
    action_mask: Tensor | None
    text: TurnText

    def seen(self, environment: Environment[Any]) -> Mapping[str, list[float]]:
        """The parts of the observation."""
        space = next(r.observation_space for r in environment.roles if r.name == self.role)
        return {name: space.read(self.observation, name).tolist() for name in space.parts}


class Recording(UniformRandom):
    """Random agents that keep their turns."""

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: UniformRandomState,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        for world in range(observation.shape[0]):
            for agent in range(observation.shape[1]):
                mask = None if action_mask is None else action_mask[world, agent]
                space = phase.action_spaces[state.role]
                TURNS.append((state.role, phase.name, space, observation[world, agent], mask))
        return super().act(phase, observation, action_mask, state, streams, search)


TURNS: list[tuple[str, str, Space, Tensor, Tensor | None]] = []


def random_turns(
    environment: Environment[Any], rounds: int = 3, worlds: int = 2, seed: int = 0
) -> list[Turn]:
    """All turns of random agents, with their text."""
    TURNS.clear()
    policies = {role.name: Recording() for role in environment.roles}
    simulate(environment, policies, worlds=worlds, rounds=rounds, seed=seed)
    return [
        Turn(role, phase, space, seen, mask, environment.describe(role, phase, seen, mask))
        for role, phase, space, seen, mask in TURNS
    ]
