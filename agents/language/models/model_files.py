"""Files of a model: where they are, that they are safe to load, and their digests."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mores import registry
from mores.agents.language.optional_imports import import_optional
from mores.core.errors import UserError, did_you_mean, nearest_name, printable, unreadable

PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
# Files that transformers reads.
LOADED_PATTERNS = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "*.model"),
)
CONFIG_FILES = ("config.json", "generation_config.json")
ADAPTER_CONFIG = "adapter_config.json"
# Largest numbers of a configuration, at any depth, by name.
LARGEST: Mapping[str, int] = {
    **dict.fromkeys(("num_hidden_layers", "num_layers", "n_layer", "n_layers"), 1000),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 2**14),
    **dict.fromkeys(("hidden_size", "intermediate_size", "vocab_size", "n_embd"), 2**24),
}


def model_folder(path: str, revision: str = "") -> Path:
    """Folder of a model: this one, or that of the hub's cache, downloaded if need be.

    Of a repository on the hub only safetensors, configuration and tokenizer are downloaded, never
    pickled weights or code.

    Args:
        path: a folder, or a name on the hub (`owner/name`).
        revision: commit, branch or tag on the hub; empty: the default branch, as the hub has it
            now, or offline as the local cache has it.

    Raises:
        UserError: there is no such folder or model, it has no safetensors, it is an adapter, or a
            file is no regular file.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        folder = _hub_folder(path, revision)
    if os.path.lexists(folder / ADAPTER_CONFIG):  # transformers would load the model named in it
        raise UserError(
            f"cannot load {printable(path, 100)} as a model: it has an {ADAPTER_CONFIG}; give the "
            "folder of the base model as path, and that of the adapter as adapter",
            code="invalid_value",
            path="path",
        )
    if not any(folder.glob("*.safetensors")):
        pickled = [file.name for pattern in PICKLED for file in folder.glob(pattern)]
        reason = (
            f"{pickled[0]} is a pickle, which can execute code: convert it to safetensors "
            "(model.save_pretrained)"
            if pickled
            else "it has no *.safetensors"
        )
        raise UserError(
            f"cannot load {printable(path, 100)}: {reason}", code="unreadable", path="path"
        )
    check_regular(folder)
    return folder


def check_regular(folder: Path) -> None:
    """Refuse folders, devices, pipes and links to nothing among the files that transformers reads.

    Raises:
        UserError: there is such a file.
    """
    for file in _files(folder, LOADED_PATTERNS):
        if not file.is_file():
            raise unreadable(printable(file, 200), "it is not a regular file")


def read_json(file: Path) -> dict[str, Any]:
    """A JSON file that holds a mapping.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(printable(file, 200), error) from None
    if not isinstance(content, dict):
        raise unreadable(printable(file, 200), "it holds no mapping")
    return content


def check_config(folder: Path) -> None:
    """Refuse a configuration that names other weights or a kernel of the hub, or is too large.

    Raises:
        UserError: it does, or there is no readable config.json.
    """
    for name, value in _entries(read_json(folder / "config.json")):
        shown = printable(value, 60)
        if name == "transformers_weights" and value is not None:
            raise _refused_config(f"transformers_weights: {shown} names another file", name)
        if name.endswith("_implementation") and "/" in str(value):
            raise _refused_config(f"{printable(name)}: {shown} is code of the hub", printable(name))
        if name in LARGEST and isinstance(value, int | float) and value > LARGEST[name]:
            raise _refused_config(
                f"{name}: {shown} is more than {LARGEST[name]}", name, code="too_large"
            )


def check_shards(folder: Path) -> None:
    """Refuse an index of weights that names files outside the folder, or no safetensors.

    Raises:
        UserError: it does, or is unreadable.
    """
    for index in folder.glob("*.index.json"):
        names = read_json(index).get("weight_map")
        for name in names.values() if isinstance(names, dict) else [names]:
            if Path(str(name)).name != name or not str(name).endswith(".safetensors"):
                reason = f"weight_map: {printable(name, 60)} is no safetensors file of the folder"
                raise unreadable(printable(index, 200), reason)


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Names and values of a configuration, at any depth."""
    pending = [value]
    while pending:
        match pending.pop():
            case dict() as mapping:
                yield from mapping.items()
                pending.extend(mapping.values())
            case list() as values:
                pending.extend(values)
            case _:
                pass


def _refused_config(message: str, path: str, code: str = "unsupported") -> UserError:
    return UserError(f"config.json: {message}", code=code, path=path)


def _hub_folder(path: str, revision: str) -> Path:
    hub = import_optional("huggingface_hub")
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    try:
        found = hub.snapshot_download(
            path,
            revision=revision or None,
            allow_patterns=list(LOADED_PATTERNS),
            ignore_patterns=["*/*"],
            local_files_only=offline,
        )
    except Exception as error:  # whatever the hub raises: no network, no access, no such name
        reason = printable(str(error).strip().partition("\n")[0], 200)
        kinds = registry.REGISTRIES["language_model"]
        hint = nearest_name(path, kinds) if "/" in path else did_you_mean(path, kinds)
        raise UserError(
            f"cannot load {printable(path, 100)}: no folder of that name, and the hub does not "
            f"give it ({reason}){hint}",
            code="unreadable",
            path="path",
        ) from None
    return Path(found)


def file_digests(folder: Path, adapter: Path | None = None) -> dict[str, str]:
    """Digests of what determines the numbers of a model: sha256 by part.

    Parts: weights, config, tokenizer, chat_template (empty if there is none), and adapter.
    """
    digests = {
        "weights": _digest(folder.glob("*.safetensors")),
        "config": _digest(_files(folder, CONFIG_FILES)),
        "tokenizer": _digest(_files(folder, TOKENIZER_FILES)),
        "chat_template": _template_digest(folder),
    }
    if adapter is not None:
        digests["adapter"] = _digest(_files(adapter, ("*.safetensors", ADAPTER_CONFIG)))
    return digests


def text_digest(text: str) -> str:
    """sha256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def _template_digest(folder: Path) -> str:
    """Digest of the chat template, a file of its own or a part of the tokenizer's configuration."""
    own = folder / "chat_template.jinja"
    if own.is_file():
        try:
            return text_digest(own.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise unreadable(printable(own, 200), error) from None
    config = folder / "tokenizer_config.json"
    if not config.is_file():
        return ""
    template = read_json(config).get("chat_template")
    return "" if template is None else text_digest(json.dumps(template, sort_keys=True))


def _files(folder: Path, patterns: Iterable[str]) -> list[Path]:
    return [file for pattern in patterns for file in folder.glob(pattern)]


def _digest(files: Iterable[Path]) -> str:
    """Digest of names and contents; of a single file, that of its content."""
    digests: Mapping[str, str] = {file.name: file_digest(file) for file in sorted(set(files))}
    if len(digests) == 1:
        return next(iter(digests.values()))
    return text_digest("".join(f"{name} {digest}\n" for name, digest in digests.items()))


def file_digest(file: Path) -> str:
    """sha256 of a file, computed once in the process while size and modification time are equal."""
    if not file.is_file():
        raise unreadable(printable(file, 200), "it is not a regular file")
    try:
        status = file.stat()
        return _file_digest(str(file.resolve()), status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise unreadable(printable(file, 200), error) from None


@functools.lru_cache(maxsize=1024)
def _file_digest(path: str, _mtime: int, _size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
