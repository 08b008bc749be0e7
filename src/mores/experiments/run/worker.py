"""A process that plays cells for another, which tells it which.

Orders come in at standard input, pickled by the process that started this one; what becomes of
them goes out at standard output, a line of JSON each. When whoever gives the orders is gone, so is
this process: at once, whatever it was doing, since a cell is written whole or not at all.
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

REPORT_INTERVAL = 0.2  # seconds between reports of how far a cell is


@dataclasses.dataclass(frozen=True)
class CellTask:
    """A cell to be played.

    Attributes:
        folder: where it is to be written.
        cell, scenario: what it is.
        replicates: which are played.
        plugin_files: Python files of the user's own that it may need.
    """

    folder: Path
    cell: Cell
    scenario: Scenario
    replicates: Sequence[int]
    plugin_files: tuple[str, ...] = ()


def main() -> None:
    """Play what standard input asks for, until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that gave the order decides
    reports = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a class of the user's own prints must not come between the reports
    serve(sys.stdin.buffer, reports)


def serve(task_stream: BinaryIO, message_stream: BinaryIO) -> None:
    """Play cells one after another; ends the process when there will be no more orders."""
    import torch

    from mores.experiments.run import cell_execution  # noqa: F401 (imported here, before anybody waits for a cell)

    torch.set_num_threads(1)
    inbox: queue.SimpleQueue[CellTask] = queue.SimpleQueue()
    threading.Thread(target=_read_tasks, args=(task_stream, inbox), daemon=True).start()
    _send(message_stream, kind="ready")
    while True:
        _run_task(inbox.get(), message_stream)


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

    cell, began = task.cell.id, time.monotonic()
    held = said = 0.0

    def tick(share: float) -> None:
        nonlocal held, said
        held += share
        if time.monotonic() - said >= REPORT_INTERVAL:
            _send(message_stream, kind="part", cell=cell, share=held)
            held, said = 0.0, time.monotonic()

    try:
        load_plugins(task.plugin_files)
        asked = (task.cell, task.scenario, task.replicates)
        working = CheckpointStore(task.folder, *asked, task.plugin_files)
        write_cell_result(task.folder, run_cell(*asked, tick, checkpoint_store=working))
        working.remove()
    except UserError as error:
        is_ = "full" if isinstance(error, WriteError) else "refused"
        _send(message_stream, is_, cell=cell, error=str(error), code=error.code, path=error.path)
    except Exception as error:
        from mores.experiments.scenario.first_round_check import describe_exception

        told = traceback.format_exc()
        _send(
            message_stream,
            kind="broken",
            cell=cell,
            error=describe_exception(error),
            traceback=told,
        )
    else:
        seconds = time.monotonic() - began
        _send(message_stream, kind="done", cell=cell, seconds=seconds, notes=working.notes)


def _send(message_stream: BinaryIO, kind: str, **more: Any) -> None:
    try:
        message_stream.write(json.dumps({"is": kind, **more}).encode() + b"\n")
        message_stream.flush()
    except OSError:  # nobody listens any more
        os._exit(0)
