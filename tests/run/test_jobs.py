"""Cells played side by side by worker processes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from benchmarks.killed.histories import bytes_of
from mores.experiments.results import atomic_files
from mores.experiments.run import RunResult, engine, run_scenario, worker
from mores.experiments.run.scheduling import CellDied
from mores.experiments.run.worker_pool import WorkerPool, launch_worker
from mores.experiments.scenario.loading import load_scenario
from mores.registry import POLICIES, plugins
from tests.refusals import check_message, refused
from tests.run.small_run import logged

SCENARIO = """\
name: small
about: A small community with and without a mirror.
env: {kind: coevolution, people: 12, noise: 0.1, ai_influence: 0.1}
rounds: 6
replicates: 5
measures: [centre, spread]
control: twin
arms:
  twin: {env.assistants: 0}
  mirror: {players.assistant: {kind: mirror}}
  persuade: {players.assistant: {kind: persuade, goal: [5, 5], reach: 1.0}}
claims:
  - {says: moved, kind: statistical, measure: causal_drift, arm: mirror, bound: {above: 0}}
  - {says: closer, kind: statistical, measure: spread, arm: mirror, against: twin, at: 3,
     bound: {below: 0}}
"""


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report takes longer than these runs, and has its own tests."""

    def write(job, *_):
        atomic_files.write_text(job.folder / "report.html", "a report")

    monkeypatch.setattr(engine, "_write_report", write)


def _run(folder: Path, text: str = SCENARIO, changes: tuple[str, ...] = (), **more) -> RunResult:
    file = folder.with_suffix(".yaml")
    file.write_text(text)
    return run_scenario(load_scenario(str(file), changes), folder, progress=False, **more)


def test_two_jobs_are_one_bit_for_bit(tmp_path):
    with WorkerPool(2) as pool:  # twice: the workers are the same ones
        one = bytes_of(_run(tmp_path / "one").folder)
        assert bytes_of(_run(tmp_path / "two", jobs=pool).folder) == one
        workers = [each.process.pid for each in pool._workers]
        assert bytes_of(_run(tmp_path / "again", jobs=pool).folder) == one
        assert [each.process.pid for each in pool._workers] == workers
        assert len(workers) == 2
    assert not pool._workers
    for number in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)


DEADLY = """\
import os, signal
from pathlib import Path
from mores import register
from mores.agents.scripted.assistants import Mirror

class Deadly(Mirror):
    times: int
    marks: str

    def act(self, *given):
        print("something to say")  # must not come between a worker's reports
        marks = Path(self.marks)
        if len(list(marks.iterdir())) < self.times:
            (marks / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().act(*given)

register("policy", "deadly", Deadly)
"""


@pytest.mark.parametrize(("times", "fails"), [(1, False), (2, True)])
def test_a_worker_that_dies(tmp_path, times, fails, monkeypatch):
    """Once, another plays its cell; twice, the cell is given up and the others are not."""
    own, marks = tmp_path / "deadly.py", tmp_path / "marks"
    marks.mkdir()
    own.write_text(DEADLY)
    monkeypatch.setattr("mores.experiments.scenario.verify.check_first_round", lambda *_: [])
    monkeypatch.delitem(POLICIES, "deadly", raising=False)
    sys.modules.pop("mores_loaded_deadly", None)
    plugins.load_plugins([own])
    player = f"kind: deadly, times: {times}, marks: {marks}"
    text = SCENARIO.replace("kind: mirror", player)
    if fails:
        with refused("failed") as found:
            _run(tmp_path / "run", text, jobs=2)
        assert isinstance(found.value, CellDied)
    else:
        _run(tmp_path / "run", text, jobs=2)
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["state"] == ("failed" if fails else "done")
    assert set(status["done"]) == {"twin", "persuade"} | (set() if fails else {"mirror"})
    assert list(status["failed"]) == (["mirror"] if fails else [])
    (told,) = logged(tmp_path / "run", "mirror")
    check_message(told)
    sys.modules.pop("mores_loaded_deadly", None)


def test_a_worker_ends_with_whom_it_works_for():
    process = launch_worker()
    assert b"ready" in process.stdout.readline()
    process.stdin.close()
    assert process.wait() == 0
    process.stdout.close()


def test_tasks_are_in_the_workers_own_name():
    assert worker.CellTask.__module__ == "mores.experiments.run.worker"  # as it is unpickled there
