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
from mores.registry.plugins import load_modules

OFTEN = 0.2  # seconds between reports of how far a cell is


@dataclasses.dataclass(frozen=True)
class Task:
    """A cell to be played.

    Attributes:
        folder: where it is to be written.
        cell, scenario: what it is.
        replicates: which are played.
        modules: Python files of the user's own that it may need.
    """

    folder: Path
    cell: Cell
    scenario: Scenario
    replicates: Sequence[int]
    modules: tuple[str, ...] = ()


def main() -> None:
    """Play what standard input asks for, until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that gave the order decides
    reports = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a class of the user's own prints must not come between the reports
    serve(sys.stdin.buffer, reports)


def serve(orders: BinaryIO, reports: BinaryIO) -> None:
    """Play cells one after another; ends the process when there will be no more orders."""
    import torch

    from mores.experiments.run import cell_execution  # noqa: F401 (imported here, before anybody waits for a cell)

    torch.set_num_threads(1)
    inbox: queue.SimpleQueue[Task] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(orders, inbox), daemon=True).start()
    _say(reports, is_="ready")
    while True:
        _play(inbox.get(), reports)


def _listen(orders: BinaryIO, inbox: queue.SimpleQueue[Task]) -> None:
    try:
        while True:
            inbox.put(pickle.load(orders))
    except (EOFError, pickle.UnpicklingError, OSError):
        os._exit(0)


def _play(task: Task, reports: BinaryIO) -> None:
    from mores.experiments.results.atomic_files import CannotWrite
    from mores.experiments.results.cell_store import write_record
    from mores.experiments.run.cell_execution import play_cell
    from mores.experiments.run.checkpoint_store import Working

    cell, began = task.cell.id, time.monotonic()
    held = said = 0.0

    def tick(share: float) -> None:
        nonlocal held, said
        held += share
        if time.monotonic() - said >= OFTEN:
            _say(reports, is_="part", cell=cell, share=held)
            held, said = 0.0, time.monotonic()

    try:
        load_modules(task.modules)
        asked = (task.cell, task.scenario, task.replicates)
        working = Working(task.folder, *asked, task.modules)
        write_record(task.folder, play_cell(*asked, tick, working=working))
        working.remove()
    except UserError as error:
        is_ = "full" if isinstance(error, CannotWrite) else "refused"
        _say(reports, is_, cell=cell, error=str(error), code=error.code, path=error.path)
    except Exception as error:
        from mores.experiments.scenario.first_round_check import broken

        told = traceback.format_exc()
        _say(reports, is_="broken", cell=cell, error=broken(error), traceback=told)
    else:
        seconds = time.monotonic() - began
        _say(reports, is_="done", cell=cell, seconds=seconds, notes=working.notes)


def _say(reports: BinaryIO, is_: str, **more: Any) -> None:
    try:
        reports.write(json.dumps({"is": is_, **more}).encode() + b"\n")
        reports.flush()
    except OSError:  # nobody listens any more
        os._exit(0)
