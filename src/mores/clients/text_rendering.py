"""What seats see, as text for people to read: `render_mode` "ansi" and "human"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from mores.clients.resolve import Seat
from mores.sim.simulator import Table

MODES = ("ansi", "human")  # a string is returned, or printed after every step
SHOWN = 8  # numbers of one part that are written out


def page(table: Table, seats: Sequence[Seat], measures: Mapping[str, Tensor]) -> str:
    """Where the first world is, what these seats see there, and measures `[world, ...]`."""
    shown = min(int(table.round[0]) + 1, table.rounds)
    lines = [f"round {shown} of {table.rounds}, phase {table.phase.name}"]
    for role in dict.fromkeys(seat.role for seat in seats):
        seen = table.observe(role)[0]
        for seat in seats:
            if seat.role != role:
                continue
            lines.append(seat.name)
            sees = table.roles[role].sees
            for part in sees.parts:
                lines.append(f"  {part}: {_numbers(sees.read(seen[seat.number], part))}")
    lines += [f"{name}: {_numbers(value[0].reshape(-1))}" for name, value in measures.items()]
    return "\n".join(lines)


def _numbers(values: Tensor) -> str:
    shown = " ".join(f"{value:.4g}" for value in values[:SHOWN].tolist())
    return shown if len(values) <= SHOWN else f"{shown} ... ({len(values)} numbers)"
