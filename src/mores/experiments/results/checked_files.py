"""The one way to read files below the folder of a run, which may come from another person.

Every path below that folder leads through folders and to a regular file: links, pipes and devices
are refused without being opened. Sizes are limited. JSON is UTF-8, not nested deeply, and has no
key twice; a *sealed* object has a checksum of itself. A file of a cell is decoded from the bytes
whose checksum was verified, so no library reads from the folder itself.
"""

from __future__ import annotations

import json
import os
import re
import stat
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from mores.core.errors import UserError, printable, unreadable

MAX_JSON_BYTES = 2**26
MAX_FILE_BYTES = 2**34
MAX_JSON_DEPTH = 64  # levels of nesting
BLOCK_BYTES = 2**20
SEAL = "self_checksum"  # key of the checksum of an object

LINK = "it is a symbolic link, and the folder of a run has none"

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_TEXT_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{\]}]', re.DOTALL)


class CheckedFolder:
    """A folder to read from; no link below `root` is followed.

    Args:
        root: folder that the user named. Links on the way to it are the user's own.
        *names: names of folders below it, down to this one.
    """

    def __init__(self, root: Path, *names: str) -> None:
        self.root, self._names = root, names
        self.path = root.joinpath(*names)
        for name in names:
            if not is_plain_name(name):
                raise unreadable(root, f"{printable(name, 60)!r} is not the name of a file")

    def folder(self, *names: str) -> CheckedFolder:
        """A folder below this one."""
        return CheckedFolder(self.root, *self._names, *names)

    def kind(self, name: str) -> str:
        """`file` or `folder`; an empty text if there is nothing of that name.

        Raises:
            UserError: it is a link or something else, or cannot be reached.
        """
        parts = self._parts(name)
        try:
            with self._open_parent(parts) as parent:
                return _kind(os.stat(parts[-1], dir_fd=parent, follow_symlinks=False))
        except FileNotFoundError:
            return ""
        except (OSError, ValueError) as error:
            self._refuse(name, error)

    def names(self) -> list[str]:
        """Names of all files and folders in this one, in order.

        Raises:
            UserError: this is not a folder, or cannot be read.
        """
        try:
            with self._open_parent((*self._names, "")) as parent:
                return sorted(os.listdir(parent))
        except (OSError, ValueError) as error:
            self._refuse("", error)

    def read(self, name: str, max_bytes: int = MAX_FILE_BYTES) -> bytes:
        """Content of a file.

        Raises:
            UserError: it is missing, not a regular file, too large or unreadable.
        """
        return b"".join(self._blocks(name, max_bytes))

    def read_verified(self, name: str, size_and_checksum: object) -> bytes:
        """Content of a file of that size and checksum.

        Raises:
            UserError: see `read`; or the content is another one.
        """
        match size_and_checksum:
            case [int(size), int(checksum)] if self.size(name) == size:
                data = self.read(name)
                if (len(data), zlib.crc32(data)) == (size, checksum):
                    return data
        reason = "its size or checksum differs from the recorded one"
        raise unreadable(self.path / name, reason)

    def size(self, name: str) -> int:
        """Size of a file in bytes.

        Raises:
            UserError: it cannot be reached.
        """
        parts = self._parts(name)
        try:
            with self._open_parent(parts) as parent:
                return os.stat(parts[-1], dir_fd=parent, follow_symlinks=False).st_size
        except (OSError, ValueError) as error:
            self._refuse(name, error)

    def size_and_checksum(self, name: str) -> list[int]:
        """Size and CRC-32 of a file.

        Raises:
            UserError: see `read`.
        """
        size = checksum = 0
        for block in self._blocks(name, MAX_FILE_BYTES):
            size, checksum = size + len(block), zlib.crc32(block, checksum)
        return [size, checksum]

    def read_json(self, name: str) -> Any:
        """Content of a JSON file.

        Raises:
            UserError: see `read`; or it is not such JSON as mores writes.
        """
        data = self.read(name, MAX_JSON_BYTES)
        try:
            return parse_json(data)
        except ValueError as error:
            raise unreadable(self.path / name, error) from None

    def read_sealed(self, name: str) -> dict[str, Any]:
        """Content of a JSON object with a checksum of itself, without the checksum.

        Raises:
            UserError: see `read_json`; or the object was changed.
        """
        content = self.read_json(name)
        if not isinstance(content, dict) or content.pop(SEAL, None) != self_checksum(content):
            raise unreadable(self.path / name, "it was changed: its checksum differs")
        return content

    def _parts(self, name: str) -> tuple[str, ...]:
        parts = (*self._names, *name.split("/"))
        if not all(map(is_plain_name, parts)):
            reason = f"{printable(name, 60)!r} is not the name of a file"
            raise unreadable(self.path, reason)
        return parts

    @contextmanager
    def _open_parent(self, parts: tuple[str, ...]) -> Iterator[int]:
        """A descriptor of the folder of the last part."""
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in parts[:-1]:
                below = os.open(part, _FOLDER_FLAGS, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            os.close(descriptor)

    def _blocks(self, name: str, max_bytes: int) -> Iterator[bytes]:
        parts = self._parts(name)
        try:
            with self._open_parent(parts) as parent:
                found = _kind(os.stat(parts[-1], dir_fd=parent, follow_symlinks=False))
                if found != "file":
                    raise ValueError("it is a folder")
                descriptor = os.open(parts[-1], _FILE_FLAGS, dir_fd=parent)
            with open(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                if _kind(status) != "file":
                    raise ValueError("it is not a regular file")
                if status.st_size > max_bytes:
                    raise ValueError(f"it has more than {max_bytes:,} bytes")
                left = status.st_size
                while left and (block := file.read(min(left, BLOCK_BYTES))):
                    left -= len(block)
                    yield block
        except (OSError, ValueError) as error:
            self._refuse(name, error)

    def _refuse(self, name: str, error: Exception) -> NoReturn:
        """Raise an error about a file; it names the first link on the way to it."""
        path = self.root
        for part in (*self._names, *filter(None, name.split("/"))):
            path = path / part
            if path.is_symlink():
                raise unreadable(path, LINK) from None
        raise unreadable(path, getattr(error, "strerror", None) or error) from None


def is_plain_name(name: object) -> bool:
    """Whether a text is the name of one file or folder, and no path."""
    if not isinstance(name, str) or name in ("", ".", ".."):
        return False
    try:
        return "/" not in name and "\0" not in name and len(name.encode("utf-8")) < 256
    except UnicodeEncodeError:
        return False


def check_tree(folder: Path) -> None:
    """Check that a folder contains regular files and folders only, at every level.

    Raises:
        UserError: it contains a link, a pipe, a device or a socket, or cannot be read.
    """
    pending = [folder]
    try:
        while pending:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(Path(entry.path))
                    elif not entry.is_file(follow_symlinks=False):
                        reason = LINK if entry.is_symlink() else "it is not a regular file"
                        raise unreadable(printable(entry.path, 300), reason)
    except OSError as error:
        raise unreadable(error.filename or folder, error.strerror) from None


def parse_json(data: bytes | str, finite: bool = True) -> Any:
    """Content of a JSON text.

    Args:
        data: the text, as text or UTF-8.
        finite: refuse `NaN` and `Infinity`, which strict JSON lacks.

    Raises:
        ValueError: it is not JSON, nested deeply, or has a key twice.
    """
    text = data if isinstance(data, str) else data.decode("utf-8")
    depth = 0
    if text.count("[") + text.count("{") > MAX_JSON_DEPTH:
        for match in _TEXT_OR_BRACKET.finditer(text):
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
            if depth > MAX_JSON_DEPTH:
                raise ValueError(f"it is nested deeper than {MAX_JSON_DEPTH} levels")
    constant = _refuse_constant if finite else float
    content = json.loads(text, object_pairs_hook=_object, parse_constant=constant)
    if "\\u" in text:
        json.dumps(content, ensure_ascii=False).encode("utf-8")  # a ValueError for half a character
    return content


def self_checksum(content: Mapping[str, Any]) -> int:
    """Checksum of a JSON object, whatever the order of its keys."""
    return zlib.crc32(json.dumps(content, sort_keys=True).encode("utf-8"))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("an object has a key twice")
    return content


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _kind(status: os.stat_result) -> str:
    if stat.S_ISREG(status.st_mode):
        return "file"
    if stat.S_ISDIR(status.st_mode):
        return "folder"
    raise ValueError(LINK if stat.S_ISLNK(status.st_mode) else "it is not a regular file")


def missing(folder: CheckedFolder, name: str) -> UserError:
    """The error of a file that a run did not write."""
    message = f"{folder.path} has no {name}: the run writes none, or has not written it yet"
    return UserError(message, code="unreadable", path=str(folder.path / name))
