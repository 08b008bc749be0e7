"""The package `mesa`, or an error that names the extra to install."""

from __future__ import annotations

from mores.core.errors import UserError

try:
    import mesa as mesa
except ImportError as error:
    raise UserError(
        f"Mesa is not installed ({error}): pip install mores[mesa]",
        code="not_installed",
        path="mesa",
    ) from None
