"""The progress of a run on disk: `status.json` and `log.txt`."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from mores.experiments.results import atomic_files
from mores.experiments.results.cell_store import TrainingSummary
from mores.experiments.results.provenance import utc_timestamp

RunState = Literal["running", "stopped", "failed", "done"]
WRITE_INTERVAL = 0.5  # seconds: with many small cells the file is not written for every one


class RunStatus:
    """Finished and missing cells. For information only: `resume_run` reads the cells themselves.

    Args:
        folder: folder of the run.
        cells: ids of all cells, in order.
        done: ids of the cells that are complete already.
        jobs: number of processes.
    """

    def __init__(self, folder: Path, cells: Sequence[str], done: Iterable[str], jobs: int) -> None:
        self.folder, self._cells, self._jobs = folder, list(cells), jobs
        self.done, self.failed = set(done), dict[str, str]()
        self.stopped_learners = dict[str, list[str]]()  # messages by cell
        self.idle_learners = dict[str, list[str]]()
        self._last_write = -WRITE_INTERVAL

    @property
    def to_do(self) -> list[str]:
        """Ids of the missing cells, in order."""
        return [cell for cell in self._cells if cell not in self.done]

    def mark_done(self, cell: str, training_summary: TrainingSummary) -> None:
        """Record that a cell is written, and the diagnostics of its learners."""
        self.done.add(cell)
        self.note_training(cell, training_summary)
        for line in self.stopped_learners.get(cell, []) + self.idle_learners.get(cell, []):
            self.log(f"{cell}: {line}")
        if time.monotonic() - self._last_write >= WRITE_INTERVAL:
            self.write("running")

    def note_training(self, cell: str, training_summary: TrainingSummary) -> None:
        """Record models of a cell that stopped early, and those that made no update in a stage."""
        if training_summary.stopped:
            self.stopped_learners[cell] = list(map(str, training_summary.stopped))
        if idle := [str(s) for s in training_summary.training_statuses if s.num_not_updated]:
            self.idle_learners[cell] = idle

    def write(self, state: RunState) -> None:
        """Write `status.json`.

        Raises:
            WriteError: the file cannot be written.
        """
        entry = {
            "state": state,
            "time": utc_timestamp(),
            "done": [cell for cell in self._cells if cell in self.done],
            "to_do": self.to_do,
            "failed": self.failed,
            "stopped_learners": {
                c: self.stopped_learners[c] for c in self._cells if c in self.stopped_learners
            },
            "idle_learners": {
                c: self.idle_learners[c] for c in self._cells if c in self.idle_learners
            },
            "jobs": self._jobs,
            "pid": os.getpid(),
        }
        atomic_files.write_json(self.folder / "status.json", entry, sync=state != "running")
        self._last_write = time.monotonic()

    def log(self, text: str) -> None:
        """Add a line to `log.txt`.

        Raises:
            WriteError: the file cannot be written.
        """
        path = self.folder / "log.txt"
        with atomic_files.translate_write_errors(path), path.open("a", encoding="utf-8") as file:
            file.write(f"{utc_timestamp()} {text}\n")

    def finish(self, state: RunState, text: str) -> None:
        """Write the last state and line, if the disk permits."""
        with contextlib.suppress(atomic_files.WriteError):
            self.write(state)
            self.log(text)
