"""The folder of a run: its creation, its lock, and the manifest `run.json`.

The folder holds everything that defines the experiment: the scenario as given, and in `run.json`
the options of the command line. `run.json` is written last: without it the run has not started.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mores.core.errors import UserError, printable, unreadable
from mores.core.file_formats import RUN_FORMAT, check_run_format, mores_version
from mores.experiments.results import atomic_files
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


class RunLock:
    """Exclusive lock on a run's folder, which the system releases when this process ends.

    Raises:
        UserError: another process holds the lock.
    """

    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in LOCK_HELD:
                os.close(self._descriptor)
                message = f"{folder}: {_lock_owner(folder)} is running it"
                raise UserError(message, code="busy", path=str(folder)) from None
            # Some network file systems have no locks: the run continues without one.

    def __enter__(self) -> RunLock:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._descriptor)


def create_run_folder(scenario: Scenario, resolved_text: str, out: Path | None) -> Path:
    """Create the folder of a run: `out`, or a new one under `runs/`.

    Raises:
        UserError: the folder is not empty, or cannot be created.
    """
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
            if any(out.iterdir()):
                message = f"{out} is not empty{_resume_hint(out)}"
                raise UserError(message, code="not_writable", path=str(out))
            (out / CELLS_FOLDER).mkdir()  # fails if another run has started here
        except OSError as error:
            raise _not_writable(out, error) from None
        return out
    first = Path("runs") / scenario.name / f"{utc_timestamp()}-{short_hash(resolved_text)}"
    for number in range(1000):
        folder = first.with_name(f"{first.name}-{number}") if number else first
        try:
            folder.mkdir(parents=True)
            (folder / CELLS_FOLDER).mkdir()
        except FileExistsError:
            continue  # the same scenario was started in the same second
        except OSError as error:
            raise _not_writable(folder, error) from None
        return folder
    message = f"{first} exists, and so do {first.name}-1 to {first.name}-999"
    raise UserError(message, code="not_writable", path=str(first))


def _not_writable(folder: Path, error: OSError) -> UserError:
    message = f"cannot write to {folder}: {error.strerror or error}"
    return UserError(message, code="not_writable", path=str(folder))


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
        if _is_uninitialized(folder):
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


def _is_uninitialized(folder: Path) -> bool:
    """Whether the folder holds only what `write_run_inputs` writes before the manifest."""
    inputs = {CELLS_FOLDER, "scenario.yaml", "resolved.yaml", "provenance.json", "cells.json"}
    names = {path.name for path in folder.iterdir()}
    others = {
        n for n in names if not (n.startswith(".") and n.endswith(atomic_files.PARTIAL_SUFFIX))
    } - inputs
    return CELLS_FOLDER in names and not others and not any((folder / CELLS_FOLDER).iterdir())


def _resume_hint(folder: Path) -> str:
    if (folder / MANIFEST).is_file():
        return f": it holds a run; to finish it: mores resume {folder}"
    return ": a run needs a new or empty folder"


def _lock_owner(folder: Path) -> str:
    try:
        pid = json.loads((folder / "status.json").read_text(encoding="utf-8"))["pid"]
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
    return f"another process ({printable(pid, 20)})"
