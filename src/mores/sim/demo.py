"""Show an environment running: what `python -m mores.envs.NAME` prints."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Console
from rich.table import Table

from mores.core.environment import Environment
from mores.sim.simulation import simulate

BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(numbers: list[float]) -> str:
    """A row of blocks as high as the numbers; a dot where there is none."""
    known = [x for x in numbers if math.isfinite(x)]
    if not known:
        return "·" * len(numbers)
    low, span = min(known), (max(known) - min(known)) or 1.0
    top = len(BLOCKS) - 1
    return "".join(
        BLOCKS[round((x - low) / span * top)] if math.isfinite(x) else "·" for x in numbers
    )


def show(environment: Environment[Any], rounds: int = 60, worlds: int = 100, seed: int = 0) -> None:
    """Play the game among its baseline players and print how its measures went."""
    first = simulate(environment, worlds=1, rounds=1, seed=seed).state
    names = list(environment.metrics(first))
    played = simulate(environment, worlds=worlds, rounds=rounds, seed=seed, metrics=names)
    table = Table(title=f"{type(environment).__name__}: {worlds} worlds, {rounds} rounds")
    for column in ("measure", "over the rounds", "start", "end"):
        table.add_column(column)
    for name in names:
        numbers = played.metrics[name]
        series = (numbers.mean(2) if numbers.dim() > 2 else numbers).nanmean(0)
        shown = series[:: math.ceil(len(series) / 30)].tolist()
        ends = [f"{series[i].item():.4g}" for i in (0, -1)]
        table.add_row(name, sparkline(shown), *ends)
    Console().print(table)
