"""Files named in parameters: their digest, so that a run is not resumed with another content."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from mores.core.errors import ParameterError, did_you_mean, printable

SHA256_DESCRIPTION = (
    "digest of the file, which must match; null: filled in, so that a run is not resumed with "
    "another file"
)


def file_problem(path: str, suffixes: Iterable[str]) -> str | None:
    """Why a path names no regular file, for a message; None: it names one.

    A missing file is looked for among its neighbors. Of a device or a named pipe the content may
    have no end, or may never come.

    Args:
        path: the file, relative to the working directory.
        suffixes: of files of that kind, such as `.csv`.

    Raises:
        OSError: the system cannot read the path.
    """
    file, kinds = Path(path), tuple(suffixes)
    try:
        mode = os.stat(file).st_mode
    except FileNotFoundError:
        mode = None
    except NotADirectoryError:
        return "a part of the path is a file, not a folder"
    except ValueError as error:  # a null character
        return f"is no path: {error}"
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return "is a symbolic link that leads to itself"
    if mode is not None:
        return None if stat.S_ISREG(mode) else f"is {_kind(mode)}, not a regular file"
    if file.is_symlink():
        return f"is a symbolic link to {printable(os.readlink(file), 200)!r}, which does not exist"
    place = "" if file.is_absolute() else " (from the working directory)"
    try:
        neighbors = (each for each in file.parent.iterdir() if each.suffix in kinds)
        near = [each.name for each in neighbors if each.is_file()]
    except OSError:
        near = []
    return f"no such file{place}{did_you_mean(file.name, near)}"


def _kind(mode: int) -> str:
    """What a path that is no regular file is, by its mode."""
    kinds = {stat.S_ISDIR: "a directory", stat.S_ISFIFO: "a named pipe", stat.S_ISSOCK: "a socket"}
    return next((name for is_kind, name in kinds.items() if is_kind(mode)), "a device")


def check_digest(path: str, expected: str | None, max_bytes: int | None = None) -> str | None:
    """SHA-256 of a file; None if the path names no regular file: see `file_problem`.

    Args:
        path: the file, relative to the working directory.
        expected: the digest that it must have; None: any.
        max_bytes: largest size; None: any.

    Raises:
        ParameterError: it cannot be read or is too large (at `path`); it has another digest (at
            `sha256`).
    """
    try:
        if not Path(path).is_file():
            return None
        size = Path(path).stat().st_size
        if max_bytes is not None and size > max_bytes:
            message = f"{printable(path, 200)}: has {size:,} bytes; at most {max_bytes:,} are read"
            raise ParameterError("path", message=message, code="too_large")
        with Path(path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        message = f"cannot read {printable(path, 200)}: {error.strerror}"
        raise ParameterError("path", message=message, code="unreadable") from None
    if expected not in (None, digest):
        message = f"{printable(path, 200)} has another digest, {digest}"
        raise ParameterError("sha256", message=message, code="incompatible")
    return digest
