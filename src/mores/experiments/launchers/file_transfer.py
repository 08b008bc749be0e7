"""Files of a cell as bytes, sent between machines that share no disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mores.core.errors import UserError, printable
from mores.experiments.results.checked_files import CheckedFolder, is_plain_name

FileContents = dict[str, bytes]  # content by path relative to a folder, with "/"


def read_files(folder: CheckedFolder) -> FileContents:
    """Content of all files below a folder.

    Raises:
        UserError: one cannot be read, or is no regular file.
    """
    files: FileContents = {}
    for name in folder.names():
        if folder.kind(name) == "folder":
            below = read_files(folder.folder(name))
            files |= {f"{name}/{path}": content for path, content in below.items()}
        else:
            files[name] = folder.read(name)
    return files


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a folder that holds none of them.

    Raises:
        UserError: a path leads out of the folder.
        OSError: a file cannot be written.
    """
    for path, content in files.items():
        if not all(map(is_plain_name, path.split("/"))):
            message = f"{printable(path, 60)!r} is not the path of a file of a cell"
            raise UserError(message, code="invalid_value", path=path)
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            file.write(content)
