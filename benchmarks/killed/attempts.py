"""One attempt at a run, in forked processes, killed at a moment or at a commit point."""

from __future__ import annotations

import builtins
import dataclasses
import os
import select
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from benchmarks.killed.cases import Case, text_of
from benchmarks.killed.points import Points

ORPHANS = 60.0  # seconds after which a process that outlives the one it works for is an error
TWICE = 4  # exit code: both workers that played a cell were killed


class Forked:
    """A worker forked from here instead of started anew: see `mores.experiments.run.worker_pool.WorkerProcess`."""

    def __init__(self, points: Points | None) -> None:
        from mores.experiments.run.worker import serve

        order_end, self_end = os.pipe()
        hear_end, say_end = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(self_end), os.close(hear_end)
            if points is not None:
                points.seen = 0
            serve(os.fdopen(order_end, "rb"), os.fdopen(say_end, "wb"))
        os.close(order_end), os.close(say_end)
        self.stdin, self.stdout = os.fdopen(self_end, "wb"), os.fdopen(hear_end, "rb", 0)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@dataclasses.dataclass(frozen=True)
class Kill:
    """How an attempt is killed.

    Attributes:
        after: seconds after which it is; None: at no moment.
        point: number of the commit point at which it ends itself; None: at none.
        whom: all processes, or the one alone that gives the orders.
    """

    after: float | None = None
    point: int | None = None
    whom: str = "all"


@dataclasses.dataclass(frozen=True)
class Attempt:
    """What became of an attempt: its exit code, and how long it lived."""

    code: int
    seconds: float


def attempt(case: Case, folder: Path, jobs: int, kill: Kill) -> Attempt:
    """Begin the run in a folder, or go on with it, and kill it as told."""
    alive, ours = os.pipe()  # end of file at `alive` when all processes that hold `ours` are gone
    began = time.monotonic()
    pid = os.fork()
    if not pid:
        os.close(alive)
        os.setsid()
        _child(case, folder, jobs, kill)
    os.close(ours)
    over, _, _ = select.select([alive], [], [], 600.0 if kill.after is None else kill.after)
    if not over:
        if kill.after is None:
            raise AssertionError(f"{case.name}: neither done nor dead after 600 s")
        os.killpg(pid, signal.SIGKILL) if kill.whom == "all" else os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if not select.select([alive], [], [], ORPHANS)[0]:
        os.killpg(pid, signal.SIGKILL)
        raise AssertionError(f"{case.name}: workers outlived the process they worked for")
    os.close(alive)
    return Attempt(code, time.monotonic() - began)


def _child(case: Case, folder: Path, jobs: int, kill: Kill) -> None:
    """What a forked process does: it does not return."""
    from mores.core.errors import UserError
    from mores.experiments.run import resume_run, run_scenario
    from mores.experiments.run.scheduling import CellDied
    from mores.experiments.run.worker_pool import WorkerPool
    from mores.experiments.scenario.loading import load_scenario

    code = 3
    try:
        points = Points(kill.point)
        if kill.point is not None:
            points.watch()
        workers: Any = 1 if jobs == 1 else WorkerPool(jobs, lambda: Forked(points))
        if folder.exists():
            resume_run(folder, workers, progress=False)
        else:
            file = folder.with_name(f"{folder.name}.yaml")
            with builtins.open(file, "w") as plain:  # no commit point
                plain.write(text_of(case))
            run_scenario(load_scenario(file, case.changes), folder, progress=False, jobs=workers)
        code = 0
    except UserError as error:
        code = TWICE if isinstance(error, CellDied) else 3
        if code == 3:
            traceback.print_exc()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
