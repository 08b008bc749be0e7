"""A file of tensors and of plain data about them, with a checksum: whole or absent, never code.

It is a safetensors file, which its own readers open. What is told of the tensors stands in its
metadata as JSON, beside a checksum of both.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mores.core.errors import UserError


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write a file that takes the place of an earlier one at once, or leaves it as it is.

    Args:
        path: of the file; folders above it are made.
        tensors: by name, contiguous and none the memory of another, on the host.
        metadata: what is told of them; JSON can say it.

    Raises:
        UserError: the disk says no.
    """
    from safetensors.torch import save

    from mores.experiments.results import atomic_files

    text = json.dumps(metadata, ensure_ascii=False, allow_nan=False)
    data = save(dict(tensors), {"about": text, "checksum": str(_checksum(tensors, text))})
    with atomic_files.translate_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            raise OSError("a folder or device is there")
    atomic_files.write_bytes(path, data)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What was written: the tensors, and what was told of them.

    Raises:
        UserError: there is no such file, or it is another one, or not as it was written.
    """
    from safetensors import SafetensorError, safe_open

    try:
        if path.is_dir():
            raise OSError("it is a folder")
        if not path.is_file():
            raise OSError("there is no such file")
        with safe_open(path, framework="pt") as file:
            told = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise _unreadable(path, f"it is no safetensors file ({error})") from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    if "about" not in told:
        raise _unreadable(
            path,
            "`Trained.save` did not write it (checkpoints of a run are read by "
            "`mores.open_run(...).checkpoint`)",
        )
    if told.get("checksum") != str(_checksum(tensors, told["about"])):
        raise _unreadable(path, "it is not as it was written")
    return tensors, json.loads(told["about"])


def _unreadable(path: Path, why: object) -> UserError:
    return UserError(f"cannot read {path}: {why}", code="unreadable", path=str(path))


def _checksum(tensors: Mapping[str, Tensor], text: str) -> int:
    found = zlib.crc32(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        found = zlib.crc32(f"{name} {list(tensor.shape)} {tensor.dtype}".encode(), found)
        found = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, found)
    return found
