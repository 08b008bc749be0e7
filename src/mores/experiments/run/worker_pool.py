"""Worker processes that play cells side by side, each on one thread.

A cell's numbers depend on nothing but the cell, so it does not matter who plays it, or when. A
worker writes the cells it plays itself: nothing large passes between processes, and there are never
more than N of them, with a cell in each, besides the one that gives the orders.
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
from typing import Any, BinaryIO, Protocol, runtime_checkable

from mores.core.errors import UserError
from mores.experiments.run.worker import CellTask

THREAD_COUNT_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


@runtime_checkable
class WorkerProcess(Protocol):
    """What is asked of a worker's process: `subprocess.Popen` does."""

    stdin: Any
    stdout: Any

    def kill(self) -> None:
        """End it at once."""

    def wait(self) -> int:
        """Its exit code, negative where a signal ended it."""
        ...


@dataclasses.dataclass(frozen=True)
class CellEvent:
    """What a worker tells of a cell.

    Attributes:
        cell: its id.
        kind: part, a share was played; done, it is written; again, its worker died, and another
            plays it; refused, broken, died: it failed; full: the disk says no.
        fraction: of the cell, since the last time.
        seconds: that the cell took.
        error: what went wrong, in a line.
        code, path: of a refusal, see `UserError`.
        traceback: the same at length.
        notes: what the log should say of how it was played.
    """

    cell: str
    kind: str
    fraction: float = 0.0
    seconds: float = 0.0
    error: str = ""
    code: str = ""
    path: str = ""
    traceback: str = ""
    notes: Sequence[str] = ()


class _Worker:
    """A process, the task it is at, and what it said but did not finish saying."""

    def __init__(self, process: WorkerProcess) -> None:
        self.process, self.ready, self._partial_line = process, False, b""
        self.task: CellTask | None = None

    @property
    def output(self) -> BinaryIO:
        return self.process.stdout

    def send(self, task: CellTask) -> None:
        self.task = task
        with contextlib.suppress(BrokenPipeError):  # it died: its reports will end
            pickle.dump(task, self.process.stdin)
            self.process.stdin.flush()

    def receive(self) -> list[dict[str, Any]] | None:
        """What it reports; None when it is gone."""
        read = os.read(self.output.fileno(), 2**16)
        if not read:
            return None
        *lines, self._partial_line = (self._partial_line + read).split(b"\n")
        return [json.loads(line) for line in lines]


def launch_worker() -> WorkerProcess:
    """Start a worker: with our search path for modules, deaf to the terminal's Ctrl-C."""
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
    """Up to so many workers, started when there is something to do. Used as a context manager.

    Args:
        num_workers: how many.
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
        """Play tasks in this order, as workers become free, and tell what becomes of them."""
        waiting, once = deque(tasks), set[str]()
        try:
            while waiting or any(worker.task for worker in self._workers):
                self._assign_tasks(waiting)
                for key, _ in self._selector.select(timeout=1.0):
                    worker: _Worker = key.data
                    messages = worker.receive()
                    if messages is not None:
                        yield from self._events(worker, messages)
                        continue
                    code, task = self._close_worker(worker), worker.task
                    if not worker.ready and (code or 0) < 0 and not self._restarted:
                        self._restarted = True  # killed by somebody, perhaps; once
                        waiting.extendleft([task] if task is not None else [])
                        continue
                    if not worker.ready:
                        what = f"a worker process does not start: {_describe_exit(code)}"
                        raise UserError(what, code="failed", path="jobs")
                    if task is None:
                        continue
                    what = f"its process ended: {_describe_exit(code)}"
                    if task.cell.id in once:
                        yield CellEvent(task.cell.id, "died", error=f"{what}, twice")
                    else:
                        once.add(task.cell.id)
                        waiting.append(task)
                        yield CellEvent(task.cell.id, "again", error=what)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all workers, whatever they are at: what they have written is whole."""
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
            what = message.pop("is")
            if what == "ready":
                worker.ready = True
                continue
            if what != "part":
                worker.task = None
            yield CellEvent(kind=what, **message)

    def _close_worker(self, worker: _Worker) -> int:
        self._workers.remove(worker)
        self._selector.unregister(worker.output)
        code = worker.process.wait()
        for pipe in (worker.process.stdin, worker.output):
            with contextlib.suppress(OSError):
                pipe.close()
        return code


def num_processes(jobs: int | WorkerPool) -> int:
    """How many processes play.

    Raises:
        UserError: a negative number of them is asked for.
    """
    if isinstance(jobs, WorkerPool):
        return jobs.num_workers
    if jobs < 0:
        message = f"jobs: {jobs} processes are none; 0 means one for each core"
        raise UserError(message, code="out_of_range", path="jobs")
    if jobs:
        return jobs
    mine = getattr(os, "sched_getaffinity", None)  # the cores that we may use, where it is told
    return len(mine(0)) if mine else os.cpu_count() or 1


def _describe_exit(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"{name}, as when memory runs out" if name == "SIGKILL" else name
