"""What seats see, as text for people to read: `render_mode` "ansi" and "human"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from mores.clients.resolve import AgentId
from mores.sim.simulator import Simulator

RENDER_MODES = ("ansi", "human")  # a string is returned, or printed after every step
MAX_NUMBERS_SHOWN = 8  # numbers of one part that are written out


def render_text(
    simulator: Simulator, agents: Sequence[AgentId], metrics: Mapping[str, Tensor]
) -> str:
    """Where the first world is, what these seats see there, and measures `[world, ...]`."""
    shown = min(int(simulator.round[0]) + 1, simulator.rounds)
    lines = [f"round {shown} of {simulator.rounds}, phase {simulator.phase.name}"]
    for role in dict.fromkeys(seat.role for seat in agents):
        seen = simulator.observe(role)[0]
        for seat in agents:
            if seat.role != role:
                continue
            lines.append(seat.name)
            sees = simulator.roles[role].observation_space
            for part in sees.parts:
                lines.append(
                    f"  {part}: {_format_numbers(sees.read(seen[seat.agent_index], part))}"
                )
    lines += [f"{name}: {_format_numbers(value[0].reshape(-1))}" for name, value in metrics.items()]
    return "\n".join(lines)


def _format_numbers(values: Tensor) -> str:
    shown = " ".join(f"{value:.4g}" for value in values[:MAX_NUMBERS_SHOWN].tolist())
    return shown if len(values) <= MAX_NUMBERS_SHOWN else f"{shown} ... ({len(values)} numbers)"
