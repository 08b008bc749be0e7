"""Atomic writes: a file, or a folder of files, is either complete or absent.

Data is written under a hidden temporary name in the same folder and then renamed, which a file
system does atomically. A process that ends at any moment (killed, disk full) leaves the previous
content or the new one, and at most a hidden `*.part`. With `sync`, bytes and names are forced to
the disk around the rename, so that the same holds when the machine itself fails. A folder is
renamed as a whole: all of its files, or none.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import socket
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mores.core.errors import UserError
from mores.experiments.results.checked_files import SEAL, self_checksum

PARTIAL_SUFFIX = ".part"
_TEMPORARY_NAME = re.compile(rf"\.(.+)\.[0-9]+{re.escape(PARTIAL_SUFFIX)}", re.DOTALL)
FSYNC_UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}  # as some file systems for folders


class WriteError(UserError):
    """The disk is full or not writable; files written before are complete."""


@contextlib.contextmanager
def translate_write_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` into a one-line `WriteError` about `path`."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        message = f"cannot write {path}: {reason}"
        raise WriteError(message, code="not_writable", path=str(path)) from None


def write_bytes(path: Path, data: bytes, sync: bool = True) -> None:
    """Write a file atomically.

    Raises:
        WriteError: the file cannot be written.
    """
    temporary = _temporary_path(path)
    with translate_write_errors(path):
        try:
            temporary.unlink(missing_ok=True)  # of a process that was killed and had the same id
            with temporary.open("xb") as file:  # "x" does not follow a link
                file.write(data)
            if sync:
                _fsync(temporary)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        if sync:
            _fsync(path.parent)


def write_text(path: Path, text: str, sync: bool = True) -> None:
    """Write a text file atomically; see `write_bytes`."""
    write_bytes(path, text.encode("utf-8"), sync)


def write_json(path: Path, data: Any, sync: bool = True) -> None:
    """Write strict JSON atomically: NaN and infinities become null; see `write_bytes`."""
    write_text(path, json.dumps(_strict(data), indent=2, ensure_ascii=False) + "\n", sync)


def write_sealed_json(path: Path, data: Mapping[str, Any], sync: bool = True) -> None:
    """Write a strict JSON object with a checksum of itself; see `write_json`."""
    content = _strict(data)
    content.pop(SEAL, None)
    write_json(path, {**content, SEAL: self_checksum(content)}, sync)


def _strict(data: Any) -> Any:
    text = json.dumps(data, default=_to_plain, ensure_ascii=False)
    return json.loads(text, parse_constant=lambda _: None)


def _to_plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value.item()  # else a number of numpy


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A hidden folder to fill, renamed to `path` at the end.

    If `path` exists by then, it stays and the new folder is dropped.

    Raises:
        WriteError: the folder cannot be written.
    """
    temporary = _temporary_path(path)
    with translate_write_errors(path):
        try:
            temporary.mkdir()  # without parents: the folder of a run that was moved stays away
            yield temporary
            for inner in sorted(temporary.rglob("*")):
                _fsync(inner)
            _fsync(temporary)
            try:
                os.rename(temporary, path)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                shutil.rmtree(temporary)
            _fsync(path.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def move_folder(path: Path, target: Path) -> None:
    """Rename a folder; `target` must not exist.

    Raises:
        WriteError: the folder cannot be renamed.
    """
    with translate_write_errors(path):
        os.rename(path, target)
        _fsync(path.parent)


def remove_folder(path: Path) -> None:
    """Remove a folder. It is renamed first, so that no partly removed folder is read as complete.

    Raises:
        WriteError: the folder cannot be removed.
    """
    with translate_write_errors(path):
        temporary = _temporary_path(path)
        os.rename(path, temporary)
        shutil.rmtree(temporary)


def remove_partial_files(folder: Path, is_own: Callable[[str, Path], bool]) -> None:
    """Remove the temporary files that killed processes left directly in a folder.

    Args:
        folder: the folder.
        is_own: whether a final name and its temporary file or folder are of this program; others
            stay.

    Raises:
        WriteError: a file cannot be removed.
    """
    with translate_write_errors(folder):
        for temporary in folder.glob(f".*{PARTIAL_SUFFIX}"):
            match = _TEMPORARY_NAME.fullmatch(temporary.name)
            if match is None or temporary.is_symlink() or not is_own(match[1], temporary):
                continue
            if temporary.is_dir():
                shutil.rmtree(temporary, ignore_errors=True)  # a dying worker may still write
            else:
                temporary.unlink(missing_ok=True)


def _temporary_path(path: Path) -> Path:
    """Hidden name of a file or folder that this process writes.

    Processes of several machines may write into one shared folder with equal process ids, which
    containers usually have.
    """
    host = zlib.crc32(socket.gethostname().encode())
    return path.with_name(f".{path.name}.{os.getpid()}{host:010d}{PARTIAL_SUFFIX}")


def _fsync(path: Path) -> None:
    """Force a file's bytes, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        full = getattr(fcntl, "F_FULLFSYNC", None)  # macOS: fsync leaves data in the drive's cache
        if full is not None:
            with contextlib.suppress(OSError):
                fcntl.fcntl(descriptor, full)
                return
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in FSYNC_UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)
