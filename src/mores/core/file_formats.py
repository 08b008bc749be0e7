"""Format numbers of what mores writes to disk, and the error for every other format."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path
from typing import Any

from mores.core.errors import UserError

RUN_FORMAT = 2  # the folder of a run: run.json, cells, checkpoints
TRAINED_FORMAT = 3  # a file of `TrainingResult.save`
VERSION_PATTERN = r"[0-9A-Za-z.+!-]{1,40}"


def mores_version() -> str:
    """Version of the installed package."""
    return metadata.version("mores")


def incompatible_format(
    path: Path, what: str, found: object, expected: int, version: object
) -> UserError:
    """The error for a file or folder whose format this version does not read, in one line.

    Args:
        path: the file or folder.
        what: `run` or `trained policies`.
        found: its format.
        expected: the format that this version reads.
        version: version of mores that wrote it; anything but a version: it is not recorded.
    """
    known = isinstance(version, str) and re.fullmatch(VERSION_PATTERN, version)
    writer = f"mores {version}" if known else "mores 0.1.0 or older"
    message = (
        f"{path}: {what} of format {found!r:.20}, written by {writer}; "
        f"mores {mores_version()} reads format {expected} and no other"
    )
    return UserError(message, code="incompatible", path=str(path))


def check_run_format(folder: Path) -> None:
    """Refuse the folder of a run in another format. A file that is not JSON is no format.

    Raises:
        UserError: the folder has another format.
    """
    manifest = _read_object(folder / "run.json")
    versions = _read_object(folder / "provenance.json").get("versions")
    recorded = versions.get("mores") if isinstance(versions, dict) else None
    old_files = all((folder / name).exists() for name in ("cells", "cells.json", "status.json"))
    # Before run.json was introduced, folders had none; this version's may have lost theirs.
    old = not (folder / "run.json").exists() and old_files and recorded != mores_version()
    if manifest.get("format", RUN_FORMAT) == RUN_FORMAT and not old:
        return
    version = manifest.get("mores_version", recorded)
    raise incompatible_format(folder, "run", manifest.get("format", 0), RUN_FORMAT, version)


def _read_object(path: Path) -> dict[str, Any]:
    """A JSON object; empty if the file does not hold one."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
