"""Simulate the missing cells of a run: in this process, or in parallel in worker processes.

A cell that fails does not stop the others: they are simulated first, and its error is raised at the
end. A full disk and a stop signal end the run at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

from mores.core.errors import UserError
from mores.experiments.results import atomic_files
from mores.experiments.results.cell_store import (
    StoredCellResults,
    read_training_summary,
    write_cell_result,
)
from mores.experiments.run.progress_display import ProgressDisplay
from mores.experiments.run.run_folder import CELLS_FOLDER
from mores.experiments.run.run_status import RunStatus
from mores.experiments.run.worker import CellTask
from mores.experiments.run.worker_pool import CellEvent, WorkerPool, num_processes
from mores.experiments.scenario.cell import Cell
from mores.experiments.scenario.specification import Scenario
from mores.registry import class_of


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

    def replicates_of(self, cell: Cell) -> Sequence[int]:
        """Replicates of a cell: fewer at draws of uncertain parameters."""
        if cell.purpose == "arm" or self.scenario.uncertainty is None:
            return self.replicates
        return range(self.scenario.uncertainty.replicates)

    def cost(self, cell: Cell) -> float:
        """Cost of a cell, in rounds of one world."""
        rounds = sum(s.episodes * (s.rounds or cell.rounds) for s in cell.stages)
        return float(rounds * self.scenario.worlds * len(self.replicates_of(cell)))

    def make_task(self, cell: Cell) -> CellTask:
        """The task of a cell, for a worker process."""
        folder = self.folder / CELLS_FOLDER / cell.id
        return CellTask(folder, cell, self.scenario, self.replicates_of(cell), self.plugin_files)

    def cell_results(self) -> StoredCellResults:
        """The results on disk."""
        return StoredCellResults(self.folder / CELLS_FOLDER, [cell.id for cell in self.cells])


def check_importable_by_workers(cells: Sequence[Cell]) -> None:
    """Check that worker processes can make the objects of all cells.

    Raises:
        UserError: a class is defined in the main script, which workers do not run.
    """
    for cell in cells:
        kinds: list[tuple[str, str]] = []
        for spec in map(cell.stage_spec, range(len(cell.stages))):
            kinds.append(("environment", spec.env["kind"]))
            kinds.extend(("policy", policy["kind"]) for policy in spec.policies.values())
        if cell.population is not None:
            kinds.append(("population", cell.population["kind"]))
        for registry_name, kind in kinds:
            if class_of(registry_name, kind).__module__ == "__main__":
                raise UserError(
                    f"jobs: the {registry_name} {kind!r} is defined in the main script: move it "
                    "to another file, and load that with mores.registry.plugins.load_plugins or "
                    "--load",
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
            if event.kind == "done":
                for note in event.notes:
                    status.log(f"{event.cell}: {note}")
                status.log(f"{event.cell}: {event.seconds:.2f} s")
                status.mark_done(
                    event.cell, read_training_summary(run_plan.folder / CELLS_FOLDER / event.cell)
                )
                if stopped := status.stopped_learners.get(event.cell):
                    progress_display.note(_training_note(event.cell, "a model stopped", stopped))
                if idle := status.idle_learners.get(event.cell):
                    progress_display.note(_training_note(event.cell, "models did not train", idle))
            elif event.kind == "retry":
                text = f"cell {event.cell}: {event.error}; it is simulated again"
                status.log(text)
                progress_display.note(text)
                progress_display.restart_cell(event.cell)
                continue
            else:
                first = first or error
                status.failed[event.cell] = event.error
                status.log(f"{event.cell} failed: {event.error}\n{event.traceback}".rstrip())
                if len(missing) > 1:
                    progress_display.note(f"cell {event.cell} failed: {event.error}")
            progress_display.finish_cell(event.cell)
    if first is not None:
        raise first


def _training_note(cell: str, title: str, messages: Sequence[str]) -> str:
    """The first diagnostic of a cell's learners and the number of others, in one line."""
    others = f", and {len(messages) - 1} more" if len(messages) > 1 else ""
    return f"cell {cell}: {title}: {messages[0]}{others}; the run continues"


def _run_cells(
    run_plan: RunPlan,
    missing: Sequence[Cell],
    progress_display: ProgressDisplay,
    jobs: int | WorkerPool,
) -> Generator[tuple[CellEvent, BaseException | None], None, None]:
    """Events of the cells, with the error of each that failed."""
    if not missing:
        return
    if not isinstance(jobs, WorkerPool) and num_processes(jobs) == 1:
        yield from _run_in_process(run_plan, missing, progress_display)
        return
    with contextlib.ExitStack() as stack:
        stack.callback(
            atomic_files.remove_partial_files, run_plan.folder / CELLS_FOLDER
        )  # after all workers have ended
        pool = (
            jobs
            if isinstance(jobs, WorkerPool)
            else stack.enter_context(WorkerPool(num_processes(jobs)))
        )
        # Long cells first: one that starts last would leave the other workers idle.
        ordered = sorted(missing, key=run_plan.cost, reverse=True)
        events = pool.run_tasks([run_plan.make_task(cell) for cell in ordered])
        for event in stack.enter_context(contextlib.closing(events)):
            if event.kind == "progress":
                progress_display.advance(event.cell, event.fraction)
            elif event.kind == "disk_full":
                raise atomic_files.WriteError(event.error, code=event.code, path=event.path)
            else:
                yield event, _error_of(event)


def _error_of(event: CellEvent) -> BaseException | None:
    message = f"cell {event.cell}: {event.error}"
    if event.kind == "user_error":
        return UserError(message, code=event.code, path=event.path)
    if event.kind == "worker_died":
        return CellDied(message, code="failed")
    if event.kind == "crashed":
        error = CellError(message)
        error.add_note(event.traceback)
        return error
    return None


def _run_in_process(
    run_plan: RunPlan, missing: Sequence[Cell], progress_display: ProgressDisplay
) -> Iterator[tuple[CellEvent, BaseException | None]]:
    from mores.experiments.run.cell_execution import run_cell
    from mores.experiments.run.checkpoint_store import CheckpointStore
    from mores.experiments.scenario.first_round_check import describe_exception

    with single_threaded():
        for cell in missing:
            start = time.monotonic()

            def report(fraction: float, cell: Cell = cell) -> None:
                progress_display.advance(cell.id, fraction)

            progress_display.advance(cell.id)
            try:
                folder = run_plan.folder / CELLS_FOLDER / cell.id
                arguments = (cell, run_plan.scenario, run_plan.replicates_of(cell))
                store = CheckpointStore(folder, *arguments, run_plan.plugin_files)
                write_cell_result(folder, run_cell(*arguments, report, checkpoint_store=store))
                store.remove()
            except atomic_files.WriteError:
                raise
            except UserError as error:
                yield CellEvent(cell.id, "user_error", error=str(error)), error
            except Exception as error:
                yield CellEvent(cell.id, "crashed", error=describe_exception(error)), error
            else:
                seconds = time.monotonic() - start
                yield CellEvent(cell.id, "done", seconds=seconds, notes=store.notes), None


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
