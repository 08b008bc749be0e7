"""Turns of an environment as text, as examples: what a language model reads."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from mores.core.environment import Environment, Phase
from mores.core.turn_text import written_turn
from mores.sim.recorder import Recorder
from mores.sim.simulator import Simulator

ROUNDS = 2  # so that the second turn shows what happened in the first round


class ExampleTurn(NamedTuple):
    """A turn of the first agent of a role.

    Attributes:
        role, phase: its names.
        text: what the agent reads.
    """

    role: str
    phase: str
    text: str


class _LastTurns(Recorder):
    """Keeps the last observation of the first agent of every role, by phase."""

    def __init__(self) -> None:
        self.turns: dict[tuple[str, str], tuple[Tensor, Tensor | None]] = {}

    def record_action(
        self,
        role: str,
        phase: Phase,
        observation: Tensor,
        action: Tensor,
        action_mask: Tensor | None = None,
    ) -> None:
        """Keep the observation and the legal options."""
        mask = None if action_mask is None else action_mask[0, 0]
        self.turns[role, phase.name] = observation[0, 0], mask


def example_turns(environment: Environment[Any], seed: int = 0) -> list[ExampleTurn]:
    """A turn of every role and phase under the default policies, in the order of the phases.

    Args:
        environment: the environment.
        seed: seed of the simulation.
    """
    recorder = _LastTurns()
    simulator = Simulator(
        environment, environment.default_policies(), rounds=ROUNDS, recorder=recorder
    )
    simulator.reset(seed)
    while not simulator.all_finished:
        simulator.step()
    turns = []
    for (role, phase), (observation, action_mask) in recorder.turns.items():
        turn = environment.describe(role, phase, observation, action_mask)
        turns.append(ExampleTurn(role, phase, written_turn(turn, action_mask)))
    return turns
