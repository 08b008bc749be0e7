"""The part that executors on other machines share: which cells are in work, and what follows."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Any

from mores.core.errors import UserError
from mores.experiments.launchers.remote_cell import (
    RemoteCell,
    RemoteEnd,
    remote_failure,
    write_remote_cell,
)
from mores.experiments.run.cell_execution import CellEnd
from mores.experiments.run.cell_executor import CellExecutor, CellRetry, DeathCounter
from mores.experiments.run.run_folder import CellTask

VISIBLE_SECONDS = 90.0  # that a network file system may take to show a new folder elsewhere
CANCEL_SECONDS = 10.0  # that cells in work may take to end
POLL_SECONDS = 0.5


class WorkerDied(Exception):
    """The process or the machine that simulated a cell ended; the text says how."""


class RemoteExecutor(CellExecutor):
    """Simulates cells elsewhere. A subclass submits them and waits for them.

    `simulate_remote_cell` is the function that another machine calls with what is submitted.

    Args:
        num_workers: see `CellExecutor`.
        shared_folder: whether all machines have the run's folder under its path.

    Attributes:
        max_submitted: number of cells that are submitted at a time, at most; 0: no limit. By
            default `num_workers`; 0 for a system that itself limits how many it starts.
    """

    def __init__(self, num_workers: int, shared_folder: bool) -> None:
        self.num_workers, self.shared_folder = num_workers, shared_folder
        self.max_submitted = num_workers

    @abstractmethod
    def submit(self, cells: Sequence[RemoteCell]) -> Sequence[Any]:
        """Start `simulate_remote_cell` for each of these cells; a hashable handle for each."""

    @abstractmethod
    def wait(self, handles: Sequence[Any]) -> Sequence[Any]:
        """Wait until some of the submitted cells have ended; their handles."""

    @abstractmethod
    def result(self, handle: Any) -> RemoteEnd:
        """What a cell that has ended returned.

        Raises:
            WorkerDied: its process ended; the cell is submitted again, once.
            Exception: it cannot be simulated.
        """

    @abstractmethod
    def cancel(self, handles: Sequence[Any]) -> None:
        """End cells in work; returns when nothing is simulated any more, as far as is known."""

    def run_tasks(
        self, tasks: Sequence[CellTask], callback: Callable[[str, float], None]
    ) -> Generator[CellEnd | CellRetry, None, None]:
        """See `CellExecutor`; fractions of cells are not reported."""
        pending, deaths = deque(tasks), DeathCounter()
        in_work: dict[Any, CellTask] = {}
        try:
            while pending or in_work:
                free = self.max_submitted - len(in_work) if self.max_submitted else len(pending)
                started = [pending.popleft() for _ in range(min(free, len(pending)))]
                if started:
                    cells = [RemoteCell.of(task, self.shared_folder) for task in started]
                    in_work.update(zip(self.submit(cells), started, strict=True))
                for handle in self.wait(list(in_work)):
                    task = in_work.pop(handle)
                    event = self._event(handle, task, deaths)
                    if isinstance(event, CellRetry):
                        pending.append(task)
                    yield event
        finally:
            if in_work:
                self.cancel(list(in_work))

    def _event(self, handle: Any, task: CellTask, deaths: DeathCounter) -> CellEnd | CellRetry:
        """What has become of a cell that has ended."""
        try:
            remote_end = self.result(handle)
        except WorkerDied as death:
            return deaths.after_death(task.cell.id, str(death))
        except Exception as error:
            return remote_failure(task, error)
        if self.shared_folder and remote_end.end.error is None:
            return _when_visible(task, remote_end.end)
        return write_remote_cell(task, remote_end)


def _when_visible(task: CellTask, end: CellEnd) -> CellEnd:
    """The end of a cell that another machine has written, when this machine sees its folder."""
    deadline = time.monotonic() + VISIBLE_SECONDS
    while task.folder.name not in {path.name for path in task.folder.parent.iterdir()}:
        if time.monotonic() > deadline:
            message = (
                f"{task.folder} was written on another machine, but is not here: the run's folder "
                "must be on a disk that all machines share"
            )
            error = UserError(message, code="unreadable", path=str(task.folder))
            return CellEnd(end.cell, error, end.notes, end.seconds)
        time.sleep(POLL_SECONDS)
    return end
