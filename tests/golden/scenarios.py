"""Bundled scenarios, cut to two replicates, two draws and two design points.

Those that train for minutes are left out: training amplifies differences of last bits. The numbers
of their environments are among those of `environments`.

Its metrics by cell and stage, and its claims: estimates, intervals, verdicts. Cells and claims have
their index as name, not the names of parameters.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet

from mores.experiments.claims.claim_evaluation import evaluate_claims
from mores.experiments.results.cell_result import StageResult
from mores.experiments.results.separate_draws import separate_draws
from mores.experiments.run.cell_execution import run_cell
from mores.experiments.run.engine import run_scenario
from mores.experiments.run.parameter_uncertainty import plan_cells
from mores.experiments.scenario.cell import Cell
from mores.experiments.scenario.loading import LoadedScenario, bundled_scenarios, load_scenario
from tests.golden.entries import Entry, entry

NUM_KEPT = 2  # replicates, draws, design points
LEFT_OUT = (
    "biased_users",
    "contracts",
    "control",
    "llm",
    "principal_agent",
    "weak_to_strong",
    "welfare",
)


def covered() -> list[str]:
    """Names of the scenarios that have golden numbers."""
    return [name for name in bundled_scenarios() if not name.startswith(LEFT_OUT)]


def entries(names: Sequence[str] | None = None) -> Iterator[tuple[str, Entry]]:
    """Entries of these scenarios; default: all that are covered."""
    for name in names or covered():
        yield from _scenario(name)


def with_training() -> list[str]:
    """Names of the bundled scenarios that train policies."""
    files = {name: load_scenario(name, []) for name in covered()}
    return [n for n, f in files.items() if any(s.roles_to_train for s in f.scenario.stages)]


def cut(name: str) -> tuple[LoadedScenario, list[Cell]]:
    """A scenario with two replicates, and its cells: all arms, two draws, two design points."""
    loaded = load_scenario(name, [f"replicates={NUM_KEPT}"])
    cells = plan_cells(loaded, with_dry_run=False).cells
    kept = [cell for cell in cells if cell.purpose == "arm" or cell.index < NUM_KEPT]
    draws = [tuple(draw for draw in cell.draws if draw.index < NUM_KEPT) for cell in kept]
    pairs = zip(kept, draws, strict=True)
    return loaded, [dataclasses.replace(cell, draws=draws) for cell, draws in pairs]


def _scenario(name: str) -> Iterator[tuple[str, Entry]]:
    loaded, cells = cut(name)
    results = {
        cell.id: run_cell(cell, loaded.scenario, range(NUM_KEPT), lambda share: None)
        for cell in cells
    }
    cells, results = separate_draws(cells, results)
    for index, cell in enumerate(cells):
        result = results[cell.id]
        for stage_index, stage in enumerate(result.stages):
            for metric in _numbered(stage):
                values = stage.array(metric)
                path = f"cell {index} {cell.arm}/stage {stage_index}/{metric}"
                yield f"scenario/{name}/{path}", entry(values)
    for index, verdict in enumerate(evaluate_claims(loaded.scenario, cells, results)):
        estimate = verdict.estimate
        numbers = np.array(
            [estimate.value, estimate.low, estimate.high, estimate.n], dtype=np.float64
        )
        label = f"claim {index} {verdict.status}"
        yield f"scenario/{name}/{label}", entry(numbers)


def _numbered(stage: StageResult) -> list[str]:
    """Names of all metrics, and of components by index, not by name."""
    sizes = {str(name): data.shape[3:] for name, data in stage.metrics.items()}
    return [
        name
        for metric, size in sizes.items()
        for name in ([f"{metric}[{i}]" for i in range(size[0])] if size else [metric])
    ]


def run_folder() -> Iterator[tuple[str, Entry]]:
    """What a run leaves on disk: the table of metrics, and the claims."""
    with tempfile.TemporaryDirectory() as folder:
        result = run_scenario(
            load_scenario("karate", ["replicates=4"]), out=Path(folder) / "run", progress=False
        )
        for index, cell in enumerate(sorted((result.folder / "cells").iterdir())):
            (file,) = cell.glob("*.parquet")
            table = pyarrow.parquet.read_table(file)
            yield f"run/karate/cell {index}/value", entry(table["value"].to_numpy())
        claims = json.loads((result.folder / "claims.json").read_text())
        for index, claim in enumerate(claims):
            numbers = [claim["estimate"], claim["low"], claim["high"], claim["n"]]
            label = f"claim {index} {claim['verdict']}"
            yield f"run/karate/{label}", entry(np.array(numbers, dtype=np.float64))
