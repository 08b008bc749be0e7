"""References: what a policy is not to stray from.

TRL builds the reference of a DPO or KTO run by loading the model's path once more, and a model made
in memory has none. `save_and_reload` gives it one.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from torch import nn

from mores.core.errors import UserError


def make_reference_model(model: nn.Module) -> nn.Module:
    """A frozen copy of a model as it is now, without dropout.

    Raises:
        UserError: the model has adapters: then it is its own reference, without them.
    """
    if hasattr(model, "disable_adapter"):
        raise UserError(
            "a model with adapters is its own reference, without them: no copy is needed",
            code="unsupported",
            path="model",
        )
    return copy.deepcopy(model).requires_grad_(False).eval()


def save_and_reload(model: Any, folder: Path | str, tokenizer: Any = None) -> Any:
    """The same model, loaded from a folder it was saved to: a model that has a path.

    Args:
        model: of transformers, such as one with random weights that was made in memory.
        folder: a new or empty one.
        tokenizer: saved beside it, if given.

    Raises:
        UserError: there is something in the folder already.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(
            f"{folder} is not empty: a model is saved to a folder of its own",
            code="not_writable",
            path=str(folder),
        )
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return type(model).from_pretrained(folder)
