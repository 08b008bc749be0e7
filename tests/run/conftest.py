"""An empty working folder; players that learn, known to tests of this folder and to no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from mores.registry import ENVIRONMENTS, POLICIES
from tests.run import pupils


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder: messages name the files in it alike, wherever it is."""
    monkeypatch.chdir(tmp_path)
    return Path()


@pytest.fixture
def arcade(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, made in pupils.GAMES.items():
        monkeypatch.setitem(ENVIRONMENTS, name, made)
    for name, made in pupils.KINDS.items():
        monkeypatch.setitem(POLICIES, name, made)
