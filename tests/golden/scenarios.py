"""Every shipped scenario, cut to two replicates, two draws and two design points.

Its metrics, stage by stage and cell by cell, and what becomes of its claims: estimates, intervals,
verdicts. Cells and claims are known by their number, not by names of parameters.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet

from mores.experiments.claims.claim_evaluation import evaluate_claims
from mores.experiments.run.cell_execution import run_cell
from mores.experiments.run.engine import run_scenario
from mores.experiments.run.parameter_uncertainty import plan_cells
from mores.experiments.scenario.cell import Cell
from mores.experiments.scenario.loading import LoadedScenario, bundled_scenarios, load_scenario
from tests.golden.entries import Entry, entry

KEPT = 2  # replicates, draws, design points
QUICK = ("karate", "strategies", "lock_in", "influence_switch", "progress")


def entries(names: Sequence[str] | None = None) -> Iterator[tuple[str, Entry]]:
    """Of these scenarios, by default of all that are shipped."""
    for name in names or bundled_scenarios():
        yield from _scenario(name)


def cut(name: str) -> tuple[LoadedScenario, list[Cell]]:
    """A scenario with two replicates, and its cells: all arms, two draws, two design points."""
    loaded = load_scenario(name, [f"replicates={KEPT}"])
    cells = plan_cells(loaded, with_dry_run=False)
    return loaded, [cell for cell in cells if cell.purpose == "arm" or cell.index < KEPT]


def _scenario(name: str) -> Iterator[tuple[str, Entry]]:
    loaded, cells = cut(name)
    records = {}
    for number, cell in enumerate(cells):
        record = run_cell(cell, loaded.scenario, range(KEPT), lambda share: None)
        records[cell.id] = record
        for place, stage in enumerate(record.stages):
            for measure, values in stage.metrics.items():
                path = f"cell {number} {cell.arm}/stage {place}/{measure}"
                yield f"scenario/{name}/{path}", entry(values)
    for number, judged in enumerate(evaluate_claims(loaded.scenario, cells, records)):
        found = judged.verdict.estimate
        numbers = np.array([found.value, found.low, found.high, found.n], dtype=np.float64)
        word = f"claim {number} {judged.verdict.status}"
        yield f"scenario/{name}/{word}", entry(numbers)


def run_folder() -> Iterator[tuple[str, Entry]]:
    """What a run leaves on disk: the table of metrics, and the claims."""
    with tempfile.TemporaryDirectory() as folder:
        result = run_scenario(
            load_scenario("karate", ["replicates=4"]), out=Path(folder) / "run", progress=False
        )
        for number, cell in enumerate(sorted((result.folder / "cells").iterdir())):
            (file,) = cell.glob("*.parquet")
            table = pyarrow.parquet.read_table(file)
            yield f"run/karate/cell {number}/value", entry(table["value"].to_numpy())
        claims = json.loads((result.folder / "claims.json").read_text())
        for number, claim in enumerate(claims):
            numbers = [claim["estimate"], claim["low"], claim["high"], claim["n"]]
            word = f"claim {number} {claim['verdict']}"
            yield f"run/karate/{word}", entry(np.array(numbers, dtype=np.float64))
