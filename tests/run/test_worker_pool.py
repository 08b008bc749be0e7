"""Cells simulated in parallel by worker processes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from benchmarks.killed.histories import file_digests
from mores.experiments.results import atomic_files
from mores.experiments.run import RunResult, engine, run_scenario
from mores.experiments.run.cell_executor import CellLost
from mores.experiments.run.worker_pool import Worker, WorkerPool
from mores.experiments.scenario.first_round_check import FirstRoundCheck
from mores.experiments.scenario.loading import load_scenario
from mores.registry import REGISTRIES, plugins
from tests.refusals import check_message, refused
from tests.run.small_run import log_lines

SCENARIO = """\
name: small
about: A small community with and without a mirror.
env: {kind: coevolution, num_people: 12, noise_std: 0.1, ai_influence: 0.1}
rounds: 6
replicates: 5
metrics: [mean_value, rms_distance]
control: twin
arms:
  twin: {env.num_assistants: 0}
  mirror: {policies.assistant: {kind: mirror}}
  persuade: {policies.assistant: {kind: persuader, goal: [5, 5], goal_weight: 1.0}}
claims:
  - {statement: moved, kind: statistical, metric: effect_vs_control, arm: mirror, bound: {above: 0}}
  - {statement: closer, kind: statistical, metric: rms_distance, arm: mirror, compare_to: twin,
     at_round: 3, bound: {below: 0}}
"""


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report takes longer than these runs, and has its own tests."""

    def write(run_plan, *_):
        atomic_files.write_text(run_plan.folder / "report.html", "a report")

    monkeypatch.setattr(engine, "_write_report", write)


def _run(folder: Path, text: str = SCENARIO, **options) -> RunResult:
    file = folder.with_suffix(".yaml")
    file.write_text(text)
    return run_scenario(load_scenario(str(file)), folder, progress=False, **options)


@pytest.mark.full
def test_two_jobs_equal_one_bit_for_bit(tmp_path):
    with WorkerPool(2) as pool:  # two runs use the same workers
        expected = file_digests(_run(tmp_path / "one").folder)
        assert file_digests(_run(tmp_path / "two", jobs=pool).folder) == expected
        pids = [worker.process.pid for worker in pool._workers]
        assert file_digests(_run(tmp_path / "again", jobs=pool).folder) == expected
        assert [worker.process.pid for worker in pool._workers] == pids
        assert len(pids) == 2
    assert not pool._workers
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


KILLING = """\
import os, signal
from pathlib import Path
from mores import register
from mores.agents.scripted.assistants import Mirror

class Killing(Mirror):
    times: int
    folder: str

    def act(self, *arguments):
        print("a line")  # must not mix with a worker's messages
        folder = Path(self.folder)
        if len(list(folder.iterdir())) < self.times:
            (folder / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().act(*arguments)

register("policy", "killing", Killing)
"""


@pytest.mark.full
@pytest.mark.parametrize(("times", "fails"), [(1, False), (2, True)])
def test_a_worker_that_is_lost(tmp_path, times, fails, monkeypatch):
    """Its cell is simulated again after one loss, and fails after two; other cells are complete."""
    plugin, marks = tmp_path / "killing.py", tmp_path / "marks"
    marks.mkdir()
    plugin.write_text(f"{KILLING}# {times}\n")  # files of one content are read once
    monkeypatch.setattr(
        FirstRoundCheck,
        "check",
        lambda self, built, i, _: self.initial_metrics(built.stages[i], built),
    )
    monkeypatch.delitem(REGISTRIES["policy"], "killing", raising=False)
    sys.modules.pop("mores_loaded_killing", None)
    plugins.load_plugins([plugin])
    text = SCENARIO.replace("kind: mirror", f"kind: killing, times: {times}, folder: {marks}")
    if fails:
        with refused("failed") as caught:
            _run(tmp_path / "run", text, jobs=2)
        assert isinstance(caught.value, CellLost)
    else:
        _run(tmp_path / "run", text, jobs=2)
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["state"] == ("failed" if fails else "done")
    assert set(status["done"]) == {"twin", "persuade"} | (set() if fails else {"mirror"})
    assert list(status["failed"]) == (["mirror"] if fails else [])
    (line,) = log_lines(tmp_path / "run", "mirror")
    check_message(line)
    sys.modules.pop("mores_loaded_killing", None)


def test_a_worker_ends_with_its_parent_process():
    worker = Worker()
    assert worker.connection.recv() is None  # ready
    worker.connection.close()
    assert worker.process.wait() == 0
