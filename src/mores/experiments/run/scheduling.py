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
from mores.experiments.results.cell_store import StoredRecords, learners_in, write_record
from mores.experiments.run.progress_display import Progress
from mores.experiments.run.run_folder import CELLS
from mores.experiments.run.run_status import Status
from mores.experiments.run.worker import Task
from mores.experiments.run.worker_pool import Event, Pool, processes
from mores.experiments.scenario.cell import Cell
from mores.experiments.scenario.specification import Scenario
from mores.registry import Shelf, class_of


class CellBroken(RuntimeError):
    """A defect of the code that a cell plays, in a worker process."""


class CellDied(UserError):
    """The process that played a cell ended, twice."""


@dataclasses.dataclass(frozen=True)
class Job:
    """A run as it is to be played.

    Attributes:
        folder: of the run.
        scenario: what is run.
        cells: all of its cells.
        replicates: which are played of the arms.
        modules: Python files of the user's own that it needs.
    """

    folder: Path
    scenario: Scenario
    cells: Sequence[Cell]
    replicates: Sequence[int]
    modules: tuple[str, ...] = ()

    def replicates_of(self, cell: Cell) -> Sequence[int]:
        """At draws of uncertain parameters fewer replicates are played."""
        if cell.purpose == "arm" or self.scenario.uncertain is None:
            return self.replicates
        return range(self.scenario.uncertain.replicates)

    def cost(self, cell: Cell) -> float:
        """How much there is to do in a cell, in rounds of a world."""
        rounds = sum(s.episodes * (s.rounds or cell.rounds) for s in cell.stages)
        return float(rounds * self.scenario.worlds * len(self.replicates_of(cell)))

    def task(self, cell: Cell) -> Task:
        """A cell, to be played elsewhere."""
        folder = self.folder / CELLS / cell.id
        return Task(folder, cell, self.scenario, self.replicates_of(cell), self.modules)

    def records(self) -> StoredRecords:
        """What is on disk."""
        return StoredRecords(self.folder / CELLS, [cell.id for cell in self.cells])


def check_known_elsewhere(cells: Sequence[Cell]) -> None:
    """See that worker processes can make what this one can.

    Raises:
        UserError: a class stands in the script that is running, which workers do not run.
    """
    for cell in cells:
        asked: list[tuple[Shelf, str]] = []
        for here in map(cell.asked, range(len(cell.stages))):
            asked.append(("environment", here.env["kind"]))
            asked.extend(("player", player["kind"]) for player in here.players.values())
        if cell.people is not None:
            asked.append(("population", cell.people["kind"]))
        for shelf, kind in asked:
            if class_of(shelf, kind).__module__ == "__main__":
                raise UserError(
                    f"jobs: the {shelf} {kind!r} is known to this script alone: put it into a file "
                    "of its own, and import that with mores.registry.plugins.load_modules or --load",
                    code="unsupported",
                    path="jobs",
                )


def play_missing(job: Job, status: Status, bar: Progress, jobs: int | Pool = 1) -> None:
    """Play the cells that `status` does not know to be done.

    Raises:
        CannotWrite: the disk says no; what was written is whole.
        UserError, Exception: a cell failed; all others were played.
    """
    missing = [cell for cell in job.cells if cell.id not in status.done]
    first: BaseException | None = None
    # Closed whatever happens here: no worker may go on when this is over.
    with contextlib.closing(_events(job, missing, bar, jobs)) as events:
        for event, error in events:
            if event.is_ == "done":
                for note in event.notes:
                    status.log(f"{event.cell}: {note}")
                status.log(f"{event.cell}: {event.seconds:.2f} s")
                status.finished(event.cell, learners_in(job.folder / CELLS / event.cell))
                if stopped := status.stopped.get(event.cell):
                    bar.note(_told(event.cell, "a learner stopped", stopped))
                if idle := status.idle.get(event.cell):
                    bar.note(_told(event.cell, "a learner did not learn", idle))
            elif event.is_ == "again":
                text = f"cell {event.cell}: {event.error}; it is played again"
                status.log(text)
                bar.note(text)
                bar.restart(event.cell)
                continue
            else:
                first = first or error
                status.failed[event.cell] = event.error
                status.log(f"{event.cell} failed: {event.error}\n{event.traceback}".rstrip())
                if len(missing) > 1:
                    bar.note(f"cell {event.cell} failed: {event.error}")
            bar.end(event.cell)
    if first is not None:
        raise first


def _told(cell: str, what: str, lines: Sequence[str]) -> str:
    """What happened to learners, in a line."""
    more = f", and {len(lines) - 1} more" if len(lines) > 1 else ""
    return f"cell {cell}: {what}: {lines[0]}{more}; the run goes on"


def _events(
    job: Job, missing: Sequence[Cell], bar: Progress, jobs: int | Pool
) -> Generator[tuple[Event, BaseException | None], None, None]:
    """What becomes of each cell, and the error of one that failed."""
    if not missing:
        return
    if not isinstance(jobs, Pool) and processes(jobs) == 1:
        yield from _here(job, missing, bar)
        return
    with contextlib.ExitStack() as stack:
        stack.callback(
            atomic_files.remove_parts, job.folder / CELLS
        )  # once no worker writes any more
        pool = jobs if isinstance(jobs, Pool) else stack.enter_context(Pool(processes(jobs)))
        # A long cell begun last would keep the others waiting.
        ordered = sorted(missing, key=job.cost, reverse=True)
        events = pool.play([job.task(cell) for cell in ordered])
        for event in stack.enter_context(contextlib.closing(events)):
            if event.is_ == "part":
                bar.advance(event.cell, event.share)
            elif event.is_ == "full":
                raise atomic_files.CannotWrite(event.error, code=event.code, path=event.path)
            else:
                yield event, _error(event)


def _error(event: Event) -> BaseException | None:
    message = f"cell {event.cell}: {event.error}"
    if event.is_ == "refused":
        return UserError(message, code=event.code, path=event.path)
    if event.is_ == "died":
        return CellDied(message, code="failed")
    if event.is_ == "broken":
        error = CellBroken(message)
        error.add_note(event.traceback)
        return error
    return None


def _here(
    job: Job, missing: Sequence[Cell], bar: Progress
) -> Iterator[tuple[Event, BaseException | None]]:
    from mores.experiments.run.cell_execution import play_cell
    from mores.experiments.run.checkpoint_store import Working
    from mores.experiments.scenario.first_round_check import broken

    with one_thread():
        for cell in missing:
            began = time.monotonic()

            def tick(share: float, cell: Cell = cell) -> None:
                bar.advance(cell.id, share)

            bar.advance(cell.id)
            try:
                folder = job.folder / CELLS / cell.id
                asked = (cell, job.scenario, job.replicates_of(cell))
                working = Working(folder, *asked, job.modules)
                write_record(folder, play_cell(*asked, tick, working=working))
                working.remove()
            except atomic_files.CannotWrite:
                raise
            except UserError as error:
                yield Event(cell.id, "refused", error=str(error)), error
            except Exception as error:
                yield Event(cell.id, "broken", error=broken(error)), error
            else:
                seconds = time.monotonic() - began
                yield Event(cell.id, "done", seconds=seconds, notes=working.notes), None


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Small tensors are quicker on one thread, and sums do not depend on how many there are."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
