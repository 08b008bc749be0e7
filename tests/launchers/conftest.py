"""Runs without a report, which takes longer than they do and has its own tests."""

from __future__ import annotations

import pytest

from mores.experiments.results import atomic_files
from mores.experiments.run import engine
from tests.launchers.small_runs import absolute_python_path


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(run_plan, *_):
        atomic_files.write_text(run_plan.folder / "report.html", "a report")

    monkeypatch.setattr(engine, "_write_report", write)


@pytest.fixture(autouse=True, scope="module")
def python_path():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", absolute_python_path())
        yield
