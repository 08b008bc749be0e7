"""Simulate one cell of an experiment, record its metrics and write them.

A cell is one arm at one point of the sweep, or at one or several of the draws of uncertain
parameters or of the points of a sensitivity analysis. Its worlds are simulated in chunks, which
bounds memory for any number of replicates. A world's results do not depend on its chunk, up to
rounding where stacked networks act.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence

from mores.core.current_cell import simulating_cell
from mores.core.tracker import Log
from mores.experiments.results.cell_result import CellResult
from mores.experiments.results.cell_store import write_cell_result
from mores.experiments.run.cell_log import CellLog
from mores.experiments.run.cell_runner import CellRunner, Cursor
from mores.experiments.run.checkpoint import CellCheckpoint
from mores.experiments.run.earlier_cell import read_earlier_cell, remove_earlier_cells
from mores.experiments.run.run_folder import CellTask
from mores.experiments.scenario.cell import BuiltCell, Cell
from mores.experiments.scenario.specification import Scenario
from mores.experiments.tracking.logs import open_logs, trackers_of
from mores.registry.plugins import load_plugins

MAX_CHUNK_ELEMENTS = 2**23  # tensor elements of a chunk of worlds


@dataclasses.dataclass(frozen=True)
class CellOutcome:
    """Outcome of a cell: it is written, or `error` is why not."""

    cell: str
    error: Exception | None
    notes: Sequence[str] = ()  # for the log
    seconds: float = 0.0  # wall time


def simulate_cell(task: CellTask, callback: Callable[[float], None]) -> CellOutcome:
    """Simulate a cell and write it; `callback` is that of `run_cell`.

    Replicates that were simulated before the run was extended are kept.
    """
    start, error, notes = time.monotonic(), None, list[str]()
    try:
        load_plugins(task.plugin_files)
        built_cell = task.cell.build()
        notes.extend(built_cell.remarks)
        earlier = read_earlier_cell(task)
        missing = earlier.missing_task(task)
        notes += [earlier.note] if earlier.note else []
        checkpoint = CellCheckpoint(missing)
        checkpoint.notes = notes
        arguments = (task.cell, task.scenario, missing.replicates)
        with contextlib.ExitStack() as stack:
            log = None
            if task.trackers:
                trackers, parameters = trackers_of(list(task.trackers)), _log_parameters(missing)
                opened = open_logs(trackers, task.cell.id, task.logs, parameters)
                log = stack.enter_context(opened)
            result = run_cell(*arguments, callback, built_cell, checkpoint, log)
        try:
            result = earlier.append(task, result)
        except ValueError as problem:
            notes.append(f"simulated from its start: {problem}")
            result = run_cell(task.cell, task.scenario, task.replicates, callback)
        write_cell_result(task.folder, result, task.identity)
        checkpoint.remove()
        remove_earlier_cells(task.folder.parent, [task.cell.id])
    except Exception as caught:
        error = caught
    return CellOutcome(task.cell.id, error, notes, time.monotonic() - start)


def _log_parameters(task: CellTask) -> dict[str, object]:
    """Parameters of a cell in its log."""
    cell, scenario = task.cell, task.scenario
    return {
        "scenario": scenario.name,
        "cell": cell.id,
        "replicates": len(cell.own_replicates(scenario, task.replicates)),
        "worlds": scenario.worlds,
        "rounds": cell.rounds,
        "seed": scenario.seed,
    }


def run_cell(
    cell: Cell,
    scenario: Scenario,
    replicates: Sequence[int],
    callback: Callable[[float], None],
    built_cell: BuiltCell | None = None,
    checkpoint: CellCheckpoint | None = None,
    log: Log | None = None,
) -> CellResult:
    """Simulate a cell, from its start or from its last checkpoint.

    Args:
        cell: the cell.
        scenario: its scenario.
        replicates: replicates of an arm's cell; for others see `Cell.own_replicates`.
        callback: called with the fraction of the cell simulated since its last call; the sum is 1.
        built_cell: environments, policies and population of the cell, if built before.
        checkpoint: reads and writes the checkpoint of the cell; by default there is none.
        log: where to log the episodes, if anywhere.
    """
    built_cell = built_cell or cell.build()
    worlds = cell.worlds(scenario, replicates)
    sizes = (staged.environment.elements_per_world for staged in built_cell.stages)
    chunk_size = max(1, MAX_CHUNK_ELEMENTS // max(1, *sizes))
    if any(staged.stage.roles_to_train for staged in built_cell.stages):
        # A replicate is not split: its worlds share their learners.
        chunk_size = max(1, chunk_size // scenario.worlds) * scenario.worlds
    cell_runner = CellRunner(built_cell, scenario, worlds, chunk_size, callback)
    if log is not None:
        cell_runner.cell_log = CellLog(log, built_cell.stages, len(worlds), chunk_size)
    with simulating_cell(cell.id):
        return cell_runner.run(checkpoint.attach(cell_runner) if checkpoint else Cursor())
