"""Format numbers of what mores writes to disk, and the error for every other format."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path
from typing import Any

from mores.core.errors import UserError, unreadable

RUN_FORMAT = 2  # the folder of a run: run.json, cells, checkpoints
TRAINED_FORMAT = 3  # a file of `TrainingResult.save`
VERSION_PATTERN = r"[0-9A-Za-z.+!-]{1,40}"


def mores_version() -> str:
    """Version of the installed package."""
    return metadata.version("mores")


def check_format(path: Path, what: str, found: object, expected: int, version: object) -> None:
    """Refuse a file or folder in a format that this version does not read, in one line.

    Args:
        path: the file or folder.
        what: `run` or `trained policies`.
        found: its format.
        expected: the format that this version reads.
        version: version of mores that wrote it; anything but a version: it is not recorded.

    Raises:
        UserError: it has another format.
    """
    if type(found) is int and found == expected:
        return
    if isinstance(version, str) and re.fullmatch(VERSION_PATTERN, version):
        writer = f"mores {version}"
    elif type(found) is int and found > expected:
        writer = "a newer version of mores"
    else:
        writer = "mores 0.1.0 or older"
    description = (
        f"{what} without a format number" if found is None else f"{what} of format {found!r:.20}"
    )
    message = (
        f"{path}: {description}, written by {writer}; "
        f"mores {mores_version()} reads format {expected} and no other"
    )
    raise UserError(message, code="incompatible", path=str(path))


def check_run_format(folder: Path) -> None:
    """Refuse the folder of a run in another format.

    Raises:
        UserError: the folder has another format, or a `run.json` that is missing or damaged.
    """
    path = folder / "run.json"
    versions = (_read_object(folder / "provenance.json") or {}).get("versions")
    recorded = versions.get("mores") if isinstance(versions, dict) else None
    if not path.exists():
        if not all((folder / name).exists() for name in ("cells", "cells.json", "status.json")):
            return  # not the folder of a run, or of one that has not started
        if recorded != mores_version():  # before run.json was introduced
            check_format(folder, "run", None, RUN_FORMAT, recorded)
        raise UserError(f"{folder}: run.json is missing", code="unreadable", path=str(path))
    manifest = _read_object(path)
    damaged = manifest is not None and "format" not in manifest and recorded == mores_version()
    if manifest is None or damaged:
        raise unreadable(path, "it is not the manifest of a run")
    version = manifest.get("mores_version", recorded)
    check_format(folder, "run", manifest.get("format"), RUN_FORMAT, version)


def _read_object(path: Path) -> dict[str, Any] | None:
    """A JSON object; None if the file does not hold one."""
    try:
        content = json.loads(path.read_bytes()) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
