"""Play the cells of a run that are missing: here, or side by side in worker processes.

A cell that fails does not take the others with it: they are played first, and its error is raised
in the end. A full disk and a request to stop end everything at once.
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
from mores.registry import RegistryName, class_of


class CellError(RuntimeError):
    """A defect of the code that a cell plays, in a worker process."""


class CellDied(UserError):
    """The process that played a cell ended, twice."""


@dataclasses.dataclass(frozen=True)
class RunPlan:
    """A run as it is to be played.

    Attributes:
        folder: of the run.
        scenario: what is run.
        cells: all of its cells.
        replicates: which are played of the arms.
        plugin_files: Python files of the user's own that it needs.
    """

    folder: Path
    scenario: Scenario
    cells: Sequence[Cell]
    replicates: Sequence[int]
    plugin_files: tuple[str, ...] = ()

    def replicates_of(self, cell: Cell) -> Sequence[int]:
        """At draws of uncertain parameters fewer replicates are played."""
        if cell.purpose == "arm" or self.scenario.uncertainty is None:
            return self.replicates
        return range(self.scenario.uncertainty.replicates)

    def cost(self, cell: Cell) -> float:
        """How much there is to do in a cell, in rounds of a world."""
        rounds = sum(s.episodes * (s.rounds or cell.rounds) for s in cell.stages)
        return float(rounds * self.scenario.worlds * len(self.replicates_of(cell)))

    def make_task(self, cell: Cell) -> CellTask:
        """A cell, to be played elsewhere."""
        folder = self.folder / CELLS_FOLDER / cell.id
        return CellTask(folder, cell, self.scenario, self.replicates_of(cell), self.plugin_files)

    def cell_results(self) -> StoredCellResults:
        """What is on disk."""
        return StoredCellResults(self.folder / CELLS_FOLDER, [cell.id for cell in self.cells])


def check_importable_by_workers(cells: Sequence[Cell]) -> None:
    """See that worker processes can make what this one can.

    Raises:
        UserError: a class stands in the script that is running, which workers do not run.
    """
    for cell in cells:
        asked: list[tuple[RegistryName, str]] = []
        for here in map(cell.stage_spec, range(len(cell.stages))):
            asked.append(("environment", here.env["kind"]))
            asked.extend(("policy", policy["kind"]) for policy in here.policies.values())
        if cell.population is not None:
            asked.append(("population", cell.population["kind"]))
        for shelf, kind in asked:
            if class_of(shelf, kind).__module__ == "__main__":
                raise UserError(
                    f"jobs: the {shelf} {kind!r} is known to this script alone: put it into a file "
                    "of its own, and import that with mores.registry.plugins.load_plugins or --load",
                    code="unsupported",
                    path="jobs",
                )


def run_missing_cells(
    run_plan: RunPlan,
    status: RunStatus,
    progress_display: ProgressDisplay,
    jobs: int | WorkerPool = 1,
) -> None:
    """Play the cells that `status` does not know to be done.

    Raises:
        CannotWrite: the disk says no; what was written is whole.
        UserError, Exception: a cell failed; all others were played.
    """
    missing = [cell for cell in run_plan.cells if cell.id not in status.done]
    first: BaseException | None = None
    # Closed whatever happens here: no worker may go on when this is over.
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
                    progress_display.note(_training_note(event.cell, "a learner stopped", stopped))
                if idle := status.idle_learners.get(event.cell):
                    progress_display.note(
                        _training_note(event.cell, "a learner did not learn", idle)
                    )
            elif event.kind == "again":
                text = f"cell {event.cell}: {event.error}; it is played again"
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


def _training_note(cell: str, what: str, messages: Sequence[str]) -> str:
    """What happened to learners, in a line."""
    more = f", and {len(messages) - 1} more" if len(messages) > 1 else ""
    return f"cell {cell}: {what}: {messages[0]}{more}; the run goes on"


def _run_cells(
    run_plan: RunPlan,
    missing: Sequence[Cell],
    progress_display: ProgressDisplay,
    jobs: int | WorkerPool,
) -> Generator[tuple[CellEvent, BaseException | None], None, None]:
    """What becomes of each cell, and the error of one that failed."""
    if not missing:
        return
    if not isinstance(jobs, WorkerPool) and num_processes(jobs) == 1:
        yield from _run_in_process(run_plan, missing, progress_display)
        return
    with contextlib.ExitStack() as stack:
        stack.callback(
            atomic_files.remove_partial_files, run_plan.folder / CELLS_FOLDER
        )  # once no worker writes any more
        pool = (
            jobs
            if isinstance(jobs, WorkerPool)
            else stack.enter_context(WorkerPool(num_processes(jobs)))
        )
        # A long cell begun last would keep the others waiting.
        ordered = sorted(missing, key=run_plan.cost, reverse=True)
        events = pool.run_tasks([run_plan.make_task(cell) for cell in ordered])
        for event in stack.enter_context(contextlib.closing(events)):
            if event.kind == "part":
                progress_display.advance(event.cell, event.fraction)
            elif event.kind == "full":
                raise atomic_files.WriteError(event.error, code=event.code, path=event.path)
            else:
                yield event, _error_of(event)


def _error_of(event: CellEvent) -> BaseException | None:
    message = f"cell {event.cell}: {event.error}"
    if event.kind == "refused":
        return UserError(message, code=event.code, path=event.path)
    if event.kind == "died":
        return CellDied(message, code="failed")
    if event.kind == "broken":
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
            began = time.monotonic()

            def tick(share: float, cell: Cell = cell) -> None:
                progress_display.advance(cell.id, share)

            progress_display.advance(cell.id)
            try:
                folder = run_plan.folder / CELLS_FOLDER / cell.id
                asked = (cell, run_plan.scenario, run_plan.replicates_of(cell))
                working = CheckpointStore(folder, *asked, run_plan.plugin_files)
                write_cell_result(folder, run_cell(*asked, tick, checkpoint_store=working))
                working.remove()
            except atomic_files.WriteError:
                raise
            except UserError as error:
                yield CellEvent(cell.id, "refused", error=str(error)), error
            except Exception as error:
                yield CellEvent(cell.id, "broken", error=describe_exception(error)), error
            else:
                seconds = time.monotonic() - began
                yield CellEvent(cell.id, "done", seconds=seconds, notes=working.notes), None


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    """Small tensors are quicker on one thread, and sums do not depend on how many there are."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
