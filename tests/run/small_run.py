"""A small run made by hand: arms that moved as far as we say, and names that mean harm."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mores.core.errors import UserError
from mores.experiments.results.cell_result import CellResult, StageResult
from mores.experiments.scenario.cell import Cell
from mores.experiments.scenario.expansion import expand
from mores.experiments.scenario.source_locations import ScenarioError, format_path
from mores.experiments.scenario.specification import Claim, Scenario
from mores.report.figures import ReportData
from tests.refusals import check_message

EVIL = "<script>alert('x')</script>\"' & $a_b$"
ROUNDS = (0, 1, 2, 3, 4)


def scenario_of(**more: Any) -> Scenario:
    told = {
        "name": "small",
        "about": "A small community.",
        "env": {"kind": "coevolution", "people": 12},
        "rounds": 4,
        "replicates": 8,
        "measures": ["centre", "spread"],
        **more,
    }
    return Scenario.model_validate(told)


ARMS = {
    "control": "twin",
    "arms": {
        "twin": {"env.assistants": 0},
        "ai": {"players.assistant": {"kind": "mirror"}},
        "friends": {"env.assistants": 0, "env.spread": 0.5},
        "both": {"players.assistant": {"kind": "mirror"}, "env.spread": 0.5},
    },
}
MOVED = {"twin": 0.0, "ai": 0.3, "friends": -0.1, "both": 0.25}  # and 0.05 beyond the sum


def record_of(
    cell: Cell,
    moved: float,
    stages: tuple[str, ...] = ("play",),
    episodes: int = 1,
    people: int = 12,
) -> CellResult:
    """People whose first value has moved so far by the end, and whose second has not."""
    chance = np.random.default_rng(7)
    start = chance.normal(size=(8, 1, 1))
    way = np.linspace(0.0, 1.0, len(ROUNDS)) * (moved + 0.01 * chance.normal(size=(8, 1, 1)))
    way = (start + way * (moved != 0)) * np.ones((8, episodes, 1))
    measures = {"centre[0]": way, "centre[1]": 0 * way, "spread": np.abs(way)}
    values = chance.normal(size=(1, 1, people, 2)) + np.zeros((1, len(ROUNDS), 1, 1))
    values[..., 0] += np.linspace(0.0, moved, len(ROUNDS))[None, :, None]
    return CellResult(
        cell=cell.id,
        replicate=np.arange(8),
        world=np.zeros(8, dtype=np.int64),
        stages=tuple(StageResult(s, ROUNDS, measures, {"spread": 1.0}) for s in stages),
        latent={"values": values.astype(np.float32)},
        latent_rounds=ROUNDS,
        value_names=(f"left {EVIL}", "up"),
    )


def recorded(scenario: Scenario, **more: Any) -> tuple[tuple[Cell, ...], dict[str, CellResult]]:
    cells = expand(scenario)
    return cells, {cell.id: record_of(cell, MOVED.get(cell.arm, 0.2), **more) for cell in cells}


def shown_of(scenario: Scenario, **more: Any) -> ReportData:
    return ReportData.from_run(scenario, *recorded(scenario, **more))


def claim_of(**more: Any) -> Claim:
    told = {"says": "x", "kind": "statistical", "measure": "spread", "bound": {"above": 0.0}}
    return Claim.model_validate({**told, **more})


CLAIMS = [
    {"says": f"moved {EVIL}", "kind": "statistical", "measure": "causal_drift", "arm": "ai",
     "bound": {"above": 0.1}, "source": EVIL},
    {"says": "hardly", "kind": "statistical", "measure": "spread", "bound": {"within": [5, 6]}},
    {"says": "how far", "kind": "report", "measure": "spread", "arm": "both"},
]  # fmt: skip


def paths_of(error: Exception) -> list[str]:
    """Of all that is wrong with a scenario, in order."""
    assert isinstance(error, ScenarioError)
    return [format_path(problem.path) for problem in error.problems]


@contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """Expect a file to be refused; why, is said in words of the library that reads it."""
    with pytest.raises(UserError) as found:
        yield
    assert (found.value.code, found.value.path) == ("unreadable", str(path))
    check_message(str(found.value).split(": ")[0])


def logged(folder: Path, cell: str) -> list[str]:
    """What the log says of a cell, without times and how long it took."""
    lines = [line.partition(" ")[2] for line in (folder / "log.txt").read_text().splitlines()]
    told = [line for line in lines if line.startswith((f"{cell}: ", f"cell {cell}: "))]
    return [line for line in told if not re.fullmatch(r".*: [0-9.]+ s", line)]
