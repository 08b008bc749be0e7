"""Observations of external agents as text: `render_mode` "ansi" and "human".

Pictures, `render_mode` "rgb_array", are in `mores.clients.picture`.

An agent whose turn it is sees the text of the environment (`Environment.describe`), if that has
one; else the parts of its observation are listed. Text may contain messages of agents: whatever is
unprintable is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from mores.clients.resolve import AgentId
from mores.core.environment import Environment
from mores.core.errors import printable
from mores.core.turn_text import written_turn
from mores.sim.simulator import Simulator

# ansi: a returned string; human: text printed after every step; rgb_array: a returned picture
RENDER_MODES = ("ansi", "human", "rgb_array")
MAX_NUMBERS_SHOWN = 8  # of one part of an observation
MAX_LINE = 2_000  # characters of a line of text


def render_text(
    simulator: Simulator, agents: Sequence[AgentId], metrics: Mapping[str, Tensor]
) -> str:
    """Text of the first world: round and phase, what happened in it, observations, metrics.

    Args:
        simulator: the simulator.
        agents: the agents whose observations are shown.
        metrics: metrics by name, `[world, ...]`.
    """
    round_number = min(int(simulator.round[0]) + 1, simulator.rounds)
    lines = [f"round {round_number} of {simulator.rounds}, phase {simulator.phase.name}"]
    if text := simulator.environment.render(simulator.state):
        lines += [printable(line, MAX_LINE) for line in text.split("\n")]
    for role in dict.fromkeys(agent.role for agent in agents):
        for agent in agents:
            if agent.role == role:
                lines.append(agent.name)
                lines += [f"  {line}" for line in observation_lines(simulator, agent)]
    lines += [f"{name}: {_format_numbers(value[0].reshape(-1))}" for name, value in metrics.items()]
    return "\n".join(lines)


def observation_lines(simulator: Simulator, agent: AgentId) -> list[str]:
    """Observation of an agent: the text of its turn, or else the parts by name."""
    observation = simulator.observe(agent.role)[0, agent.agent_index]
    if text := _turn_text(simulator, agent, observation):
        return [printable(line, MAX_LINE) for line in text.splitlines()]
    space = simulator.roles[agent.role].observation_space
    return [f"{part}: {_format_numbers(space.read(observation, part))}" for part in space.parts]


def _turn_text(simulator: Simulator, agent: AgentId, observation: Tensor) -> str:
    """What the agent observes and is asked, in words; empty if it has no turn or no words."""
    environment, phase = simulator.environment, simulator.phase
    if type(environment).describe is Environment.describe or agent.role not in phase.action_spaces:
        return ""
    mask = environment.action_mask(simulator.state, agent.role, phase.name)
    mask = None if mask is None else mask[0, agent.agent_index]
    turn = environment.describe(agent.role, phase.name, observation, mask)
    return written_turn(turn, mask)


def _format_numbers(values: Tensor) -> str:
    text = " ".join(f"{value:.4g}" for value in values[:MAX_NUMBERS_SHOWN].tolist())
    return text if len(values) <= MAX_NUMBERS_SHOWN else f"{text} ... ({len(values)} numbers)"
