"""The progress of a run on disk: `status.json` and `log.txt`."""

from __future__ import annotations

import errno
import logging
import os
import time
import traceback
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

from mores.core.errors import UserError, describe_exception
from mores.experiments.results import atomic_files
from mores.experiments.results.cell_store import read_training_summary
from mores.experiments.results.checked_files import CheckedFolder
from mores.experiments.results.provenance import utc_timestamp
from mores.experiments.results.run_manifest import CELLS_FOLDER
from mores.experiments.run.worker_pool import CellError

RunState = Literal["running", "stopped", "failed", "done"]
LOGGER = logging.getLogger("mores.run")  # gets the lines of `log.txt` as well
WRITE_INTERVAL = 0.5  # seconds: with many small cells the file is not written for every one


class RunStatus:
    """Finished and missing cells. For information only: `resume_run` reads the cells themselves.

    `cells` are the ids of all cells, in order. Those in the folder are done.
    """

    def __init__(self, folder: Path, cells: Sequence[str], jobs: int) -> None:
        self.folder, self._cells, self._jobs = folder, list(cells), jobs
        self.done, self.failed = set[str](), dict[str, str]()
        self._stopped, self._idle = dict[str, list[str]](), dict[str, list[str]]()  # by cell
        self._last_write = -WRITE_INTERVAL
        self._files = CheckedFolder(folder, CELLS_FOLDER)
        for cell in cells:
            if self._files.kind(cell) == "folder":
                self._add(cell)

    @property
    def to_do(self) -> list[str]:
        """Ids of the missing cells, in order."""
        return [cell for cell in self._cells if cell not in self.done]

    @property
    def count(self) -> str:
        """Number of cells that are done, in words."""
        return f"{len(self.done)} of {len(self._cells)} cells"

    def mark_done(self, cell: str) -> list[str]:
        """Record that a cell is written; return remarks on its learners."""
        self._add(cell)
        stopped, idle = self._stopped.get(cell, []), self._idle.get(cell, [])
        for line in stopped + idle:
            self.log(f"{cell}: {line}")
        if time.monotonic() - self._last_write >= WRITE_INTERVAL:
            self.write("running")
        return [
            f"{title}: {lines[0]}" + (f", and {len(lines) - 1} more" if lines[1:] else "")
            for title, lines in (("a model stopped", stopped), ("models did not train", idle))
            if lines
        ]

    def _add(self, cell: str) -> None:
        """Add a cell that is on disk: models that stopped early, or made no update in a stage."""
        self.done.add(cell)
        summary = read_training_summary(self._files.folder(cell))
        if summary.stopped:
            self._stopped[cell] = list(map(str, summary.stopped))
        if idle := [str(status) for status in summary.training_statuses if status.num_not_updated]:
            self._idle[cell] = idle

    def mark_failed(self, cell: str, error: Exception) -> str:
        """Record that a cell failed; return the reason, in one line."""
        described = isinstance(error, (UserError, CellError))
        message = self.failed[cell] = str(error) if described else describe_exception(error)
        lines = [] if isinstance(error, UserError) else traceback.format_exception(error)
        self.log(f"{cell} failed: {message}\n{''.join(lines)}".rstrip())
        return message

    def write(self, state: RunState, final_files: Collection[str] = ()) -> None:
        """Write `status.json`, which is sealed.

        Args:
            state: state of the run.
            final_files: names of finished files, to record their sizes and checksums.

        Raises:
            WriteError: the file cannot be written.
        """
        entry = {
            "state": state,
            "time": utc_timestamp(),
            "done": [cell for cell in self._cells if cell in self.done],
            "to_do": self.to_do,
            "failed": self.failed,
            "stopped_learners": self._stopped,
            "idle_learners": self._idle,
            "jobs": self._jobs,
            "pid": os.getpid(),
        }
        if final_files:
            checked = CheckedFolder(self.folder)
            entry["files"] = {name: checked.size_and_checksum(name) for name in final_files}
        atomic_files.write_sealed_json(self.folder / "status.json", entry, sync=state != "running")
        self._last_write = time.monotonic()

    def log(self, text: str) -> None:
        """Add a line to `log.txt`, and pass it to the logger `mores.run` (level info).

        Raises:
            WriteError: the file cannot be written.
        """
        LOGGER.info(text)
        path = self.folder / "log.txt"
        with atomic_files.translate_write_errors(path):
            if path.is_symlink():
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            with path.open("a", encoding="utf-8") as file:
                file.write(f"{utc_timestamp()} {text}\n")
