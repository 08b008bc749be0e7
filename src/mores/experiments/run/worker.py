"""A worker process: simulates the cells that its parent process sends.

Tasks arrive on standard input, pickled by the parent; messages leave on standard output, one JSON
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
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from mores.core.errors import UserError
from mores.experiments.scenario.cell import Cell
from mores.experiments.scenario.specification import Scenario
from mores.registry.plugins import load_plugins

REPORT_INTERVAL = 0.2  # seconds between progress messages


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


def main() -> None:
    """Simulate the cells that arrive on standard input; exit when it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C
    messages = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # prints of the user's classes must not mix with the messages
    serve(sys.stdin.buffer, messages)


def serve(task_stream: BinaryIO, message_stream: BinaryIO) -> None:
    """Simulate cells one after another; exit the process when the task stream ends."""
    import torch

    from mores.experiments.run import cell_execution  # noqa: F401 (imported while idle)

    torch.set_num_threads(1)
    task_queue: queue.SimpleQueue[CellTask] = queue.SimpleQueue()
    threading.Thread(target=_read_tasks, args=(task_stream, task_queue), daemon=True).start()
    _send(message_stream, kind="ready")
    while True:
        _run_task(task_queue.get(), message_stream)


def _read_tasks(task_stream: BinaryIO, task_queue: queue.SimpleQueue[CellTask]) -> None:
    try:
        while True:
            task_queue.put(pickle.load(task_stream))
    except (EOFError, pickle.UnpicklingError, OSError):
        os._exit(0)


def _run_task(task: CellTask, message_stream: BinaryIO) -> None:
    from mores.experiments.results.atomic_files import WriteError
    from mores.experiments.results.cell_store import write_cell_result
    from mores.experiments.run.cell_execution import run_cell
    from mores.experiments.run.checkpoint_store import CheckpointStore

    cell, start = task.cell.id, time.monotonic()
    unreported_fraction = last_report = 0.0

    def report(increment: float) -> None:
        nonlocal unreported_fraction, last_report
        unreported_fraction += increment
        if time.monotonic() - last_report >= REPORT_INTERVAL:
            _send(message_stream, kind="progress", cell=cell, fraction=unreported_fraction)
            unreported_fraction, last_report = 0.0, time.monotonic()

    try:
        load_plugins(task.plugin_files)
        arguments = (task.cell, task.scenario, task.replicates)
        store = CheckpointStore(task.folder, *arguments, task.plugin_files)
        write_cell_result(task.folder, run_cell(*arguments, report, checkpoint_store=store))
        store.remove()
    except UserError as error:
        kind = "disk_full" if isinstance(error, WriteError) else "user_error"
        _send(message_stream, kind, cell=cell, error=str(error), code=error.code, path=error.path)
    except Exception as error:
        from mores.experiments.scenario.first_round_check import describe_exception

        _send(
            message_stream,
            kind="crashed",
            cell=cell,
            error=describe_exception(error),
            traceback=traceback.format_exc(),
        )
    else:
        seconds = time.monotonic() - start
        _send(message_stream, kind="done", cell=cell, seconds=seconds, notes=store.notes)


def _send(message_stream: BinaryIO, kind: str, **fields: Any) -> None:
    try:
        message_stream.write(json.dumps({"kind": kind, **fields}).encode() + b"\n")
        message_stream.flush()
    except OSError:  # the parent process is gone
        os._exit(0)
