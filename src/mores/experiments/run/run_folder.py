"""A run's folder: made, begun, held by one process, and known again when a run is resumed.

Everything that makes the experiment stands in it: the scenario as it was given, and in `run.json`
what the command line added to it. `run.json` is written last: a folder without it has not begun.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mores.core.errors import UserError
from mores.experiments.results import atomic_files
from mores.experiments.results.provenance import short_hash, utc_timestamp
from mores.experiments.scenario.cell import Cell
from mores.experiments.scenario.loading import LoadedScenario
from mores.experiments.scenario.specification import Scenario
from mores.registry.plugins import loaded_plugin_files

MANIFEST, CELLS_FOLDER = "run.json", "cells"
LOCK_HELD = {errno.EAGAIN, errno.EACCES}


class PluginFile(BaseModel):
    """A Python file with classes of the user's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    digest: str


class RunManifest(BaseModel):
    """What was asked for, besides what the scenario file says: `run.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    scenario: str = Field(description="name of the scenario")
    scenario_file: str = Field(description="where it was read")
    working_directory: str = Field(description="from where paths in the scenario are meant")
    overrides: list[str] = Field(description="what the command line changed")
    only_replicates: list[Annotated[int, Field(ge=0)]] | None = Field(
        description="replicates; null: all"
    )
    plugin_files: list[PluginFile] = Field(description="files that were imported")
    resolved_hash: str


class RunLock:
    """The folder is ours while this process lives; the system lets go of it, however it ends.

    Raises:
        UserError: another process has it.
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
            # Some network file systems have no locks: there it is up to the user.

    def __enter__(self) -> RunLock:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)


def create_run_folder(scenario: Scenario, resolved_text: str, out: Path | None) -> Path:
    """A new folder for a run: `out`, or one of its own under `runs/`.

    Raises:
        UserError: there is something in it already, or it cannot be made.
    """
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
            if any(out.iterdir()):
                message = f"{out} is not empty{_resume_hint(out)}"
                raise UserError(message, code="not_writable", path=str(out))
            (out / CELLS_FOLDER).mkdir()  # fails if another run has begun here
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
            continue  # the same scenario was begun in the same second
        except OSError as error:
            raise _not_writable(folder, error) from None
        return folder
    message = f"{first} and 999 names beside it are taken"
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
    """Write what the experiment is, and where it comes from."""
    order = RunManifest(
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
    atomic_files.write_json(folder / MANIFEST, order.model_dump(mode="json"))
    return order


def read_manifest(folder: Path) -> RunManifest:
    """What was asked for when the run in a folder was begun.

    Raises:
        UserError: it is no run's folder, or one that was stopped before it had begun.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "there is no such folder"
        message = f"{folder}: {what}; name the folder of a run"
        raise UserError(message, code="unreadable", path=str(folder))
    path = folder / MANIFEST
    if not path.exists():
        if {p.name for p in folder.iterdir()} >= {CELLS_FOLDER, "cells.json", "status.json"}:
            message = f"{folder}: an earlier version of mores ran it, and cannot be resumed"
            raise UserError(message, code="incompatible", path=str(folder))
        message = f"{folder} is not a run's folder: it has no {MANIFEST}"
        if _is_uninitialized(folder):
            message = (
                f"{folder}: the run had not begun yet: nothing is lost; delete it and run again"
            )
        raise UserError(message, code="unreadable", path=str(folder))
    try:
        return RunManifest.model_validate_json(path.read_bytes(), strict=True)
    except OSError as error:
        raise _unreadable(path, error.strerror) from None
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        what = f"{where}: {problem['msg']}" if where else problem["msg"]
        raise _unreadable(path, what) from None


def _unreadable(path: Path, why: object) -> UserError:
    return UserError(f"cannot read {path}: {why}", code="unreadable", path=str(path))


def file_digest(file: Path) -> str:
    """Stands for what a file says.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()
    except OSError as error:
        raise _unreadable(file, error.strerror) from None


def _cell_entry(cell: Cell) -> dict[str, Any]:
    told = {"arm": cell.arm, "point": dict(cell.point)}
    if cell.purpose != "arm":
        told |= {"purpose": cell.purpose, "number": cell.index}
    return told


def _is_uninitialized(folder: Path) -> bool:
    """Nothing in it but what `write_run_inputs` had written before it was stopped."""
    ours = {CELLS_FOLDER, "scenario.yaml", "resolved.yaml", "provenance.json", "cells.json"}
    names = {path.name for path in folder.iterdir()}
    rest = {
        n for n in names if not (n.startswith(".") and n.endswith(atomic_files.PARTIAL_SUFFIX))
    } - ours
    return CELLS_FOLDER in names and not rest and not any((folder / CELLS_FOLDER).iterdir())


def _resume_hint(folder: Path) -> str:
    if (folder / MANIFEST).is_file():
        return f": there is a run in it; to finish it: mores resume {folder}"
    return ": a run writes into a new or empty folder"


def _lock_owner(folder: Path) -> str:
    try:
        number = json.loads((folder / "status.json").read_text(encoding="utf-8"))["pid"]
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
    return f"another process ({number})"
