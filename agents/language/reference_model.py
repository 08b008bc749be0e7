"""Reference models: the model from which a trained policy should not diverge.

TRL builds the reference of a DPO or KTO run by loading the model's path once more, and a model
built in memory has none. `save_and_reload` returns a model with a path.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from torch import nn

from mores.core.errors import UserError


def make_reference_model(model: nn.Module) -> nn.Module:
    """A frozen copy of a model with its current weights, without dropout.

    Raises:
        UserError: the model has adapters: then the reference is the model without them.
    """
    if hasattr(model, "disable_adapter"):
        raise UserError(
            "a model with adapters needs no copy: its reference is the model without them",
            code="unsupported",
            path="model",
        )
    return copy.deepcopy(model).requires_grad_(False).eval()


def save_and_reload(model: Any, folder: Path | str, tokenizer: Any = None) -> Any:
    """The same model, saved to a folder and loaded from it, so that it has a path.

    Args:
        model: of transformers, such as one with random weights that was built in memory.
        folder: a new or empty one.
        tokenizer: saved to the same folder, if given.

    Raises:
        UserError: the folder is not empty.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(
            f"{folder} is not empty: a model needs a new or empty folder",
            code="not_writable",
            path=str(folder),
        )
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return type(model).from_pretrained(folder)
