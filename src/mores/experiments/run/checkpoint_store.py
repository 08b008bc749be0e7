"""The checkpoint of a cell that is being simulated, on disk, so that hours of work are not lost.

`cells/.<cell>.checkpoint` is one file of tensors and JSON (`results/tensor_file`) with a hash
of the cell, replaced atomically. A checkpoint that is damaged, of other code or of another
experiment is ignored: the cell is simulated from its start. The file is removed when the cell is
complete.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from mores.core.errors import UserError
from mores.core.file_formats import RUN_FORMAT
from mores.experiments.results import tensor_file
from mores.experiments.results.provenance import system_info
from mores.experiments.results.pytree_serialization import SerializationError
from mores.experiments.run.run_folder import file_digest
from mores.experiments.scenario.cell import Cell
from mores.experiments.scenario.specification import Scenario

SUFFIX = ".checkpoint"
EPISODE_INTERVAL = 60.0  # seconds between checkpoints within a stage
STAGE_INTERVAL = 5.0  # seconds between checkpoints at the ends of stages, and before the first
MAX_WRITE_FRACTION = 0.05  # of the time may be spent on writing them
MAX_BYTES = 2**30  # largest checkpoint: a cell that needs more is simulated from its start


class CellCheckpoint(NamedTuple):
    """A position in a cell and the state there: tensors, and the rest as JSON."""

    cursor: tuple[int, int, int]
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any]


class CheckpointStore:
    """Reads and writes the checkpoint of a cell.

    Args:
        folder: folder of the finished cell.
        cell, scenario: what is simulated; checkpoints of anything else are ignored.
        replicates: the replicates.
        plugin_files: Python files of the user that the cell needs.
    """

    def __init__(
        self,
        folder: Path,
        cell: Cell,
        scenario: Scenario,
        replicates: Sequence[int],
        plugin_files: Sequence[str] = (),
    ) -> None:
        self.path = folder.with_name(f".{folder.name}{SUFFIX}")
        self.notes: list[str] = []  # for the log
        self._cell, self._scenario = cell, scenario
        self._replicates, self._plugin_files = list(replicates), plugin_files
        self._disabled, self._last_write, self._write_seconds = False, time.monotonic(), 0.0

    def is_due(self, stage_finished: bool) -> bool:
        """Whether it is time for a checkpoint."""
        interval = STAGE_INTERVAL if stage_finished else EPISODE_INTERVAL
        wait = max(interval, self._write_seconds / MAX_WRITE_FRACTION)
        return not self._disabled and time.monotonic() - self._last_write >= wait

    def write(self, make_checkpoint: Callable[[], CellCheckpoint]) -> None:
        """Write a checkpoint. After a failure, add a note and write no more of them.

        Args:
            make_checkpoint: returns the checkpoint.
        """
        start = time.monotonic()
        try:
            self._write(make_checkpoint())
        except (SerializationError, UserError, RuntimeError, ValueError, KeyError) as error:
            self._disabled = True
            self.remove()
            self.notes.append(f"no checkpoints, a stopped cell starts again: {error}")
        self._last_write = time.monotonic()
        self._write_seconds = self._last_write - start

    def _write(self, checkpoint: CellCheckpoint) -> None:
        size = sum(tensor.nbytes for tensor in checkpoint.tensors.values())
        if size > MAX_BYTES:
            raise SerializationError(f"{size:,} bytes exceed {MAX_BYTES:,}")
        metadata = {"cursor": checkpoint.cursor, "metadata": checkpoint.metadata}
        tensor_file.write(self.path, checkpoint.tensors, {**self._identity, **metadata})

    def read(self) -> CellCheckpoint | None:
        """The last checkpoint; None if there is none that is valid."""
        if not self.path.exists():
            return None
        try:
            tensors, content = tensor_file.read(self.path)
            if any(content[key] != value for key, value in self._identity.items()):
                raise ValueError("it is of other code or of another experiment")
            return CellCheckpoint(tuple(content["cursor"]), tensors, content["metadata"])
        except (UserError, ValueError, KeyError, TypeError) as error:
            self.notes.append(f"checkpoint ignored: {error}")
            return None

    def remove(self) -> None:
        """Remove the checkpoint, if there is one."""
        _remove(self.path)

    @functools.cached_property
    def _identity(self) -> dict[str, Any]:
        """Format, and a hash of the cell, its replicates and the code."""
        system, cell = system_info(), self._cell
        fields = {
            "scenario": self._scenario.model_dump(mode="json"),
            "cell": [cell.id, cell.env, cell.population, cell.policies, cell.purpose, cell.index],
            "stages": [stage.model_dump(mode="json") for stage in cell.stages],
            "replicates": self._replicates,
            "modules": [file_digest(Path(file)) for file in self._plugin_files],
            "versions": system["versions"],
            "source": system["source"].get("digest"),
        }
        digest = hashlib.blake2b(json.dumps(fields).encode(), digest_size=16).hexdigest()
        return {"format": RUN_FORMAT, "fingerprint": digest}


def remove_stale_checkpoints(cells_folder: Path, keep: Collection[str] = ()) -> None:
    """Remove all checkpoints but those of the cells in `keep`."""
    names = {f".{cell}{SUFFIX}" for cell in keep}
    for path in cells_folder.glob(f".*{SUFFIX}"):
        if path.name not in names:
            _remove(path)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
