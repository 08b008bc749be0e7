"""A cell's folder on disk, read and verified: its metadata at once, each file when it is read."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mores.core.errors import UserError, unreadable
from mores.core.file_formats import RUN_FORMAT, check_format
from mores.experiments.results.cell_identity import CellIdentity, check_identity
from mores.experiments.results.checked_files import CheckedFolder, parse_json
from mores.experiments.results.checked_tables import (
    check_trajectory,
    open_metrics,
    open_trajectory,
)
from mores.experiments.results.provenance import describe_other_code
from mores.experiments.results.tensor_file import decode_tensors
from mores.experiments.results.trajectory import array_name

METRICS, TRAJECTORY, METADATA_FILE = "metrics.parquet", "trajectory.zarr", "cell.json"
CELL_FILE = re.compile(
    r"metrics\.parquet|trajectory\.zarr/(?:[^/.][^/]*/)?zarr\.json"
    r"|trajectory\.zarr/[^/.][^/]*/c(?:/[0-9]+)*|checkpoints/[^/]+\.(?:json|safetensors)"
)
ZARR_PARTIAL = re.compile(
    r"trajectory\.zarr/.*\.[0-9a-f]{32}\.partial"
)  # of a write that was interrupted
# Of the libraries that decode files, which were verified: a cell made by hand, or by a defect.
DECODING_ERRORS = (
    ArithmeticError, AttributeError, KeyError, IndexError, MemoryError, OSError, RuntimeError,
    TypeError, ValueError,
)  # fmt: skip


class StoredCell:
    """A cell's folder. Its metadata are verified, and each file when it is read.

    Args:
        folder: the folder.
        expected: identity that its run lists; None: any.

    Attributes:
        metadata: content of `cell.json`.

    Raises:
        UserError: `cell.json` is absent or was changed, has another format, or is of another run.
    """

    def __init__(self, folder: Path | CheckedFolder, expected: CellIdentity | None = None) -> None:
        folder = folder if isinstance(folder, CheckedFolder) else CheckedFolder(folder)
        self.folder, self.path = folder, folder.path
        self.metadata = folder.read_sealed(METADATA_FILE)
        path = folder.path / METADATA_FILE
        check_format(path, "cell", self.metadata.get("format"), RUN_FORMAT, None)
        files = self.metadata.get("files")
        if not isinstance(files, dict) or not all(map(is_cell_file, files)):
            raise unreadable(path, "it does not list the files of a cell")
        self.files: dict[str, Any] = files
        if expected is not None:
            try:
                found = CellIdentity.from_json(self.metadata.get("identity"))
            except ValueError as error:
                raise unreadable(path, error) from None
            check_identity(folder.path, str(self.metadata.get("cell")), found, expected)

    @property
    def other_code(self) -> str:
        """How the code that simulated it differs from this one; empty if it is the same."""
        code = self.metadata.get("code")
        return describe_other_code(code if isinstance(code, dict) else {})

    def read(self, name: str) -> bytes:
        """Content of one of its files, verified.

        Raises:
            UserError: it is not listed, is absent or was changed.
        """
        return self.folder.read_verified(name, self.files.get(name))

    def read_json(self, name: str) -> Any:
        """Content of one of its JSON files, verified.

        Raises:
            UserError: see `read`; or it is not JSON.
        """
        try:
            return parse_json(self.read(name))
        except ValueError as error:
            raise unreadable(self.path / name, error) from None

    def read_tensors(self, name: str) -> dict[str, Tensor]:
        """Tensors of a checkpoint, of the shapes that its JSON lists.

        Raises:
            UserError: a file was changed, or it is not such a checkpoint as mores writes.
        """
        metadata = self.read_json(f"{name.removesuffix('.safetensors')}.json")
        data = self.read(name)
        try:
            _, tensors = decode_tensors(data)
            shapes = {n: list(tensor.shape) for n, tensor in tensors.items()}
            if shapes != {n: entry["shape"] for n, entry in metadata["tensors"].items()}:
                raise ValueError("its tensors differ from those that its json lists")
        except DECODING_ERRORS as error:
            raise unreadable(self.path / name, error) from None
        return {n: tensors[n] for n in sorted(tensors)}

    def open_metrics(self) -> Any:
        """Its table of metrics, as `pyarrow.parquet.ParquetFile`.

        Raises:
            UserError: the file was changed, or is not such a table as mores writes.
        """
        data = self.read(METRICS)
        try:
            num_rows = sum(_num_rows(self.metadata, stage) for stage in self.metadata["stages"])
            return open_metrics(data, num_rows)
        except DECODING_ERRORS as error:
            raise unreadable(self.path / METRICS, error) from None

    def open_trajectory(self) -> Any:
        """Its trajectory, as a Zarr store in memory.

        Raises:
            UserError: a file was changed, or it is not such a group as mores writes.
        """
        start = f"{TRAJECTORY}/"
        names = [name for name in self.files if name.startswith(start)]
        files = {name.removeprefix(start): self.read(name) for name in names}
        try:
            listed = self.metadata["trajectory"]
            names = [array_name(name) for name in (*listed["latent"], *listed["people"])]
            check_trajectory(files, [*names, "replicate", "world", "round"])
            return open_trajectory(files)
        except DECODING_ERRORS as error:
            raise unreadable(self.path / TRAJECTORY, error) from None

    def find_damage(self) -> str | None:
        """The first file that is absent, changed or of a format that mores does not write.

        None if there is none.
        """
        if METRICS not in self.files:
            return f"{METADATA_FILE} was changed"
        for name, size_and_checksum in self.files.items():
            if self.folder.kind(name) != "file":
                return f"{name} is missing"
            match size_and_checksum:
                case [int(size), int()] if size != self.folder.size(name):
                    return f"{name} has {self.folder.size(name)} bytes, not {size}"
            if self.folder.size_and_checksum(name) != size_and_checksum:
                return f"{name} was changed"
        try:
            self.open_metrics()
            if f"{TRAJECTORY}/zarr.json" in self.files:
                self.open_trajectory()
            for name in self.files:
                if name.endswith(".safetensors"):
                    self.read_tensors(name)
        except UserError as error:
            return str(error)
        return None


def is_cell_file(name: str) -> bool:
    """Whether a path in a cell's folder is one that `write_cell_result` writes."""
    return CELL_FILE.fullmatch(name) is not None


def foreign_files(folder: Path) -> list[Path]:
    """Files in a cell's folder, complete or not, that `write_cell_result` does not write."""
    found = []
    for above, folders, names in os.walk(folder):
        links = [name for name in folders if (Path(above) / name).is_symlink()]
        for name in [*links, *names]:
            path = Path(above) / name
            written = str(path.relative_to(folder))
            known = written == METADATA_FILE or is_cell_file(written)
            if path.is_symlink() or not (known or ZARR_PARTIAL.fullmatch(written)):
                found.append(path)
    return found


def find_damage(folder: Path | CheckedFolder, expected: CellIdentity | None = None) -> str | None:
    """What is wrong with a cell's folder; None if every file is unchanged.

    Raises:
        UserError: it is not damaged, but of another format or another run.
    """
    try:
        return StoredCell(folder, expected).find_damage()
    except UserError as error:
        if error.code == "incompatible":
            raise
        return f"{METADATA_FILE}: {error}"


def _num_rows(metadata: Mapping[str, Any], stage: Mapping[str, Any]) -> int:
    """Number of rows of a stage in the table of metrics."""
    sizes = (metadata["num_worlds"], stage["num_episodes"])
    return math.prod((*sizes, len(stage["rounds"]), len(stage["metrics"])))
