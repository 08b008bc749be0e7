"""Folders beside a run: whatever they hold, it neither ends the run nor reaches the terminal."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from mores.cli.verdict_tables import claim_view
from mores.experiments.results.atomic_files import write_json, write_sealed_json
from mores.experiments.run import earlier_runs
from mores.experiments.run.earlier_runs import finished_runs, mark_changed_claims
from mores.experiments.scenario.loading import load_scenario
from tests.scenario.test_cli_tables import verdict_of

ESCAPE = "\x1b[2J"
SCENARIO = load_scenario("karate").scenario


def foreign_run(parent: Path, verdict: object = "holds", **provenance: object) -> Path:
    """A folder with the files of a finished run."""
    folder = parent / f"run{ESCAPE}"
    folder.mkdir(parents=True)
    write_sealed_json(folder / "run.json", {"scenario": SCENARIO.name})
    made = {"seed": SCENARIO.seed, "started": "2020-01-01", "seconds": 1.5, **provenance}
    write_sealed_json(folder / "provenance.json", made)
    claims = [claim.model_dump(mode="json", exclude_none=True) for claim in SCENARIO.claims]
    write_json(folder / "claims.json", [{"claim": each, "verdict": verdict} for each in claims])
    return folder


@pytest.mark.parametrize("seconds", [10**400, -1, True, "1", [1]], ids=lambda s: str(s)[:5])
def test_a_run_with_an_impossible_duration_is_left_out(tmp_path: Path, seconds: object) -> None:
    foreign_run(tmp_path, seconds=seconds)
    assert finished_runs(tmp_path, SCENARIO.name) == []
    verdicts = [verdict_of(claim, SCENARIO) for claim in SCENARIO.claims]
    assert mark_changed_claims(tmp_path / "new", SCENARIO, verdicts) == verdicts


@pytest.mark.parametrize("seconds", [None, 0, 2.5])
def test_durations(tmp_path: Path, seconds: float | None) -> None:
    foreign_run(tmp_path, seconds=seconds)
    assert [run.seconds for run in finished_runs(tmp_path, SCENARIO.name)] == [seconds]


def test_claims_are_unmarked_if_earlier_runs_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RecursionError("a folder is too deep")

    monkeypatch.setattr(earlier_runs, "finished_runs", fail)
    verdicts = [verdict_of(claim, SCENARIO) for claim in SCENARIO.claims]
    assert mark_changed_claims(tmp_path / "new", SCENARIO, verdicts) == verdicts
    assert "a folder is too deep" in caplog.text


@pytest.mark.parametrize("width", [80, 200])
def test_no_escape_sequence_of_a_folder_is_printed(tmp_path: Path, width: int) -> None:
    foreign_run(tmp_path, verdict=f"holds{ESCAPE}")
    (run,) = finished_runs(tmp_path, SCENARIO.name)
    assert {run.verdict(claim) for claim in SCENARIO.claims} == {"unknown"}
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(claim_view([SCENARIO], {SCENARIO.name: run}, width))
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "unknown" in printed
    assert r"run\x1b[2J" in printed
    assert "\x1b" not in printed
