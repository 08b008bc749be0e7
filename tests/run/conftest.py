"""An empty working folder; an environment and learners that are registered for these tests only."""

from __future__ import annotations

from pathlib import Path

import pytest

from mores.registry import REGISTRIES
from tests.run import bandit_learners


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, relative, so that messages do not depend on its path."""
    monkeypatch.chdir(tmp_path)
    return Path()


@pytest.fixture
def bandit_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, cls in bandit_learners.ENVIRONMENT_KINDS.items():
        monkeypatch.setitem(REGISTRIES["environment"], name, cls)
    for name, cls in bandit_learners.POLICY_KINDS.items():
        monkeypatch.setitem(REGISTRIES["policy"], name, cls)
