"""The folder of a run: its plan, its creation, its lock, and the manifest `run.json`.

The folder holds everything that defines the experiment: the scenario as given, and in `run.json`
the options of the command line. `run.json` is written last: without it the run has not started.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mores.core.errors import UserError, printable, unreadable
from mores.core.file_formats import RUN_FORMAT, check_run_format, mores_version
from mores.experiments.results import atomic_files
from mores.experiments.results.cell_store import StoredCellResults
from mores.experiments.results.provenance import short_hash, utc_timestamp
from mores.experiments.scenario.cell import Cell
from mores.experiments.scenario.loading import LoadedScenario
from mores.experiments.scenario.specification import Scenario
from mores.registry.plugins import loaded_plugin_files

MANIFEST, CELLS_FOLDER = "run.json", "cells"
LOCK_HELD = {errno.EAGAIN, errno.EACCES}


class PluginFile(BaseModel):
    """A Python file of the user that was imported."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    digest: str


class RunManifest(BaseModel):
    """The options of a run besides its scenario file: `run.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[2]
    mores_version: str = Field(description="version of mores that wrote it")
    scenario: str = Field(description="name of the scenario")
    scenario_file: str = Field(description="its file")
    working_directory: str = Field(description="base of relative paths in the scenario")
    overrides: list[str] = Field(description="overrides of the command line")
    only_replicates: list[Annotated[int, Field(ge=0)]] | None = Field(
        description="replicates; null: all"
    )
    plugin_files: list[PluginFile] = Field(description="imported files of the user")
    resolved_hash: str


@dataclasses.dataclass(frozen=True)
class CellTask:
    """A cell to simulate into a folder, and the Python files of the user that it may need."""

    folder: Path
    cell: Cell
    scenario: Scenario
    replicates: Sequence[int]
    plugin_files: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class RunPlan:
    """All cells of a run, the replicates of its arms, and the user's files that it needs."""

    folder: Path
    scenario: Scenario
    cells: Sequence[Cell]
    replicates: Sequence[int]
    plugin_files: tuple[str, ...] = ()

    def cost(self, cell: Cell) -> float:
        """Cost of a cell, in rounds of one world."""
        rounds = sum(s.episodes * (s.rounds or cell.rounds) for s in cell.stages)
        replicates = cell.own_replicates(self.scenario, self.replicates)
        return float(rounds * self.scenario.worlds * len(replicates))

    def make_task(self, cell: Cell) -> CellTask:
        """The simulation of a cell."""
        folder = self.folder / CELLS_FOLDER / cell.id
        return CellTask(folder, cell, self.scenario, self.replicates, self.plugin_files)

    def cell_results(self) -> StoredCellResults:
        """The results on disk."""
        return StoredCellResults(self.folder / CELLS_FOLDER, [cell.id for cell in self.cells])


@contextlib.contextmanager
def lock_run(folder: Path) -> Iterator[None]:
    """Lock a run's folder; the system releases the lock when this process ends.

    Raises:
        UserError: another process holds the lock.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:  # some network file systems have no locks: continue without one
            if error.errno in LOCK_HELD:
                message = f"{folder}: {_lock_owner(folder)} is running it"
                raise UserError(message, code="busy", path=str(folder)) from None
        yield
    finally:
        os.close(descriptor)


def create_run_folder(scenario: Scenario, resolved_text: str, out: Path | None) -> Path:
    """Create the folder of a run: `out`, or a new one under `runs/`.

    Raises:
        UserError: the folder is not empty, or cannot be created.
    """
    first = Path("runs") / scenario.name / f"{utc_timestamp()}-{short_hash(resolved_text)}"
    later = (first.with_name(f"{first.name}-{number}") for number in itertools.count(1))
    for folder in [out] if out is not None else itertools.chain([first], later):
        try:
            folder.mkdir(parents=True, exist_ok=out is not None)
            if any(folder.iterdir()):
                hint = "a run needs a new or empty folder"
                if (folder / MANIFEST).is_file():
                    hint = f"it holds a run; to finish it: mores resume {folder}"
                message = f"{folder} is not empty: {hint}"
                raise UserError(message, code="not_writable", path=str(folder))
            (folder / CELLS_FOLDER).mkdir()  # fails if another run has started here
            return folder
        except OSError as error:
            if out is None and isinstance(error, FileExistsError):
                continue  # the same scenario was started in the same second
            message = f"cannot write to {folder}: {error.strerror or error}"
            raise UserError(message, code="not_writable", path=str(folder)) from None
    raise AssertionError


def write_run_inputs(
    folder: Path,
    loaded: LoadedScenario,
    resolved_text: str,
    cells: Sequence[Cell],
    only_replicates: Sequence[int] | None,
    provenance: dict[str, Any],
) -> RunManifest:
    """Write the scenario, the manifest and the provenance of a run."""
    manifest = RunManifest(
        format=RUN_FORMAT,
        mores_version=mores_version(),
        scenario=loaded.scenario.name,
        scenario_file=str(loaded.path.absolute()),
        working_directory=os.getcwd(),
        overrides=list(loaded.overrides),
        only_replicates=None if only_replicates is None else sorted(set(only_replicates)),
        plugin_files=[
            PluginFile(path=str(file), digest=file_digest(file)) for file in loaded_plugin_files()
        ],
        resolved_hash=short_hash(resolved_text),
    )
    atomic_files.write_text(folder / "scenario.yaml", loaded.text)
    atomic_files.write_text(folder / "resolved.yaml", resolved_text)
    atomic_files.write_json(folder / "provenance.json", provenance)
    atomic_files.write_json(folder / "cells.json", {cell.id: _cell_entry(cell) for cell in cells})
    atomic_files.write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


def read_manifest(folder: Path) -> RunManifest:
    """The manifest of the run in a folder.

    Raises:
        UserError: the folder is not one of a run, has another format, or its run has not started.
    """
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "there is no such folder"
        message = f"{folder}: {problem}; name the folder of a run"
        raise UserError(message, code="unreadable", path=str(folder))
    check_run_format(folder)
    path = folder / MANIFEST
    if not path.exists():
        message = f"{folder} is not the folder of a run: it has no {MANIFEST}"
        if (folder / CELLS_FOLDER).is_dir() and not any((folder / CELLS_FOLDER).iterdir()):
            message = f"{folder}: the run has not started; delete the folder and run again"
        raise UserError(message, code="unreadable", path=str(folder))
    try:
        return RunManifest.model_validate_json(path.read_bytes(), strict=True)
    except OSError as error:
        raise unreadable(path, error.strerror) from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise unreadable(path, f"{key}: {first['msg']}" if key else first["msg"]) from None


def file_digest(file: Path) -> str:
    """Digest of a file's content.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        return hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()
    except OSError as error:
        raise unreadable(file, error.strerror) from None


def _cell_entry(cell: Cell) -> dict[str, Any]:
    entry = {"arm": cell.arm, "point": dict(cell.point)}
    if cell.purpose != "arm":
        entry |= {"purpose": cell.purpose, "index": cell.index}
    return entry


def _lock_owner(folder: Path) -> str:
    try:
        pid = json.loads((folder / "status.json").read_text(encoding="utf-8"))["pid"]
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
    return f"another process ({printable(pid, 20)})"
