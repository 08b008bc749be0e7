"""Libraries of the extras `hf` and `llm` (`pip install 'mores[hf]'`), imported at first use."""

from __future__ import annotations

import importlib
from typing import Any

from mores.core.errors import UserError


def import_optional(name: str, extra: str = "hf") -> Any:
    """A library of an extra.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"language models need {name}, which cannot be imported ({error}): "
            f"pip install 'mores[{extra}]'",
            code="not_installed",
            path=name,
        ) from None
