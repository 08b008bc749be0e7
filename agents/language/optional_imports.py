"""Libraries of the extra `hf`, imported at first use."""

from __future__ import annotations

import importlib
from typing import Any

from mores.core.errors import UserError


def import_optional(name: str) -> Any:
    """A library of the extra.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"language models need {name}, which cannot be imported ({error}): "
            "pip install 'mores[hf]'",
            code="not_installed",
            path=name,
        ) from None
