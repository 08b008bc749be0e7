"""Players that learn, known to tests of this folder and to no others."""

from __future__ import annotations

import pytest

from mores.registry import ENVIRONMENTS, PLAYERS
from tests.run import pupils


@pytest.fixture
def arcade(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, made in pupils.GAMES.items():
        monkeypatch.setitem(ENVIRONMENTS, name, made)
    for name, made in pupils.KINDS.items():
        monkeypatch.setitem(PLAYERS, name, made)
