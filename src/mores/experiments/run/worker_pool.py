"""Worker processes that simulate cells in parallel, each on one thread.

A cell's numbers depend on the cell alone, not on the process or the order. A worker writes its
cells itself, so nothing large passes between processes: it receives a `CellTask`, and sends `None`
when it has started, fractions of the cell, and a `CellOutcome`. It exits when the connection closes
and abandons the running cell: results are written atomically, so none is left half-written.

`concurrent.futures.ProcessPoolExecutor` lacks what a run needs: a killed worker breaks the whole
pool without telling which cell it had, workers cannot be ended at once (before Python 3.14), they
import the user's main script again, and they send nothing before a task has ended.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from mores.core.errors import UserError, describe_exception
from mores.experiments.results.atomic_files import WriteError
from mores.experiments.run.cell_execution import CellOutcome, simulate_cell
from mores.experiments.run.cell_executor import CellExecutor, CellRetry, WorkerLossTracker
from mores.experiments.run.run_folder import CellTask

REPORT_INTERVAL = 0.2  # seconds between two fractions
THREAD_COUNTS: dict[str, str] = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)


class CellError(RuntimeError):
    """An exception that a cell raised in a worker process; its traceback is a note."""


def serve(connection: Connection) -> None:
    """Simulate the cells that arrive, one after another; exit when the connection closes."""
    torch.set_num_threads(1)
    tasks: queue.SimpleQueue[CellTask] = queue.SimpleQueue()

    def receive_tasks() -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                tasks.put(connection.recv())
        os._exit(0)  # the parent process is gone

    def send(message: Any) -> None:
        try:
            connection.send(message)
        except OSError:  # likewise
            os._exit(0)

    threading.Thread(target=receive_tasks, daemon=True).start()
    send(None)
    while True:
        task = tasks.get()
        fraction = last_report = 0.0

        def report(increment: float) -> None:
            nonlocal fraction, last_report
            fraction += increment
            if time.monotonic() - last_report >= REPORT_INTERVAL:
                send(fraction)
                fraction, last_report = 0.0, time.monotonic()

        send(portable_outcome(simulate_cell(task, report)))


def portable_outcome(outcome: CellOutcome) -> CellOutcome:
    """Outcome of a cell, without classes of errors that another process may not know."""
    return dataclasses.replace(outcome, error=outcome.error and _portable_error(outcome.error))


def _portable_error(error: Exception) -> Exception:
    if isinstance(error, WriteError):
        return error
    if isinstance(error, UserError):
        return UserError(str(error), code=error.code, path=error.path)
    portable = CellError(describe_exception(error))
    portable.add_note("".join(traceback.format_exception(error)))
    return portable


class Worker:
    """A process that simulates cells, and its current task."""

    def __init__(self) -> None:
        self.connection, other_end = multiprocessing.Pipe()
        self.process = self.launch(other_end)
        other_end.close()
        self.ready = False
        self.task: CellTask | None = None

    def launch(self, connection: Connection) -> Any:
        """Start the process, with this one's module search path, in a new session (no Ctrl-C)."""
        path = os.pathsep.join(entry for entry in sys.path if entry)
        program = (
            "from multiprocessing.connection import Connection\n"
            "from mores.experiments.run.worker_pool import serve\n"
            f"serve(Connection({connection.fileno()}))"
        )
        return subprocess.Popen(
            [sys.executable, "-P", "-c", program],
            stdin=subprocess.DEVNULL,
            stdout=2,  # prints of the user's classes
            env=os.environ | THREAD_COUNTS | {"PYTHONPATH": path},
            pass_fds=[connection.fileno()],
            start_new_session=True,
        )


class WorkerPool(CellExecutor):
    """At most so many workers with one cell each, started on demand. Used as a context manager."""

    def __init__(self, num_workers: int, start: Callable[[], Worker] = Worker) -> None:
        self.num_workers, self._start = num_workers, start
        self._workers: list[Worker] = []

    def stop(self) -> None:
        """Kill all workers. The cells that they have written are complete."""
        for worker in self._workers:
            worker.process.kill()
        for worker in list(self._workers):
            self._remove(worker)

    def run_tasks(
        self, tasks: Sequence[CellTask], callback: Callable[[str, float], None]
    ) -> Generator[CellOutcome | CellRetry, None, None]:
        """Assign tasks in this order to free workers; see `CellExecutor`."""
        pending, worker_losses = deque(tasks), WorkerLossTracker()
        try:
            while pending or any(worker.task for worker in self._workers):
                self._assign_tasks(pending)
                ready = wait([worker.connection for worker in self._workers])
                for worker in [each for each in self._workers if each.connection in ready]:
                    try:
                        message = worker.connection.recv()
                    except (EOFError, OSError):
                        yield from self._on_worker_lost(worker, pending, worker_losses)
                        continue
                    if message is None:
                        worker.ready = True
                    elif isinstance(message, CellOutcome):
                        worker.task = None
                        yield message
                    elif worker.task is not None:
                        callback(worker.task.cell.id, message)
        except BaseException:
            self.stop()
            raise

    def _assign_tasks(self, pending: deque[CellTask]) -> None:
        free = [worker for worker in self._workers if worker.task is None]
        while pending and (free or len(self._workers) < self.num_workers):
            if not free:
                free.append(self._start())
                self._workers += free
            worker = free.pop()
            worker.task = pending.popleft()
            with contextlib.suppress(OSError):  # it has ended: so will its connection
                worker.connection.send(worker.task)

    def _on_worker_lost(
        self, worker: Worker, pending: deque[CellTask], worker_losses: WorkerLossTracker
    ) -> Generator[CellOutcome | CellRetry, None, None]:
        """Give the task of a process that has ended to another one, once."""
        code = self._remove(worker)
        reason = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        if code == -signal.SIGKILL:
            reason += ", as when memory runs out"
        if code >= 0 and not worker.ready:
            message = f"a worker process does not start: {reason}"
            raise UserError(message, code="failed", path="jobs")
        if worker.task is None:
            return
        event = worker_losses.on_worker_lost(worker.task.cell.id, f"its process ended: {reason}")
        if isinstance(event, CellRetry):
            pending.append(worker.task)
        yield event

    def _remove(self, worker: Worker) -> int:
        """Forget a process that ends; return its exit code, negative if a signal ended it."""
        self._workers.remove(worker)
        worker.connection.close()
        return worker.process.wait()


def num_processes(jobs: int | CellExecutor) -> int:
    """Number of processes; 0: as many as an executor has.

    Raises:
        UserError: it is no number, or negative.
    """
    if isinstance(jobs, CellExecutor):
        return jobs.num_workers
    is_number = type(jobs) is int
    if not is_number or jobs < 0:
        message = f"jobs: a number of processes of at least 0 (one per core), not {jobs!r:.40}"
        raise UserError(message, code="out_of_range" if is_number else "wrong_type", path="jobs")
    if jobs:
        return jobs
    affinity = getattr(os, "sched_getaffinity", None)  # the cores that this process may use
    return len(affinity(0)) if affinity else os.cpu_count() or 1
