"""Files named in parameters: their digest, so that a run is not resumed with another content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from mores.core.errors import ParameterError, did_you_mean, printable

SHA256_DESCRIPTION = (
    "digest of the file, which must match; null: filled in, so that a run is not resumed with "
    "another file"
)


def no_such_file(path: str, suffixes: Iterable[str]) -> str:
    """Message that a file does not exist: where it was looked for, and the nearest name there.

    Args:
        path: the file.
        suffixes: of files of that kind, such as `.csv`.
    """
    file, kinds = Path(path), tuple(suffixes)
    place = "" if file.is_absolute() else " (from the working directory)"
    try:
        neighbors = (each for each in file.parent.iterdir() if each.suffix in kinds)
        near = [each.name for each in neighbors if each.is_file()]
    except OSError:
        near = []
    return f"no such file{place}{did_you_mean(file.name, near)}"


def check_digest(path: str, expected: str | None, max_bytes: int | None = None) -> str | None:
    """SHA-256 of a file; None if there is no such file.

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
