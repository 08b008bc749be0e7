"""A safetensors file of tensors and JSON metadata, with a checksum: written atomically, no code.

Any safetensors reader opens it. The JSON is in the file's metadata, with a checksum of both.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mores.core.errors import unreadable
from mores.experiments.results.checked_files import parse_json


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write a file, or replace one, atomically.

    Args:
        path: of the file; missing folders are created.
        tensors: by name, contiguous, without shared memory, on the CPU.
        metadata: anything that JSON represents.

    Raises:
        WriteError: the file cannot be written.
    """
    from safetensors.torch import save

    from mores.experiments.results import atomic_files

    text = json.dumps(metadata, ensure_ascii=False)
    data = save(dict(tensors), {"metadata": text, "checksum": str(_checksum(tensors, text))})
    with atomic_files.translate_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            raise OSError("a folder or device has this name")
    atomic_files.write_bytes(path, data)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the metadata of a file. The path may be that of a link: the user named it.

    Raises:
        UserError: the file does not exist, was changed, or is not one of `write`.
    """
    if not path.is_file():
        raise unreadable(path, "it is a folder" if path.is_dir() else "there is no such file")
    try:
        return decode(path.read_bytes())
    except MemoryError:
        raise unreadable(path, "it does not fit into memory") from None
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None


def decode(data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the metadata in the content of a file.

    Raises:
        ValueError: the content was changed, or is not one of `write`.
    """
    header, tensors = decode_tensors(data)
    text = header.get("metadata", header.get("about"))  # `about` in mores 0.1.0
    if text is None:
        raise ValueError(
            "`TrainingResult.save` did not write it (checkpoints of a run are read by "
            "`mores.open_run(...).checkpoint`)"
        )
    if header.get("checksum") != str(_checksum(tensors, text)):
        raise ValueError("it was changed")
    metadata = parse_json(text, finite=False)
    if not isinstance(metadata, dict):
        raise ValueError("its metadata are not a JSON object")
    return tensors, metadata


def decode_tensors(data: bytes) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The texts in the header, and the tensors, of the content of a safetensors file.

    Raises:
        ValueError: it is no such content.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(data)
    except (SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"it is not a safetensors file ({error})") from None
    length = int.from_bytes(data[:8], "little")
    header = parse_json(data[8 : 8 + length]).get("__metadata__") or {}
    return header, tensors


def _checksum(tensors: Mapping[str, Tensor], text: str) -> int:
    checksum = zlib.crc32(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        checksum = zlib.crc32(f"{name} {list(tensor.shape)} {tensor.dtype}".encode(), checksum)
        checksum = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, checksum)
    return checksum
