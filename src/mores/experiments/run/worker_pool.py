"""Worker processes that simulate cells in parallel, each on one thread.

A cell's numbers depend on the cell alone, not on the process or the order. A worker writes its
cells itself, so nothing large passes between processes. There are at most N workers with one cell
each, besides the parent process.

`concurrent.futures.ProcessPoolExecutor` lacks what a run needs: a killed worker breaks the whole
pool without telling which cell it had, workers cannot be ended at once (before Python 3.14), they
import the user's main script again, and they send nothing before a task has ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import selectors
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from mores.core.errors import UserError
from mores.experiments.run.worker import CellEvent, CellTask

THREAD_COUNT_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


@runtime_checkable
class WorkerProcess(Protocol):
    """The interface of a worker's process; `subprocess.Popen` has it."""

    stdin: Any
    stdout: Any

    def kill(self) -> None:
        """End the process at once."""

    def wait(self) -> int:
        """Its exit code, negative if a signal ended it."""
        ...


class _Worker:
    """A process, its current task, and the start of an event that is not complete."""

    def __init__(self, process: WorkerProcess) -> None:
        self.process, self.ready, self._partial_line = process, False, b""
        self.task: CellTask | None = None

    def send(self, task: CellTask) -> None:
        self.task = task
        with contextlib.suppress(BrokenPipeError):  # it died: its events will end
            pickle.dump(task, self.process.stdin)
            self.process.stdin.flush()

    def receive(self) -> Iterator[CellEvent] | None:
        """Its complete events about cells; None if the process is gone."""
        data = os.read(self.process.stdout.fileno(), 2**16)
        if not data:
            return None
        *lines, self._partial_line = (self._partial_line + data).split(b"\n")
        return self._events(lines)

    def _events(self, lines: Sequence[bytes]) -> Iterator[CellEvent]:
        for event in (CellEvent(**json.loads(line)) for line in lines):
            if event.kind == "ready":
                self.ready = True
                continue
            if event.kind != "progress":
                self.task = None
            yield event


def launch_worker() -> WorkerProcess:
    """Start a worker with this process's module search path, in a new session (no Ctrl-C)."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    environment = os.environ | dict.fromkeys(THREAD_COUNT_VARIABLES, "1") | {"PYTHONPATH": path}
    return subprocess.Popen(
        [sys.executable, "-P", "-c", "from mores.experiments.run.worker import main; main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )


class WorkerPool(contextlib.AbstractContextManager["WorkerPool"]):
    """A number of workers, started on demand. Used as a context manager.

    Args:
        num_workers: maximum number of workers.
        start: starts one.
    """

    def __init__(
        self, num_workers: int, start: Callable[[], WorkerProcess] = launch_worker
    ) -> None:
        self.num_workers, self._start = num_workers, start
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self._restarted = False

    def __exit__(self, *exception: object) -> None:
        self.stop()
        self._selector.close()

    def run_tasks(self, tasks: Sequence[CellTask]) -> Generator[CellEvent, None, None]:
        """Assign tasks in this order to free workers; yield the events of their cells."""
        pending, retried = deque(tasks), set[str]()
        try:
            while pending or any(worker.task for worker in self._workers):
                self._assign_tasks(pending)
                for key, _ in self._selector.select(timeout=1.0):
                    worker: _Worker = key.data
                    events = worker.receive()
                    if events is None:
                        events = self._after_death(worker, pending, retried)
                    yield from events
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Kill all workers. The cells that they have written are complete."""
        for worker in self._workers:
            worker.process.kill()
        for worker in list(self._workers):
            self._close_worker(worker)

    def _assign_tasks(self, pending: deque[CellTask]) -> None:
        free = [worker for worker in self._workers if worker.task is None]
        while pending and (free or len(self._workers) < self.num_workers):
            if not free:
                free.append(_Worker(self._start()))
                self._workers += free
                self._selector.register(free[0].process.stdout, selectors.EVENT_READ, free[0])
            free.pop().send(pending.popleft())

    def _after_death(
        self, worker: _Worker, pending: deque[CellTask], retried: set[str]
    ) -> Iterator[CellEvent]:
        """Give the task of a process that has ended to another one, once."""
        code, task = self._close_worker(worker), worker.task
        if not worker.ready and (code >= 0 or self._restarted):
            message = f"a worker process does not start: {_describe_exit(code)}"
            raise UserError(message, code="failed", path="jobs")
        if task is None:
            return
        message = f"its process ended: {_describe_exit(code)}"
        if not worker.ready:  # killed before it started
            self._restarted = True
            pending.appendleft(task)
        elif task.cell.id in retried:
            yield CellEvent("worker_died", task.cell.id, error=f"{message}, twice")
        else:
            retried.add(task.cell.id)
            pending.append(task)
            yield CellEvent("retry", task.cell.id, error=message)

    def _close_worker(self, worker: _Worker) -> int:
        self._workers.remove(worker)
        self._selector.unregister(worker.process.stdout)
        code = worker.process.wait()
        for pipe in (worker.process.stdin, worker.process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        return code


def num_processes(jobs: int | WorkerPool) -> int:
    """Number of processes.

    Raises:
        UserError: the number is negative.
    """
    if isinstance(jobs, WorkerPool):
        return jobs.num_workers
    if jobs < 0:
        message = f"jobs: a number of processes of at least 0 (one per core), not {jobs}"
        raise UserError(message, code="out_of_range", path="jobs")
    if jobs:
        return jobs
    affinity = getattr(os, "sched_getaffinity", None)  # the cores that this process may use
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _describe_exit(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"{name}, as when memory runs out" if name == "SIGKILL" else name
