"""Cells that are cancelled: after a stop while they are submitted, and where that fails."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mores import registry
from mores.experiments.launchers import CellRequest, RemoteExecutor, RemoteOutcome, open_executor
from mores.experiments.launchers.ray_cluster import RayLauncher
from mores.experiments.launchers.slurm import MAX_ARRAY_SIZE, SlurmExecutor, SlurmLauncher
from tests.launchers.fake_slurm import make_slurm
from tests.launchers.small_runs import run
from tests.refusals import check_message, refused


class Interrupted(RemoteExecutor):
    """Executor whose user presses Ctrl-C after so many handles were made."""

    def __init__(self, num_handles: int, shared_folder: bool) -> None:
        super().__init__(0, shared_folder)
        self.num_handles = num_handles
        self.submissions: list[list[str]] = []
        self.cancelled: list[str] = []

    def submit(self, requests: Sequence[CellRequest]) -> Sequence[Any]:
        self.submissions.append([request.name for request in requests])
        for request in requests:
            self.register(request.name)
            self.num_handles -= 1
            if self.num_handles == 0:
                raise KeyboardInterrupt
        return [request.name for request in requests]

    def wait(self, handles: Sequence[Any]) -> Sequence[Any]:
        return handles

    def result(self, handle: Any) -> RemoteOutcome:
        raise AssertionError("no cell ends")

    def cancel(self, handles: Sequence[Any]) -> None:
        self.cancelled += handles

    def stop(self) -> None:
        pass


@pytest.mark.parametrize("shared_folder", [False, True])
def test_a_stop_while_cells_are_submitted(tmp_path: Path, shared_folder: bool) -> None:
    """All that were started are cancelled; those with files are submitted one at a time."""
    executor = Interrupted(2, shared_folder)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", jobs=executor)
    names = [name for names in executor.submissions for name in names]
    assert executor.cancelled == names[:2]
    assert [len(each) for each in executor.submissions] == ([3] if shared_folder else [1, 1])


def slurm_executor(jobs: int = 0, **options: Any) -> SlurmExecutor:
    return SlurmExecutor(SlurmLauncher(**options), jobs)


@pytest.mark.parametrize("jobs", [0, 7, 5000])
def test_no_array_exceeds_the_limit(jobs: int) -> None:
    limit = SlurmLauncher().executor_parameters(jobs)["slurm_array_parallelism"]
    assert limit == min(jobs or MAX_ARRAY_SIZE, MAX_ARRAY_SIZE)
    executor = slurm_executor(jobs)
    next(iter(executor.run_tasks([], lambda *_: None)), None)
    assert executor.max_submitted == MAX_ARRAY_SIZE


def jobs_that(end: bool) -> list[Any]:
    def done(force_check: bool) -> bool:
        return end

    return [SimpleNamespace(job_id=f"12_{task}", done=done) for task in range(2)]


@pytest.mark.parametrize("script", [None, "echo no such cluster >&2; exit 1", "exit 0"])
def test_jobs_that_may_still_run_are_named(
    script: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`scancel` is missing, fails, or succeeds: no exception hides the reason of the stop."""
    if script is not None:
        (tmp_path / "scancel").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "scancel").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    slurm_executor().cancel(jobs_that(end=True))
    if script == "exit 0":
        assert not caplog.records
    else:
        (record,) = caplog.records
        check_message(record.getMessage())


def test_jobs_that_do_not_end_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("mores.experiments.launchers.slurm.CANCEL_TIMEOUT_SECONDS", 0.0)
    monkeypatch.setattr("mores.experiments.launchers.slurm._run_scancel", lambda _: "")
    slurm_executor().cancel(jobs_that(end=False))
    (record,) = caplog.records
    check_message(record.getMessage())


# `sbatch` interrupts the run, as Ctrl-C does, before it prints the number of the array.
INTERRUPTING = """\
import os, signal
os.kill(os.getppid(), signal.SIGINT)
print("Submitted batch job 5")
"""
CANCELLING = """\
import sys
from pathlib import Path
(Path(sys.argv[0]).parent / "cancelled").write_text(" ".join(sys.argv[1:]))
"""
ENDED = """\
print("JobID|State|NodeList")
for task in range(3):
    print(f"5_{task}|CANCELLED|")
"""


@pytest.mark.full
def test_a_stop_while_sbatch_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    commands = tmp_path / "commands"
    make_slurm(commands, sbatch=INTERRUPTING, scancel=CANCELLING, sacct=ENDED)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    options = {"job_folder": str(tmp_path / "jobs")}
    with pytest.raises(KeyboardInterrupt), open_executor("slurm", 2, options) as executor:
        run(tmp_path / "run", jobs=executor)
    assert (commands / "cancelled").read_text().split() == ["5_0", "5_1", "5_2"]


@pytest.mark.parametrize("value", [True, [1], None, 1.5], ids=str)
def test_options_of_sbatch(value: object) -> None:
    with refused("invalid_value", "slurm.additional.nice"):
        registry.make("launcher", "slurm", {"additional": {"nice": value}})


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"address": "ray://head:10001"}, "unsupported"),
        ({"num_gpus": 1.5}, "invalid_value"),
        ({"address": "127.0.0.1:1"}, "failed"),
    ],
    ids=str,
)
def test_options_of_ray(options: dict[str, Any], code: str) -> None:
    with refused(code, "launcher"):
        RayLauncher(**options).open(None)
