"""Cells as jobs: processes of this machine through submitit, and a stand-in for Slurm."""

from __future__ import annotations

import os

import pytest

from benchmarks.killed.histories import file_digests
from mores.experiments.launchers import open_executor
from tests.launchers.fake_slurm import make_slurm
from tests.launchers.small_runs import SCENARIO, check_stop, load_marking, run
from tests.refusals import refused
from tests.run.small_run import log_lines

pytest.importorskip("submitit")
pytestmark = pytest.mark.full
# In the first job of a cell: its process is killed, or told that its time is over.
ENDING = """\
mark = folder / cell
if "SUBMITIT_EXECUTOR" in os.environ and not mark.exists():
    mark.touch()
    os.kill(os.getpid(), signal.SIGKILL if cell == "mirror" else signal.SIGUSR2)
"""


def test_jobs_that_are_killed_and_queued_again(tmp_path):
    """A killed job is submitted again; one that was preempted is queued again by itself."""
    marks = tmp_path / "marks"
    marks.mkdir()
    load_marking(tmp_path, "ending", ENDING)
    ending = f"{{kind: ending, folder: {marks}}}"
    text = SCENARIO.replace("{kind: mirror}", ending)
    text = text.replace("{kind: persuader, goal: [5, 5], goal_weight: 1.0}", ending)
    expected = file_digests(run(tmp_path / "one", text).folder)
    jobs = tmp_path / "jobs"
    options = {"cluster": "local", "job_folder": str(jobs)}
    with open_executor("slurm", 3, options) as executor:
        run(tmp_path / "two", text, jobs=executor)
        (private,) = jobs.iterdir()
        assert private.stat().st_mode & 0o777 == 0o700
    assert file_digests(tmp_path / "two") == expected
    assert {path.name for path in marks.iterdir()} == {"mirror", "persuade"}
    lines = {cell: log_lines(tmp_path / "two", cell) for cell in ("twin", "mirror", "persuade")}
    retried = [cell for cell in lines if any("again" in line for line in lines[cell])]
    assert retried == ["mirror"]
    assert list(jobs.iterdir()) == [private]  # messages of the job that was killed


def test_a_stop_signal_ends_jobs(tmp_path):
    option = "--launcher-option"
    options = [option, "cluster=local", option, f"job_folder={tmp_path / 'jobs'}"]
    check_stop(tmp_path, ["--launcher", "slurm", *options])
    assert not list((tmp_path / "jobs").iterdir())


def test_an_array_of_jobs(tmp_path, monkeypatch):
    """The options reach `sbatch`; all cells are in one array."""
    commands = tmp_path / "commands"
    make_slurm(commands)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    expected = file_digests(run(tmp_path / "one").folder)
    options = {
        "partition": "long",
        "timeout_min": 90,
        "mem_gb": 2,
        "additional": {"nice": 5},
        "setup": ["export FROM_SETUP=1"],
        "job_folder": str(tmp_path / "jobs"),
    }
    with open_executor("slurm", 2, options) as executor:
        run(tmp_path / "two", jobs=executor)
    assert file_digests(tmp_path / "two") == expected
    (script,) = commands.glob("script-*")
    lines = set(script.read_text().splitlines())
    assert {"--partition=long", "--time=90", "--mem=2GB", "--nice=5", "--array=0-2%2"} <= {
        line.removeprefix("#SBATCH ") for line in lines
    }
    assert "export FROM_SETUP=1" in lines
    assert not list((tmp_path / "jobs").iterdir())


def test_no_slurm(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with refused("not_installed", "launcher"):
        open_executor("slurm")
