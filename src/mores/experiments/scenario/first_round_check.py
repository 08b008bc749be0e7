"""Play one round of two worlds before an experiment begins, and see that all has its shape."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mores.core.check_metrics import measured
from mores.core.environment import Game, Player
from mores.core.errors import UserError
from mores.core.people import Population
from mores.sim.simulator import Table

WORLDS = 2


def first_round(
    game: Game[Any], players: Mapping[str, Player], population: Population | None, seed: int
) -> list[UserError]:
    """What is wrong with an environment or its players, as far as one round shows."""
    try:
        table = Table(game, players, worlds=WORLDS, rounds=2, people=population)
        table.reset(seed)
        before = _shapes(measured(game, table.state, WORLDS))
        wrong = _sights(table)
        table.step()
        after = _shapes(measured(game, table.state, WORLDS))
        wrong += _sights(table)
    except UserError as error:
        return [error]
    except MemoryError:
        raise
    except Exception as error:
        if "allocate" in str(error):  # PyTorch has no class of its own for it
            raise
        return [UserError(f"breaks in its first round: {broken(error)}", code="failed")]
    for name in before | after:
        if before.get(name) != after.get(name):
            wrong.append(f"measure {name!r} is {before.get(name)} at first, then {after.get(name)}")
    return [UserError(line, code="failed") for line in dict.fromkeys(wrong)]


def broken(error: BaseException) -> str:
    """An error of somebody's code in one line, with the place where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"


def _shapes(measures: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in measures.items()}


def _sights(table: Table) -> list[str]:
    """Observations that are not `[world, seat, size]`."""
    wrong = []
    for phase in table.phases:
        for role in phase.acts:
            seen = tuple(table.game.observe(table.state, role, phase.name).shape)
            said = (WORLDS, table.roles[role].count, table.roles[role].sees.size)
            if seen != said:
                wrong.append(f"what {role!r} sees in {phase.name!r} is {seen}, not {said}")
    return wrong
