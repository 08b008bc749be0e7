"""Worker processes that simulate cells in parallel, each on one thread.

A cell's numbers depend on the cell alone, not on the process or the order. A worker writes its
cells itself, so nothing large passes between processes. There are at most N workers with one cell
each, besides the parent process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pickle
import selectors
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from types import TracebackType
from typing import Any, BinaryIO, Literal, Protocol, runtime_checkable

from mores.core.errors import UserError
from mores.experiments.run.worker import CellTask

THREAD_COUNT_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
CellEventKind = Literal["progress", "done", "retry", "user_error", "crashed",
                        "worker_died", "disk_full"]  # fmt: skip


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


@dataclasses.dataclass(frozen=True)
class CellEvent:
    """An event of a cell.

    Attributes:
        cell: its id.
        kind: progress: a fraction was simulated; done: it is written; retry: its worker died, and
            another simulates it; user_error, crashed, worker_died: it failed; disk_full.
        fraction: of the cell, since the last event.
        seconds: wall time of the cell.
        error: what is wrong, in one line.
        code, path: of a user error, see `UserError`.
        traceback: traceback of a crash.
        notes: lines for the log.
    """

    cell: str
    kind: CellEventKind
    fraction: float = 0.0
    seconds: float = 0.0
    error: str = ""
    code: str = ""
    path: str = ""
    traceback: str = ""
    notes: Sequence[str] = ()


class _Worker:
    """A process, its current task, and the start of a message that is not complete."""

    def __init__(self, process: WorkerProcess) -> None:
        self.process, self.ready, self._partial_line = process, False, b""
        self.task: CellTask | None = None

    @property
    def output(self) -> BinaryIO:
        return self.process.stdout

    def send(self, task: CellTask) -> None:
        self.task = task
        with contextlib.suppress(BrokenPipeError):  # it died: its messages will end
            pickle.dump(task, self.process.stdin)
            self.process.stdin.flush()

    def receive(self) -> list[dict[str, Any]] | None:
        """Its complete messages; None if the process is gone."""
        data = os.read(self.output.fileno(), 2**16)
        if not data:
            return None
        *lines, self._partial_line = (self._partial_line + data).split(b"\n")
        return [json.loads(line) for line in lines]


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


class WorkerPool:
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

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
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
                    messages = worker.receive()
                    if messages is not None:
                        yield from self._events(worker, messages)
                        continue
                    code, task = self._close_worker(worker), worker.task
                    if not worker.ready and (code or 0) < 0 and not self._restarted:
                        self._restarted = True  # killed before it started: try once more
                        pending.extendleft([task] if task is not None else [])
                        continue
                    if not worker.ready:
                        message = f"a worker process does not start: {_describe_exit(code)}"
                        raise UserError(message, code="failed", path="jobs")
                    if task is None:
                        continue
                    message = f"its process ended: {_describe_exit(code)}"
                    if task.cell.id in retried:
                        yield CellEvent(task.cell.id, "worker_died", error=f"{message}, twice")
                    else:
                        retried.add(task.cell.id)
                        pending.append(task)
                        yield CellEvent(task.cell.id, "retry", error=message)
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
        while pending:
            if free:
                worker = free.pop()
            elif len(self._workers) < self.num_workers:
                worker = _Worker(self._start())
                self._workers.append(worker)
                self._selector.register(worker.output, selectors.EVENT_READ, worker)
            else:
                return
            worker.send(pending.popleft())

    def _events(self, worker: _Worker, messages: list[dict[str, Any]]) -> Iterator[CellEvent]:
        for message in messages:
            if message["kind"] == "ready":
                worker.ready = True
                continue
            if message["kind"] != "progress":
                worker.task = None
            yield CellEvent(**message)

    def _close_worker(self, worker: _Worker) -> int:
        self._workers.remove(worker)
        self._selector.unregister(worker.output)
        code = worker.process.wait()
        for pipe in (worker.process.stdin, worker.output):
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
