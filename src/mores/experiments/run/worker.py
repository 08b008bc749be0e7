"""Simulate one cell, and a worker process that does so for the cells that its parent sends.

Tasks arrive on standard input, pickled by the parent; events leave on standard output, one JSON
object per line. The process exits when standard input closes, and abandons the cell in work:
results are written atomically, so none is left half-written.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, Literal

from mores.core.errors import UserError, describe_exception
from mores.experiments.scenario.cell import Cell
from mores.experiments.scenario.specification import Scenario
from mores.registry.plugins import load_plugins

REPORT_INTERVAL = 0.2  # seconds between progress events
CellEventKind = Literal["ready", "progress", "done", "retry", "user_error", "crashed",
                        "worker_died", "disk_full"]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class CellTask:
    """A cell to simulate.

    Attributes:
        folder: folder of the cell.
        cell, scenario: the cell and its scenario.
        replicates: the replicates to simulate.
        plugin_files: Python files of the user that the cell may need.
    """

    folder: Path
    cell: Cell
    scenario: Scenario
    replicates: Sequence[int]
    plugin_files: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class CellEvent:
    """An event of a cell.

    Attributes:
        kind: ready: the worker has started; progress: a fraction was simulated; done: the cell is
            written; retry: its worker died, and another simulates it; user_error, crashed,
            worker_died: it failed; disk_full.
        cell: id of the cell.
        fraction: of the cell, since the last event.
        seconds: wall time of the cell.
        error: what is wrong, in one line.
        code, path: of a user error, see `UserError`.
        traceback: traceback of a crash.
        notes: lines for the log.
    """

    kind: CellEventKind
    cell: str = ""
    fraction: float = 0.0
    seconds: float = 0.0
    error: str = ""
    code: str = ""
    path: str = ""
    traceback: str = ""
    notes: Sequence[str] = ()


def simulate_cell(
    task: CellTask, report: Callable[[float], None]
) -> tuple[CellEvent, Exception | None]:
    """Simulate a cell and write it; return its last event, and its exception if it failed.

    Args:
        task: the cell.
        report: called with the fraction of the cell simulated since its last call.
    """
    from mores.experiments.results.atomic_files import WriteError
    from mores.experiments.results.cell_store import write_cell_result
    from mores.experiments.run.cell_execution import run_cell
    from mores.experiments.run.checkpoint_store import CheckpointStore

    cell, start = task.cell.id, time.monotonic()
    try:
        load_plugins(task.plugin_files)
        arguments = (task.cell, task.scenario, task.replicates)
        store = CheckpointStore(task.folder, *arguments, task.plugin_files)
        write_cell_result(task.folder, run_cell(*arguments, report, checkpoint_store=store))
        store.remove()
    except UserError as error:
        kind = "disk_full" if isinstance(error, WriteError) else "user_error"
        return CellEvent(kind, cell, error=str(error), code=error.code, path=error.path), error
    except Exception as error:
        lines = traceback.format_exc()
        return CellEvent("crashed", cell, error=describe_exception(error), traceback=lines), error
    return CellEvent("done", cell, seconds=time.monotonic() - start, notes=store.notes), None


def main() -> None:
    """Simulate the cells that arrive on standard input; exit when it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C
    events = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # prints of the user's classes must not mix with the events
    serve(sys.stdin.buffer, events)


def serve(task_stream: BinaryIO, event_stream: BinaryIO) -> None:
    """Simulate cells one after another; exit the process when the task stream ends."""
    import torch

    from mores.experiments.run import cell_execution  # noqa: F401 (imported while idle)

    torch.set_num_threads(1)
    tasks: queue.SimpleQueue[CellTask] = queue.SimpleQueue()

    def read_tasks() -> None:
        try:
            while True:
                tasks.put(pickle.load(task_stream))
        except (EOFError, pickle.UnpicklingError, OSError):
            os._exit(0)

    def send(event: CellEvent) -> None:
        try:
            event_stream.write(json.dumps(vars(event)).encode() + b"\n")
            event_stream.flush()
        except OSError:  # the parent process is gone
            os._exit(0)

    threading.Thread(target=read_tasks, daemon=True).start()
    send(CellEvent("ready"))
    while True:
        task = tasks.get()
        fraction = last_report = 0.0

        def report(increment: float, cell: str = task.cell.id) -> None:
            nonlocal fraction, last_report
            fraction += increment
            if time.monotonic() - last_report >= REPORT_INTERVAL:
                send(CellEvent("progress", cell, fraction))
                fraction, last_report = 0.0, time.monotonic()

        send(simulate_cell(task, report)[0])
