"""Tests with SmolLM2-135M; skipped where it is not installed (`make language`)."""

from __future__ import annotations

import pytest

from mores.agents.language.models.smollm2 import INSTALL_COMMAND, model_folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if (model_folder() / "config.json").is_file():
        return
    for item in items:
        if "language_weights" in str(item.path):
            item.add_marker(pytest.mark.skip(reason=f"no SmolLM2: {INSTALL_COMMAND}"))
