"""Files of a model: where they are, that they are safe to load, and their digests."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from mores.agents.language.optional_imports import import_optional
from mores.core.errors import UserError, printable

PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
NEEDED = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")  # of a repository on the hub
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "*.model"),
)
CONFIG_FILES = ("config.json", "generation_config.json")


def model_folder(path: str, revision: str = "") -> Path:
    """Folder of a model: this one, or that of the hub's cache, downloaded if need be.

    Of a repository on the hub only safetensors, configuration and tokenizer are downloaded, never
    pickled weights or code.

    Args:
        path: a folder, or a name on the hub (`owner/name`).
        revision: commit, branch or tag on the hub; empty: the newest.

    Raises:
        UserError: there is no such folder or model, or it has no safetensors.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        folder = _hub_folder(path, revision)
    if not any(folder.glob("*.safetensors")):
        pickled = [file.name for pattern in PICKLED for file in folder.glob(pattern)]
        reason = (
            f"{pickled[0]} is a pickle, which can execute code: convert it to safetensors "
            "(model.save_pretrained)"
            if pickled
            else "it has no *.safetensors"
        )
        raise UserError(f"cannot load {path}: {reason}", code="unreadable", path="path")
    return folder


def _hub_folder(path: str, revision: str) -> Path:
    hub = import_optional("huggingface_hub")
    try:
        found = hub.snapshot_download(
            path, revision=revision or None, allow_patterns=list(NEEDED), ignore_patterns=["*/*"]
        )
    except Exception as error:  # whatever the hub raises: no network, no access, no such name
        reason = printable(str(error).strip().partition("\n")[0], 200)
        raise UserError(
            f"cannot load {printable(path, 100)}: no folder of that name, and the hub does not "
            f"give it ({reason})",
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
        digests["adapter"] = _digest(_files(adapter, ("*.safetensors", "adapter_config.json")))
    return digests


def text_digest(text: str) -> str:
    """sha256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def _template_digest(folder: Path) -> str:
    """Digest of the chat template, a file of its own or a part of the tokenizer's configuration."""
    own = folder / "chat_template.jinja"
    if own.is_file():
        return text_digest(own.read_text(encoding="utf-8"))
    config = folder / "tokenizer_config.json"
    if not config.is_file():
        return ""
    template = json.loads(config.read_text(encoding="utf-8")).get("chat_template")
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
    """sha256 of a file, computed once in the process while size and time of change stay equal."""
    status = file.stat()
    return _file_digest(str(file.resolve()), status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=1024)
def _file_digest(path: str, _mtime: int, _size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
