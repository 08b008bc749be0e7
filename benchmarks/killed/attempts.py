"""One attempt at a run, in forked processes, killed at a random time or at a commit point."""

from __future__ import annotations

import builtins
import dataclasses
import json
import os
import select
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from benchmarks.killed.cases import Case, scenario_text
from benchmarks.killed.points import CommitPoints

DIED_TWICE = 4  # exit code: both workers that simulated a cell were killed


def forked_worker(points: CommitPoints) -> Any:
    """A worker that is forked: see `mores.experiments.run.worker_pool.Worker`."""
    from mores.experiments.run.worker_pool import Worker, serve

    class ForkedWorker(Worker):
        def launch(self, connection: Any) -> ForkedProcess:
            pid = os.fork()
            if not pid:
                self.connection.close()
                points.num_passed = 0
                serve(connection)
            return ForkedProcess(pid)

    return ForkedWorker()


@dataclasses.dataclass(frozen=True)
class ForkedProcess:
    """A process of this process, by its id."""

    pid: int

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@dataclasses.dataclass(frozen=True)
class Kill:
    """How an attempt is killed.

    Attributes:
        after: seconds until the kill; None: no kill at a random time.
        point: number of the commit point (from 1, in each process) at which a process kills itself;
            None: at none.
        target: `all` processes, or the `parent` alone.
    """

    after: float | None = None
    point: int | None = None
    target: str = "all"


@dataclasses.dataclass(frozen=True)
class Attempt:
    """Exit code of an attempt (-9: killed), and its duration."""

    code: int
    seconds: float


def attempt(case: Case, folder: Path, jobs: int, kill: Kill) -> Attempt:
    """Start, extend or resume the run in a folder, and kill it as specified."""
    # The read end reaches end of file when all processes of the attempt have ended.
    alive, held = os.pipe()
    start = time.monotonic()
    pid = os.fork()
    if not pid:
        os.close(alive)
        os.setsid()
        _run_in_child(case, folder, jobs, kill)
    os.close(held)
    ended, _, _ = select.select([alive], [], [], kill.after)
    if not ended:
        os.killpg(pid, signal.SIGKILL) if kill.target == "all" else os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    select.select([alive], [], [])  # wait until workers have ended as well
    os.close(alive)
    return Attempt(code, time.monotonic() - start)


def is_extended(case: Case, folder: Path) -> bool:
    """Whether the extension of a run was committed; without one, True."""
    if not case.extension or (folder / "extension").exists():
        return True
    with builtins.open(folder / "run.json") as plain:
        return json.load(plain)["overrides"][-len(case.extension) :] == list(case.extension)


def _run_in_child(case: Case, folder: Path, jobs: int, kill: Kill) -> None:
    """Start, extend or resume the run in a forked process; does not return."""
    from mores.core.errors import UserError
    from mores.experiments.run import extend, resume_run, run_scenario
    from mores.experiments.run.cell_executor import CellLost
    from mores.experiments.run.worker_pool import WorkerPool
    from mores.experiments.scenario.loading import load_scenario

    code = 3
    try:
        points = CommitPoints(kill.point)
        if kill.point is not None:
            points.install()
        workers: Any = 1 if jobs == 1 else WorkerPool(jobs, lambda: forked_worker(points))
        if folder.exists() and not is_extended(case, folder):
            extend(folder, overrides=case.extension, jobs=workers, progress=False)
        elif folder.exists():
            resume_run(folder, workers, progress=False)
        else:
            file = folder.with_name(f"{folder.name}.yaml")
            with builtins.open(file, "w") as plain:  # not a commit point
                plain.write(scenario_text(case))
            run_scenario(load_scenario(file, case.overrides), folder, progress=False, jobs=workers)
        code = 0
    except UserError as error:
        code = DIED_TWICE if isinstance(error, CellLost) else 3
        if code == 3:
            traceback.print_exc()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
