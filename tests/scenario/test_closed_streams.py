"""Streams that are closed, sizes of terminals that are no numbers, requests of shells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mores.cli.commands import main
from mores.cli.standard_streams import remove_invalid_sizes
from tests.launchers.small_runs import SCENARIO, absolute_python_path


def shell(command: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command of a shell, in which `mores` is this package."""
    command = f'mores() {{ "{sys.executable}" -m mores "$@"; }}; {command}'
    environment = {**os.environ, "PYTHONPATH": absolute_python_path(), **variables}
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    "command",
    [
        "mores --version >&-",
        pytest.param("mores list --json >&-", marks=pytest.mark.full),
        pytest.param("mores list --json <&- >&- 2>&-", marks=pytest.mark.full),
    ],
)
def test_closed_streams(command: str, tmp_path: Path) -> None:
    done = shell(command, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.full
@pytest.mark.parametrize("closed", ["2>&-", "-q >&-"])
def test_runs_with_closed_streams(closed: str, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SCENARIO)
    options = "--out out" if "-q" in closed else "--json --out out"
    done = shell(f"mores run small.yaml {options} --allow-undecided {closed}", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "out" / "status.json").read_text())["state"] == "done"
    if closed == "2>&-":
        assert json.loads(done.stdout)["scenario"] == "small"


@pytest.mark.parametrize("size", ["²", "٣", "9" * 5000, "x", ""])
def test_sizes_of_terminals(
    size: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", size)
    monkeypatch.setenv("LINES", "40")
    remove_invalid_sizes()
    assert "COLUMNS" not in os.environ
    assert os.environ["LINES"] == "40"
    monkeypatch.setenv("COLUMNS", size)
    assert main(["list"]) == 0
    assert "Traceback" not in capsys.readouterr().err


def test_a_name_that_is_too_long(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resume", "x" * 5000]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "File name too long" in error


@pytest.mark.parametrize("request_", ["complete_bash", "complete_nothing"])
def test_a_request_for_completions_that_is_wrong(
    request_: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_MORES_COMPLETE", request_)
    monkeypatch.delenv("COMP_WORDS", raising=False)
    assert main([]) == 1
    assert capsys.readouterr() == ("", "")
