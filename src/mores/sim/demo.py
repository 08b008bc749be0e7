"""Terminal demonstration of an environment: the output of `python -m mores.envs.NAME`."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Console
from rich.table import Table

from mores.core.environment import Environment
from mores.sim.simulation import simulate

BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(numbers: list[float]) -> str:
    """A row of blocks with heights proportional to the numbers; a dot for NaN."""
    finite = [x for x in numbers if math.isfinite(x)]
    if not finite:
        return "·" * len(numbers)
    low, span = min(finite), (max(finite) - min(finite)) or 1.0
    top = len(BLOCKS) - 1
    return "".join(
        BLOCKS[round((x - low) / span * top)] if math.isfinite(x) else "·" for x in numbers
    )


def show(environment: Environment[Any], rounds: int = 60, worlds: int = 100, seed: int = 0) -> None:
    """Simulate the environment with its default policies and print its metrics over time."""
    first = simulate(environment, worlds=1, rounds=1, seed=seed).state
    returns = [f"return_{role.name}" for role in environment.roles]
    names = [*environment.metrics(first), *returns]
    result = simulate(environment, worlds=worlds, rounds=rounds, seed=seed, metrics=names)
    table = Table(title=f"{type(environment).__name__}: {worlds} worlds, {rounds} rounds")
    for column in ("metric", "over the rounds", "start", "end"):
        table.add_column(column)
    for name in names:
        values = result.metrics[name]
        inner = [each for each in values.dims if each not in ("world", "round")]
        series = values.mean(inner, skipna=False).mean("world").values.tolist()
        shown = series[:: math.ceil(len(series) / 30)]
        ends = [f"{series[i]:.4g}" for i in (0, -1)]
        table.add_row(name, sparkline(shown), *ends)
    Console().print(table)
