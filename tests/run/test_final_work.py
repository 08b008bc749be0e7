"""What is shown after all cells of a run are simulated, while its report is written."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from mores.experiments import progress


def show(monkeypatch: pytest.MonkeyPatch, enabled: bool, is_terminal: bool) -> str:
    """What is printed around a final work of a second part."""
    stream = io.StringIO()

    def console(**_: object) -> Console:
        return Console(file=stream, force_terminal=is_terminal, width=100)

    monkeypatch.setattr(progress, "Console", console)
    with progress.ProgressDisplay("walkers", 2.0, enabled) as display:
        display.update("2 of 2 cells", advance=2.0)
        with display.final_work("writing the report"):
            during = stream.getvalue()
    # a terminal is written by a thread, at the latest when the work ends
    return stream.getvalue() if is_terminal else during


@pytest.mark.parametrize("is_terminal", [False, True])
def test_the_report_is_announced_before_it_is_written(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    assert "writing the report" in show(monkeypatch, True, is_terminal)
    assert "writing the report" not in show(monkeypatch, False, is_terminal)
