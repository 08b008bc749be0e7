"""Format numbers of what mores writes to disk, and the error for every other format."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

from mores.core.errors import UserError

RUN_FORMAT = 6  # the folder of a run: run.json, cells, checkpoints
TRAINED_FORMAT = 5  # a file of `TrainingResult.save`
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
