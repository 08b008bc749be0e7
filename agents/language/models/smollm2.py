"""SmolLM2-135M-Instruct, from the cache that `make language` fills."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field

from mores.agents.language.models.local import LocalModel


def cache_folder() -> Path:
    """Folder of converted models: `$MORES_MODELS`, by default `~/.cache/mores/models`."""
    return Path(os.environ.get("MORES_MODELS") or Path.home() / ".cache" / "mores" / "models")


class SmolLM2(LocalModel):
    """SmolLM2-135M-Instruct in 32 bits, dequantized from 4-bit weights (Apache-2.0)."""

    path: str = Field(
        default_factory=lambda: str(cache_folder() / "smollm2"), description="its folder"
    )
