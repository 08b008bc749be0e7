"""Simulate the missing cells of a run: in this process, or in parallel in worker processes.

A cell that fails does not stop the others: they are simulated first, and its error is raised at the
end. A full disk and a stop signal end the run at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import re
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from mores.core.errors import UserError
from mores.experiments.results import atomic_files
from mores.experiments.results.cell_store import StoredCellResults, read_training_summary
from mores.experiments.run.progress_display import ProgressDisplay
from mores.experiments.run.run_folder import CELLS_FOLDER
from mores.experiments.run.run_status import RunStatus
from mores.experiments.run.worker import CellEvent, CellTask, simulate_cell
from mores.experiments.run.worker_pool import WorkerPool, num_processes
from mores.experiments.scenario.cell import Cell
from mores.experiments.scenario.specification import Scenario
from mores.registry import REGISTRIES


class CellError(RuntimeError):
    """An exception that a cell raised in a worker process."""


class CellDied(UserError):
    """The process that simulated a cell ended, twice."""


@dataclasses.dataclass(frozen=True)
class RunPlan:
    """The cells of a run and how they are simulated.

    Attributes:
        folder: folder of the run.
        scenario: the scenario.
        cells: all of its cells.
        replicates: indices of the arms' replicates to simulate.
        plugin_files: Python files of the user that the run needs.
    """

    folder: Path
    scenario: Scenario
    cells: Sequence[Cell]
    replicates: Sequence[int]
    plugin_files: tuple[str, ...] = ()

    def cost(self, cell: Cell) -> float:
        """Cost of a cell, in rounds of one world."""
        rounds = sum(s.episodes * (s.rounds or cell.rounds) for s in cell.stages)
        replicates = cell.own_replicates(self.scenario, self.replicates)
        return float(rounds * self.scenario.worlds * len(replicates))

    def make_task(self, cell: Cell) -> CellTask:
        """The task of a cell."""
        folder = self.folder / CELLS_FOLDER / cell.id
        return CellTask(folder, cell, self.scenario, self.replicates, self.plugin_files)

    def cell_results(self) -> StoredCellResults:
        """The results on disk."""
        return StoredCellResults(self.folder / CELLS_FOLDER, [cell.id for cell in self.cells])


def check_importable_by_workers(cells: Sequence[Cell], metrics: Sequence[Any]) -> None:
    """Check that worker processes can make the objects of all cells.

    Raises:
        UserError: a class is defined in the main script, which workers do not run.
    """
    own = [
        (name, kind)
        for name, registry in REGISTRIES.items()
        for kind, entry in registry.items()
        if getattr(entry, "__module__", "") == "__main__"
    ]
    if not own:
        return
    specs = [
        [cell.population, metrics, *((each.env, each.policies) for each in map(cell.stage_spec, n))]
        for cell in cells
        for n in [range(len(cell.stages))]
    ]
    words = set(re.findall(r"\w+", json.dumps(specs, default=str)))  # kinds stand at any depth
    for registry_name, kind in own:
        if kind in words:
            raise UserError(
                f"jobs: the {registry_name.replace('_', ' ')} {kind!r} is defined in the main "
                "script: move it to another file, and load that with "
                "mores.registry.plugins.load_plugins or --load",
                code="unsupported",
                path="jobs",
            )


def run_missing_cells(
    run_plan: RunPlan,
    status: RunStatus,
    progress_display: ProgressDisplay,
    jobs: int | WorkerPool = 1,
) -> None:
    """Simulate the cells that are not done in `status`.

    Raises:
        WriteError: the folder cannot be written; files written before are complete.
        UserError, Exception: a cell failed; all others were simulated.
    """
    missing = [cell for cell in run_plan.cells if cell.id not in status.done]
    first: BaseException | None = None
    # Closed in all cases: no worker may continue after this function.
    with contextlib.closing(_run_cells(run_plan, missing, progress_display, jobs)) as events:
        for event, error in events:
            name = event.cell
            if event.kind == "progress":
                progress_display.advance(name, event.fraction)
                continue
            if event.kind == "retry":
                text = f"cell {name}: {event.error}; it is simulated again"
                status.log(text)
                progress_display.note(text)
                progress_display.restart_cell(name)
                continue
            if event.kind == "disk_full":
                raise error or atomic_files.WriteError(
                    event.error, code=event.code, path=event.path
                )
            if event.kind == "done":
                for line in (*event.notes, f"{event.seconds:.2f} s"):
                    status.log(f"{name}: {line}")
                folder = run_plan.folder / CELLS_FOLDER / name
                status.mark_done(name, read_training_summary(folder))
                for title, messages in (
                    ("a model stopped", status.stopped_learners.get(name)),
                    ("models did not train", status.idle_learners.get(name)),
                ):
                    if messages:
                        others = f", and {len(messages) - 1} more" if messages[1:] else ""
                        progress_display.note(
                            f"cell {name}: {title}: {messages[0]}{others}; the run continues"
                        )
            else:
                first = first or error or _error_of(event)
                status.failed[name] = event.error
                status.log(f"{name} failed: {event.error}\n{event.traceback}".rstrip())
                if len(missing) > 1:
                    progress_display.note(f"cell {name} failed: {event.error}")
            progress_display.finish_cell(name)
    if first is not None:
        raise first


def _run_cells(
    run_plan: RunPlan,
    missing: Sequence[Cell],
    progress_display: ProgressDisplay,
    jobs: int | WorkerPool,
) -> Generator[tuple[CellEvent, BaseException | None], None, None]:
    """Events of the cells, with the exception of a cell that failed in this process."""
    if not isinstance(jobs, WorkerPool) and num_processes(jobs) == 1:
        with single_threaded():
            for cell in missing:
                progress_display.advance(cell.id)
                report = functools.partial(progress_display.advance, cell.id)
                yield simulate_cell(run_plan.make_task(cell), report)
        return
    with contextlib.ExitStack() as stack:
        # after all workers have ended
        stack.callback(atomic_files.remove_partial_files, run_plan.folder / CELLS_FOLDER)
        if not isinstance(jobs, WorkerPool):
            jobs = stack.enter_context(WorkerPool(num_processes(jobs)))
        # Long cells first: one that starts last would leave the other workers idle.
        ordered = sorted(missing, key=run_plan.cost, reverse=True)
        events = jobs.run_tasks([run_plan.make_task(cell) for cell in ordered])
        for event in stack.enter_context(contextlib.closing(events)):
            yield event, None


def _error_of(event: CellEvent) -> BaseException:
    """The error of a cell that failed in a worker process."""
    message = f"cell {event.cell}: {event.error}"
    if event.kind == "user_error":
        return UserError(message, code=event.code, path=event.path)
    if event.kind == "worker_died":
        return CellDied(message, code="failed")
    error = CellError(message)
    error.add_note(event.traceback)
    return error


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    """Use one thread: small tensors are faster, and sums do not depend on the number of threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
