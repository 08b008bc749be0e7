"""Turns of agents that random agents come into: observations, masks, text."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mores.agents.scripted.uniform_random import UniformRandom
from mores.core.environment import Environment, Phase
from mores.core.spaces import Space
from mores.core.turn_text import TurnText
from mores.sim.recorder import Recorder
from mores.sim.simulator import Simulator


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


class TurnRecorder(Recorder):
    """Keeps all turns of all agents."""

    def __init__(self, environment: Environment[Any]) -> None:
        self.environment, self.turns = environment, list[Turn]()

    def record_action(
        self,
        role: str,
        phase: Phase,
        observation: Tensor,
        action: Tensor,
        action_mask: Tensor | None = None,
    ) -> None:
        """Keep the turns of a phase."""
        for world, agent in itertools.product(*map(range, observation.shape[:2])):
            mask = None if action_mask is None else action_mask[world, agent]
            seen = observation[world, agent]
            text = self.environment.describe(role, phase.name, seen, mask)
            space = phase.action_spaces[role]
            self.turns.append(Turn(role, phase.name, space, seen, mask, text))


def random_turns(
    environment: Environment[Any], rounds: int = 3, worlds: int = 2, seed: int = 0
) -> list[Turn]:
    """All turns of random agents, with their text."""
    recorder = TurnRecorder(environment)
    policies = {role.name: UniformRandom() for role in environment.roles}
    simulator = Simulator(environment, policies, worlds=worlds, rounds=rounds, recorder=recorder)
    simulator.reset(seed)
    while not simulator.all_finished:
        simulator.step()
    return recorder.turns
