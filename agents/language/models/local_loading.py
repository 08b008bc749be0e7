"""Models and adapters of transformers and PEFT from folders: every weight must come from a file.

The libraries initialize weights that a file lacks at random, and ignore weights that the model
lacks; both are refused here. Nothing is taken from outside the folder. Log messages of the
libraries are suppressed, since they repeat names of tensors from a file that is not trusted.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from mores.agents.language.models.model_files import (
    ADAPTER_CONFIG,
    check_config,
    check_regular,
    check_shards,
    read_json,
)
from mores.agents.language.optional_imports import import_optional
from mores.core.errors import UserError, printable, unreadable

ADAPTER_WEIGHTS = "adapter_model.safetensors"
# Settings of an adapter that PEFT reads as regular expressions, or as modules to import.
NOT_DATA = ("exclude_modules", "layers_pattern", "rank_pattern", "alpha_pattern", "megatron_config")


def load_model(folder: Path, path: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """Model and tokenizer of a folder.

    Args:
        folder: as of `model_folder`.
        path: name of the model, for messages.
        dtype: precision.

    Raises:
        UserError: the files cannot be loaded safely, or do not hold the weights of the model.
    """
    transformers = import_optional("transformers")
    transformers.utils.logging.disable_progress_bar()
    check_config(folder)
    check_shards(folder)
    with _silent(transformers):
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            model, found = _load_weights(transformers, folder, dtype)
        except Exception as error:  # of several libraries, about broken or unknown files
            raise unreadable(printable(path, 200), error) from None
    mismatched = [str(each[0]) for each in found["mismatched_keys"]]
    _check_names(path, "path", found["missing_keys"], found["unexpected_keys"], mismatched)
    return model, tokenizer


def _load_weights(transformers: Any, folder: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """Model, and names of tensors that are missing, unexpected or of another shape."""
    options = {
        "dtype": dtype,
        "use_safetensors": True,
        "trust_remote_code": False,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,  # refused by their names
    }
    load = transformers.AutoModelForCausalLM.from_pretrained
    # Named, so that the configuration of the model cannot choose; it is the default as well.
    try:
        return load(folder, attn_implementation="sdpa", **options)
    except ValueError as error:
        if "scaled_dot_product_attention" not in str(error):
            raise
    return load(folder, attn_implementation="eager", **options)


def merge_adapter(model: Any, path: str) -> Any:
    """A model with a LoRA adapter of PEFT merged into its weights.

    Args:
        model: the base model.
        path: folder of the adapter.

    Raises:
        UserError: the files cannot be loaded safely, or do not hold the weights of the adapter.
    """
    folder = Path(path).expanduser()
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise UserError(
            f"cannot load the adapter {printable(path, 200)}: no {ADAPTER_WEIGHTS} there",
            code="unreadable",
            path="adapter",
        )
    check_regular(folder)
    _check_adapter_config(read_json(folder / ADAPTER_CONFIG))
    peft, transformers = import_optional("peft"), import_optional("transformers")
    with _silent(transformers):
        try:
            adapted = peft.PeftModel.from_pretrained(model, folder)
            found = adapted.load_adapter(folder, "default")  # again: it says which names differ
        except Exception as error:
            raise unreadable(printable(path, 200), error) from None
        _check_names(path, "adapter", found.missing_keys, found.unexpected_keys)
        return adapted.merge_and_unload()


def _check_adapter_config(content: dict[str, Any]) -> None:
    kind, targets = content.get("peft_type"), content.get("target_modules")
    if kind != "LORA":
        message = f"peft_type: {printable(kind, 40)}: only LORA is supported"
        raise UserError(f"{ADAPTER_CONFIG}: {message}", code="unsupported", path="peft_type")
    if not isinstance(targets, list) or not all(isinstance(name, str) for name in targets):
        message = f"target_modules: must be a list of names, not {printable(targets, 40)}"
        raise UserError(f"{ADAPTER_CONFIG}: {message}", code="wrong_type", path="target_modules")
    for name in NOT_DATA:
        if value := content.get(name):
            message = f"{name}: {printable(value, 40)} is not supported"
            raise UserError(f"{ADAPTER_CONFIG}: {message}", code="unsupported", path=name)


def _check_names(
    path: str,
    field: str,
    missing: Iterable[str],
    unexpected: Iterable[str],
    mismatched: Iterable[str] = (),
) -> None:
    """Refuse weights that are not those of the model; tied ones are not missing."""
    kinds = {"missing": missing, "not of the model": unexpected, "of another shape": mismatched}
    parts = []
    for kind, given in kinds.items():
        if names := sorted(given):
            parts.append(f"{len(names)} {kind} ({printable(names[0], 60)})")
    if parts:
        raise UserError(
            f"cannot load {printable(path, 200)}: tensors differ from the configuration: "
            f"{', '.join(parts)}",
            code="incompatible",
            path=field,
        )


@contextlib.contextmanager
def _silent(transformers: Any) -> Iterator[None]:
    """Context in which libraries write no warnings: these repeat names from a file."""
    logging = transformers.utils.logging
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
