"""Writing so that a file, or a folder of files, is whole or absent.

What is written is written beside its place, under a hidden name, and then renamed, which a file
system does at once or not at all. So a process that ends at any moment, killed or out of disk,
leaves what was there before, or the new, and at most a hidden `*.part`. Where `sync` holds, bytes
and names are forced to the disk around the rename: the same is then true when the machine itself
goes down. A folder is renamed as one: all of its files, or none.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mores.core.errors import UserError

PARTIAL_SUFFIX = ".part"
FSYNC_UNSUPPORTED = {
    errno.EINVAL,
    errno.ENOTSUP,
    errno.EBADF,
}  # file systems that cannot force a folder


class WriteError(UserError):
    """The disk is full, or not ours: what was written before is whole."""


@contextlib.contextmanager
def translate_write_errors(path: Path) -> Iterator[None]:
    """Turn what the disk says into one line about `path`."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        message = f"cannot write {path}: {reason}"
        raise WriteError(message, code="not_writable", path=str(path)) from None


def write_bytes(path: Path, data: bytes, sync: bool = True) -> None:
    """Write a file that is either whole or not there.

    Raises:
        CannotWrite: the disk says no.
    """
    spare = _temporary_path(path)
    with translate_write_errors(path):
        try:
            with spare.open("wb") as file:
                file.write(data)
            if sync:
                _fsync(spare)
            os.replace(spare, path)
        except BaseException:
            with contextlib.suppress(OSError):
                spare.unlink(missing_ok=True)
            raise
        if sync:
            _fsync(path.parent)


def write_text(path: Path, text: str, sync: bool = True) -> None:
    """Write a file that is either whole or not there; see `write_bytes`."""
    write_bytes(path, text.encode("utf-8"), sync)


def write_json(path: Path, data: Any, sync: bool = True) -> None:
    """Write strict JSON: what is not a finite number becomes null; see `write_bytes`."""
    write_text(
        path, json.dumps(_nonfinite_to_none(data), indent=2, ensure_ascii=False) + "\n", sync
    )


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A hidden folder to be filled, which then becomes `path` at once.

    Where `path` has come to be in the meantime, it is kept and what was filled in is dropped.

    Raises:
        CannotWrite: the disk says no.
    """
    spare = _temporary_path(path)
    with translate_write_errors(path):
        try:
            spare.mkdir()  # not its parents: a run that was moved away is not begun anew
            yield spare
            for inside in sorted(spare.rglob("*")):
                _fsync(inside)
            _fsync(spare)
            try:
                os.rename(spare, path)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                shutil.rmtree(spare)
            _fsync(path.parent)
        except BaseException:
            shutil.rmtree(spare, ignore_errors=True)
            raise


def remove_folder(path: Path) -> None:
    """Take a folder away: under a hidden name first, so that no half of it is taken for whole.

    Raises:
        CannotWrite: the disk says no.
    """
    with translate_write_errors(path):
        spare = _temporary_path(path)
        os.rename(path, spare)
        shutil.rmtree(spare)


def remove_partial_files(folder: Path) -> None:
    """Take away what processes that were killed had begun to write directly in a folder.

    Raises:
        CannotWrite: the disk says no.
    """
    with translate_write_errors(folder):
        for spare in folder.glob(f".*{PARTIAL_SUFFIX}"):
            if spare.is_dir():
                shutil.rmtree(spare, ignore_errors=True)  # a worker may be at its last breath
            else:
                spare.unlink(missing_ok=True)


def _temporary_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}{PARTIAL_SUFFIX}")


def _fsync(path: Path) -> None:
    """Have a file's bytes, or a folder's names, on the disk and not only on their way."""
    handle = os.open(path, os.O_RDONLY)
    try:
        full = getattr(fcntl, "F_FULLFSYNC", None)  # macOS: fsync alone leaves them in the drive
        if full is not None:
            with contextlib.suppress(OSError):
                fcntl.fcntl(handle, full)
                return
        os.fsync(handle)
    except OSError as error:
        if error.errno not in FSYNC_UNSUPPORTED:
            raise
    finally:
        os.close(handle)


def _nonfinite_to_none(data: Any) -> Any:
    if isinstance(data, float) and not math.isfinite(data):
        return None
    if isinstance(data, Mapping):
        return {str(key): _nonfinite_to_none(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_nonfinite_to_none(value) for value in data]
    if isinstance(data, np.generic):
        return _nonfinite_to_none(data.item())
    return data
