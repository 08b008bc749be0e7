"""`run.json`: the options of a run besides its scenario file, and the seal of its `cells.json`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mores.core.errors import UserError, nearest_name, unreadable
from mores.core.file_formats import RUN_FORMAT, check_format, mores_version
from mores.experiments.results.checked_files import CheckedFolder

MANIFEST, CELLS_FILE, CELLS_FOLDER = "run.json", "cells.json", "cells"
EXTENSION = "extension"  # folder of the new files of a run while it is being extended


class PluginFile(BaseModel):
    """A Python file of the user that was imported."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    digest: str


class EarlierLook(BaseModel):
    """The verdict on a claim before the run was extended: see `mores.experiments.claims.looks`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    claim: Annotated[int, Field(ge=0)] = Field(description="index of the claim in the scenario")
    look: Annotated[int, Field(ge=1)] = Field(description="number of the look")
    data: str = Field(description="digest of the data")
    verdict: Literal["holds", "fails", "undecided"]
    n: int
    estimate: float | None = Field(description="null: not finite")
    low: float | None
    high: float | None


class RunManifest(BaseModel):
    """The options of a run besides its scenario file: `run.json`, which contains its checksum."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[6]
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
    cells_digest: str = Field(description="digest of cells.json")
    earlier_looks: list[EarlierLook] = Field(
        description="verdicts before the run was extended, oldest first"
    )


def _near_folders(folder: Path) -> str:
    """The existing folders whose name is similar to the first missing part of a path."""
    while not folder.parent.is_dir():
        folder = folder.parent
    existing = (str(each) for each in folder.parent.iterdir() if each.is_dir())
    return nearest_name(folder, existing)


def read_manifest(folder: Path) -> RunManifest:
    """The manifest of the run in a folder.

    Raises:
        UserError: the folder is not one of a run, has another format, or its run has not started.
    """
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "there is no such folder"
        near = "" if folder.exists() else _near_folders(folder)
        message = f"{folder}: {problem}{near or '; name the folder of a run'}"
        raise UserError(message, code="unreadable", path=str(folder))
    files = CheckedFolder(folder)
    check_run_format(files)
    if not files.kind(MANIFEST):
        message = f"{folder} is not the folder of a run: it has no {MANIFEST}"
        if files.kind(CELLS_FOLDER) == "folder" and not files.folder(CELLS_FOLDER).names():
            message = f"{folder}: the run has not started; delete the folder and run again"
        raise UserError(message, code="unreadable", path=str(folder))
    return manifest_in(files)


def manifest_in(files: CheckedFolder) -> RunManifest:
    """The manifest in a folder.

    Raises:
        UserError: it is absent or damaged.
    """
    text = json.dumps(files.read_sealed(MANIFEST))
    try:
        return RunManifest.model_validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        reason = f"{key}: {first['msg']}" if key else first["msg"]
        raise unreadable(files.path / MANIFEST, reason) from None


def check_run_format(folder: CheckedFolder) -> None:
    """Refuse the folder of a run in another format.

    Raises:
        UserError: the folder has another format, or a `run.json` that is missing or damaged.
    """
    path = folder.path / MANIFEST
    versions = (_read_object(folder, "provenance.json") or {}).get("versions")
    recorded = versions.get("mores") if isinstance(versions, dict) else None
    if not folder.kind(MANIFEST):
        if not all(map(folder.kind, (CELLS_FOLDER, CELLS_FILE, "status.json"))):
            return  # not the folder of a run, or of one that has not started
        if recorded != mores_version():  # before run.json was introduced
            check_format(folder.path, "run", None, RUN_FORMAT, recorded)
        raise UserError(f"{folder.path}: run.json is missing", code="unreadable", path=str(path))
    manifest = _read_object(folder, MANIFEST)
    damaged = manifest is not None and "format" not in manifest and recorded == mores_version()
    if manifest is None or damaged:
        raise unreadable(path, "it is not the manifest of a run")
    version = manifest.get("mores_version", recorded)
    check_format(folder.path, "run", manifest.get("format"), RUN_FORMAT, version)


def digest_of(data: bytes) -> str:
    """Digest of a file's content."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _read_object(folder: CheckedFolder, name: str) -> dict[str, Any] | None:
    """A JSON object; None if the file does not hold one."""
    if folder.kind(name) != "file":
        return None
    try:
        content = folder.read_json(name)
    except UserError:
        return None
    return content if isinstance(content, dict) else None
