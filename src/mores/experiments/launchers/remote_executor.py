"""Shared base of executors on other machines: submission, retries and results of cells."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Any

from mores.core.errors import UserError
from mores.experiments.launchers.remote_cell import (
    CellRequest,
    RemoteOutcome,
    remote_failure,
    write_remote_cell,
)
from mores.experiments.run.cell_execution import CellOutcome
from mores.experiments.run.cell_executor import CellExecutor, CellRetry, WorkerLossTracker
from mores.experiments.run.run_folder import CellTask

VISIBLE_TIMEOUT_SECONDS = 90.0  # how long a network file system may take to show a new folder
CANCEL_TIMEOUT_SECONDS = 10.0  # how long running cells may take to stop
POLL_SECONDS = 0.5


class WorkerLost(Exception):
    """The process or the machine that simulated a cell was lost; the text says how."""


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
        self._started: dict[Any, None] = {}  # handles of cells whose result was not read

    def register(self, handle: Any) -> None:
        """Note a cell that was started. `submit` calls it as soon as a handle is made.

        So the cell is cancelled even if a stop signal comes before `submit` returns.
        """
        self._started[handle] = None

    @abstractmethod
    def submit(self, requests: Sequence[CellRequest]) -> Sequence[Any]:
        """Start `simulate_remote_cell` for each of these requests; a hashable handle for each.

        If the folder is not shared, it is called with one request at a time: each has the
        checkpoint of its cell.

        Raises:
            UserError: cells cannot be submitted, for example since a cluster does not answer.
        """

    @abstractmethod
    def wait(self, handles: Sequence[Any]) -> Sequence[Any]:
        """Wait until some of the submitted cells have ended; their handles."""

    @abstractmethod
    def result(self, handle: Any) -> RemoteOutcome:
        """What a cell that has ended returned.

        Raises:
            WorkerLost: its worker was lost; the cell is submitted again, once.
            Exception: it cannot be simulated.
        """

    @abstractmethod
    def cancel(self, handles: Sequence[Any]) -> None:
        """Stop running cells; returns when nothing is simulated any more, as far as is known."""

    def run_tasks(
        self, tasks: Sequence[CellTask], callback: Callable[[str, float], None]
    ) -> Generator[CellOutcome | CellRetry, None, None]:
        """See `CellExecutor`; fractions of cells are not reported."""
        pending, worker_losses = deque(tasks), WorkerLossTracker()
        running: dict[Any, CellTask] = {}
        try:
            while pending or running:
                free = self.max_submitted - len(running) if self.max_submitted else len(pending)
                self._start([pending.popleft() for _ in range(min(free, len(pending)))], running)
                for handle in self.wait(list(running)):
                    task = running.pop(handle)
                    self._started.pop(handle, None)
                    event = self._event(handle, task, worker_losses)
                    if isinstance(event, CellRetry):
                        pending.append(task)
                    yield event
        finally:
            unfinished = list(running | self._started)
            self._started.clear()
            if unfinished:
                self.cancel(unfinished)

    def _start(self, tasks: Sequence[CellTask], running: dict[Any, CellTask]) -> None:
        """Submit the cells of these tasks, and add them to the running ones."""
        size = len(tasks) if self.shared_folder else 1
        for first in range(0, len(tasks), max(size, 1)):
            batch = tasks[first : first + size]
            requests = [CellRequest.of(task, self.shared_folder) for task in batch]
            for handle, task in zip(self.submit(requests), batch, strict=True):
                self.register(handle)
                running[handle] = task

    def _event(
        self, handle: Any, task: CellTask, worker_losses: WorkerLossTracker
    ) -> CellOutcome | CellRetry:
        """Outcome of a cell that has ended, or its retry."""
        try:
            remote_outcome = self.result(handle)
        except WorkerLost as error:
            return worker_losses.on_worker_lost(task.cell.id, str(error))
        except Exception as error:
            return remote_failure(task, error)
        if self.shared_folder and remote_outcome.outcome.error is None:
            return _when_visible(task, remote_outcome.outcome)
        return write_remote_cell(task, remote_outcome)


def _when_visible(task: CellTask, outcome: CellOutcome) -> CellOutcome:
    """Outcome of a cell that another machine has written, when this machine sees its folder."""
    deadline = time.monotonic() + VISIBLE_TIMEOUT_SECONDS
    while task.folder.name not in {path.name for path in task.folder.parent.iterdir()}:
        if time.monotonic() > deadline:
            message = (
                f"{task.folder} was written on another machine, but is not here: the run's folder "
                "must be on a disk that all machines share"
            )
            error = UserError(message, code="unreadable", path=str(task.folder))
            return CellOutcome(outcome.cell, error, outcome.notes, outcome.seconds)
        time.sleep(POLL_SECONDS)
    return outcome
