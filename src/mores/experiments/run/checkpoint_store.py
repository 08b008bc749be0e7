"""A cell while it is played: where play stands, kept on disk so that hours are not lost.

`cells/.<cell>.working/` holds one file of tensors, and `about.json`, which names it, with its
checksum, and says what it is a state of. A new state is written beside the old one; that
`about.json` is then replaced, at once, is what makes it the state. What is damaged, or was left by
other code or for another experiment, is ignored: the cell is played from its start. The folder goes
when the cell is there.
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

from mores.experiments.results import atomic_files
from mores.experiments.results.provenance import system_info
from mores.experiments.results.pytree_serialization import SerializationError
from mores.experiments.run.run_folder import file_digest
from mores.experiments.scenario.cell import Cell
from mores.experiments.scenario.specification import Scenario

SUFFIX = ".working"
METADATA_FILE = "about.json"
FORMAT_VERSION = 1
EPISODE_INTERVAL = 60.0  # seconds between states within a stage
STAGE_INTERVAL = 5.0  # seconds between states at the ends of stages, and before the first
MAX_WRITE_FRACTION = 0.05  # of the time may go into writing them
MAX_BYTES = 2**30  # bytes of a state: where it takes more, a cell is played from its start


class CellCheckpoint(NamedTuple):
    """Where play stands, and all that decides how it goes on: tensors, and the rest as JSON."""

    cursor: tuple[int, int, int]
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any]


class CheckpointStore:
    """The working folder of a cell.

    Args:
        folder: of the cell, as it will be.
        cell, scenario: what is played: a state of anything else is of no use.
        replicates: which are played.
        plugin_files: Python files of the user's own that it needs.
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
        """Whether it is time to write where play stands."""
        if self._disabled:
            return False
        often = STAGE_INTERVAL if stage_finished else EPISODE_INTERVAL
        return time.monotonic() - self._last_write >= max(
            often, self._write_seconds / MAX_WRITE_FRACTION
        )

    def write(self, make_checkpoint: Callable[[], CellCheckpoint]) -> None:
        """Write where play stands; where that cannot be, say so once, and write nothing more.

        Args:
            make_checkpoint: gives the state.
        """
        began = time.monotonic()
        try:
            state = make_checkpoint()
            size = sum(tensor.nbytes for tensor in state.tensors.values())
            if size > MAX_BYTES:
                raise SerializationError(f"{size:,} bytes are too many")
            self._write(state)
        except (
            SerializationError,
            atomic_files.WriteError,
            RuntimeError,
            ValueError,
            KeyError,
        ) as error:
            self._disabled = True
            self.remove()
            self.notes.append(f"if it is stopped, it will be played from its start: {error}")
        self._last_write = time.monotonic()
        self._write_seconds = self._last_write - began

    def _write(self, checkpoint: CellCheckpoint) -> None:
        from safetensors.torch import save

        with atomic_files.translate_write_errors(self.path):
            self.path.mkdir(exist_ok=True)
        self._write_count += 1
        name = f"{os.getpid()}-{self._write_count}.safetensors"
        data = save(dict(checkpoint.tensors))
        atomic_files.write_bytes(self.path / name, data)
        about = {
            "format": FORMAT_VERSION,
            "of": self._fingerprint,
            "at": list(checkpoint.cursor),
            "file": name,
            "bytes": len(data),
            "checksum": zlib.crc32(data),
            "state": dict(checkpoint.metadata),
        }
        text = json.dumps({**about, "seal": _self_checksum(about)})
        atomic_files.write_bytes(self.path / METADATA_FILE, text.encode())
        with atomic_files.translate_write_errors(self.path):
            for other in self.path.iterdir():
                if other.name not in (name, METADATA_FILE):
                    other.unlink(missing_ok=True)

    def read(self) -> CellCheckpoint | None:
        """Where play stood when the process that played ended; None where nothing is of use."""
        from safetensors.torch import load

        if not (self.path / METADATA_FILE).exists():
            return None
        try:
            about = json.loads((self.path / METADATA_FILE).read_bytes())
            if about.pop("seal") != _self_checksum(about):
                raise ValueError("it was changed")
            data = (self.path / Path(about["file"]).name).read_bytes()
            if [len(data), zlib.crc32(data)] != [about["bytes"], about["checksum"]]:
                raise ValueError("it was changed")
            if about["format"] != FORMAT_VERSION or about["of"] != self._fingerprint:
                raise ValueError("it is of other code, or of another experiment")
            return CellCheckpoint(tuple(about["at"]), load(data), about["state"])
        except Exception as error:  # of many kinds: whatever it is, the cell can be played anew
            self.notes.append(f"where it stood before is of no use: {error}")
            return None

    def remove(self) -> None:
        """Take the folder away, if there is one."""
        with contextlib.suppress(OSError):
            shutil.rmtree(self.path)

    @functools.cached_property
    def _fingerprint(self) -> str:
        """Stands for what is played, and by which code."""
        here, cell = system_info(), self._cell
        told = {
            "scenario": self._scenario.model_dump(mode="json"),
            "cell": [cell.id, cell.env, cell.population, cell.policies, cell.purpose, cell.index],
            "stages": [stage.model_dump(mode="json") for stage in cell.stages],
            "replicates": self._replicates,
            "modules": [file_digest(Path(file)) for file in self._plugin_files],
            "versions": here["versions"],
            "source": here["source"].get("digest"),
        }
        return hashlib.blake2b(json.dumps(told).encode(), digest_size=16).hexdigest()


def remove_stale_checkpoints(cells_folder: Path, keep: Collection[str] = ()) -> None:
    """Take away working folders that nobody needs any more, all but those of the cells `keep`."""
    kept = {f".{cell}{SUFFIX}" for cell in keep}
    for path in cells_folder.glob(f".*{SUFFIX}"):
        if path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)


def _self_checksum(metadata: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(metadata, sort_keys=True).encode())
