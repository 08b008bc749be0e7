"""How far a run has come, for whoever looks into its folder: `status.json` and `log.txt`."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from mores.experiments.results import atomic_files
from mores.experiments.results.cell_store import Learners
from mores.experiments.results.provenance import now

State = Literal["running", "stopped", "failed", "done"]
OFTEN = 0.5  # seconds: with many small cells the file is not written for every one


class Status:
    """What is done and to do. Nothing relies on it: `resume` looks at the cells themselves.

    Args:
        folder: of the run.
        cells: all of them, in order.
        done: those that are there already.
        jobs: processes that play.
    """

    def __init__(self, folder: Path, cells: Sequence[str], done: Iterable[str], jobs: int) -> None:
        self.folder, self._cells, self._jobs = folder, list(cells), jobs
        self.done, self.failed = set(done), dict[str, str]()
        self.stopped = dict[str, list[str]]()  # learners, by cell
        self.idle = dict[str, list[str]]()
        self._written = -OFTEN

    @property
    def to_do(self) -> list[str]:
        """The cells that are not there, in order."""
        return [cell for cell in self._cells if cell not in self.done]

    def finished(self, cell: str, learners: Learners) -> None:
        """A cell is written; so its learners fared."""
        self.done.add(cell)
        self.tell(cell, learners)
        for line in self.stopped.get(cell, []) + self.idle.get(cell, []):
            self.log(f"{cell}: {line}")
        if time.monotonic() - self._written >= OFTEN:
            self.write("running")

    def tell(self, cell: str, learners: Learners) -> None:
        """Note who of a cell's learners stopped early, and who learned nothing in a stage."""
        if learners.stopped:
            self.stopped[cell] = list(map(str, learners.stopped))
        if idle := [str(one) for one in learners.taught if one.idle]:
            self.idle[cell] = idle

    def write(self, state: State) -> None:
        """Write `status.json`.

        Raises:
            CannotWrite: the disk says no.
        """
        told = {
            "state": state,
            "at": now(),
            "done": [cell for cell in self._cells if cell in self.done],
            "to_do": self.to_do,
            "failed": self.failed,
            "stopped_learners": {c: self.stopped[c] for c in self._cells if c in self.stopped},
            "idle_learners": {c: self.idle[c] for c in self._cells if c in self.idle},
            "jobs": self._jobs,
            "pid": os.getpid(),
        }
        atomic_files.write_json(self.folder / "status.json", told, sync=state != "running")
        self._written = time.monotonic()

    def log(self, text: str) -> None:
        """Add a line to `log.txt`.

        Raises:
            CannotWrite: the disk says no.
        """
        path = self.folder / "log.txt"
        with atomic_files.telling(path), path.open("a", encoding="utf-8") as file:
            file.write(f"{now()} {text}\n")

    def end(self, state: State, text: str) -> None:
        """Leave a last word, if the disk lets us."""
        with contextlib.suppress(atomic_files.CannotWrite):
            self.write(state)
            self.log(text)
