"""The checkpoint of a cell that is being simulated, on disk, so that hours of work are not lost.

`cells/.<cell>.checkpoint/` holds one file of tensors and `checkpoint.json`, which has its name, its
checksum and a fingerprint of the cell. A new file is written beside the old one; the atomic
replacement of `checkpoint.json` makes it valid. A checkpoint that is damaged, of other code or of
another experiment is ignored: the cell is simulated from its start. The folder is removed when the
cell is complete.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from mores.core.file_formats import RUN_FORMAT
from mores.experiments.results import atomic_files
from mores.experiments.results.provenance import system_info
from mores.experiments.results.pytree_serialization import SerializationError
from mores.experiments.run.run_folder import file_digest
from mores.experiments.scenario.cell import Cell
from mores.experiments.scenario.specification import Scenario

SUFFIX = ".checkpoint"
METADATA_FILE = "checkpoint.json"
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
        self._write_count, self._disabled = 0, False
        self._last_write, self._write_seconds = time.monotonic(), 0.0

    def is_due(self, stage_finished: bool) -> bool:
        """Whether it is time for a checkpoint."""
        if self._disabled:
            return False
        interval = STAGE_INTERVAL if stage_finished else EPISODE_INTERVAL
        return time.monotonic() - self._last_write >= max(
            interval, self._write_seconds / MAX_WRITE_FRACTION
        )

    def write(self, make_checkpoint: Callable[[], CellCheckpoint]) -> None:
        """Write a checkpoint. After a failure, add a note and write no more of them.

        Args:
            make_checkpoint: returns the checkpoint.
        """
        start = time.monotonic()
        try:
            checkpoint = make_checkpoint()
            size = sum(tensor.nbytes for tensor in checkpoint.tensors.values())
            if size > MAX_BYTES:
                raise SerializationError(f"{size:,} bytes exceed {MAX_BYTES:,}")
            self._write(checkpoint)
        except (
            SerializationError,
            atomic_files.WriteError,
            RuntimeError,
            ValueError,
            KeyError,
        ) as error:
            self._disabled = True
            self.remove()
            self.notes.append(f"no checkpoints, a stopped cell starts again: {error}")
        self._last_write = time.monotonic()
        self._write_seconds = self._last_write - start

    def _write(self, checkpoint: CellCheckpoint) -> None:
        from safetensors.torch import save

        with atomic_files.translate_write_errors(self.path):
            self.path.mkdir(exist_ok=True)
        self._write_count += 1
        name = f"{os.getpid()}-{self._write_count}.safetensors"
        data = save(dict(checkpoint.tensors))
        atomic_files.write_bytes(self.path / name, data)
        entry = {
            "format": RUN_FORMAT,
            "fingerprint": self._fingerprint,
            "cursor": list(checkpoint.cursor),
            "file": name,
            "bytes": len(data),
            "checksum": zlib.crc32(data),
            "metadata": dict(checkpoint.metadata),
        }
        text = json.dumps({**entry, "self_checksum": _self_checksum(entry)})
        atomic_files.write_bytes(self.path / METADATA_FILE, text.encode())
        with atomic_files.translate_write_errors(self.path):
            for other in self.path.iterdir():
                if other.name not in (name, METADATA_FILE):
                    other.unlink(missing_ok=True)

    def read(self) -> CellCheckpoint | None:
        """The last checkpoint; None if there is none that is valid."""
        from safetensors.torch import load

        if not (self.path / METADATA_FILE).exists():
            return None
        try:
            entry = json.loads((self.path / METADATA_FILE).read_bytes())
            if entry.pop("self_checksum") != _self_checksum(entry):
                raise ValueError("it was changed")
            data = (self.path / Path(entry["file"]).name).read_bytes()
            if [len(data), zlib.crc32(data)] != [entry["bytes"], entry["checksum"]]:
                raise ValueError("it was changed")
            if entry["format"] != RUN_FORMAT or entry["fingerprint"] != self._fingerprint:
                raise ValueError("it is of other code or of another experiment")
            return CellCheckpoint(tuple(entry["cursor"]), load(data), entry["metadata"])
        except Exception as error:  # of many kinds; the cell can always be simulated again
            self.notes.append(f"checkpoint ignored: {error}")
            return None

    def remove(self) -> None:
        """Remove the checkpoint, if there is one."""
        with contextlib.suppress(OSError):
            shutil.rmtree(self.path)

    @functools.cached_property
    def _fingerprint(self) -> str:
        """Hash of the cell, its replicates, and the code."""
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
        return hashlib.blake2b(json.dumps(fields).encode(), digest_size=16).hexdigest()


def remove_stale_checkpoints(cells_folder: Path, keep: Collection[str] = ()) -> None:
    """Remove all checkpoints but those of the cells in `keep`."""
    names = {f".{cell}{SUFFIX}" for cell in keep}
    for path in cells_folder.glob(f".*{SUFFIX}"):
        if path.name not in names:
            shutil.rmtree(path, ignore_errors=True)


def _self_checksum(metadata: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(metadata, sort_keys=True).encode())
