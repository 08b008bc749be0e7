"""Cells as jobs of Slurm, one each, by submitit (https://github.com/facebookincubator/submitit).

submitit passes functions and results as pickles, in a new folder that only this user can read.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from mores.core.errors import UserError, describe_exception, describe_value, printable
from mores.experiments.launchers.launcher import Launcher
from mores.experiments.launchers.remote_cell import CellRequest, RemoteOutcome, simulate_remote_cell
from mores.experiments.launchers.remote_executor import (
    CANCEL_TIMEOUT_SECONDS,
    POLL_SECONDS,
    RemoteExecutor,
    WorkerLost,
)
from mores.experiments.run.cell_execution import CellOutcome
from mores.experiments.run.cell_executor import CellExecutor, CellRetry
from mores.experiments.run.run_folder import CellTask
from mores.experiments.run.worker_pool import THREAD_COUNTS, num_processes

LOGGER = logging.getLogger("mores.run")
MAX_ARRAY_SIZE = 1000  # jobs in an array; Slurm's default of `MaxArraySize` is 1001


def _check_sbatch_value(value: Any) -> Any:
    if type(value) not in (str, int):
        raise ValueError(f"must be text or a whole number, not {describe_value(value)}")
    return value


_SbatchValue = Annotated[str | int, BeforeValidator(_check_sbatch_value)]


class SlurmLauncher(Launcher):
    """Jobs of Slurm, in one array. The run's folder is on a disk that all machines share.

    Start the command where `sbatch` works; it waits for the jobs. A cell that reaches the time
    limit of its job, or is preempted, is queued again and continues from its checkpoint.
    """

    modules: ClassVar[tuple[str, ...]] = ("submitit",)
    extra: ClassVar[str] = "slurm"

    partition: str = Field(default="", description="partition")
    account: str = Field(default="", description="account")
    qos: str = Field(default="", description="quality of service")
    constraint: str = Field(default="", description="features that machines must have")
    timeout_min: int = Field(default=60, ge=1, description="time limit of a cell's job, minutes")
    cpus_per_task: int = Field(default=1, ge=1, description="CPUs of a job; a cell uses one thread")
    gpus_per_node: int = Field(default=0, ge=0, description="GPUs of a job")
    mem_gb: float = Field(
        default=4.0, gt=0, description="memory of a job, as submitit's `mem_gb`, GB"
    )
    setup: tuple[str, ...] = Field(
        default=(), description="lines of shell before a job, such as `module load ...`"
    )
    additional: dict[str, _SbatchValue] = Field(
        default_factory=dict, description="further options of sbatch by name: texts or integers"
    )
    job_folder: str = Field(
        default="",
        description="shared folder for files of jobs while they run; default ~/.cache/mores/jobs",
    )
    cluster: Literal["slurm", "local"] = Field(
        default="slurm", description="`local`: processes of this machine, to try it without Slurm"
    )

    def open(self, jobs: int | None) -> CellExecutor:
        """See `Launcher`; default, and 0: as many jobs at a time as Slurm starts.

        With `cluster=local`: one per core.
        """
        if self.cluster == "slurm" and shutil.which("sbatch") is None:
            message = "launcher: there is no sbatch here: start the run where jobs are submitted"
            raise UserError(message, code="not_installed", path="launcher")
        self.make_folder().rmdir()  # jobs are submitted when the folder of the run was made
        default = 0 if self.cluster == "slurm" else num_processes(0)
        return SlurmExecutor(self, num_processes(jobs) if jobs else default)

    def executor_parameters(self, num_workers: int) -> dict[str, Any]:
        """Parameters of submitit's executor: time limits in minutes, memory in GB.

        Args:
            num_workers: number of jobs that run at a time, at most; 0: no limit. It is not a
                parameter if `cluster` is `local`.
        """
        parameters: dict[str, Any] = {
            "name": "mores",
            "timeout_min": self.timeout_min,
            "cpus_per_task": self.cpus_per_task,
            "gpus_per_node": self.gpus_per_node,
            "mem_gb": self.mem_gb,
        }
        if self.cluster == "local":
            return parameters
        for name in ("partition", "account", "qos", "constraint"):
            if value := getattr(self, name):
                parameters[f"slurm_{name}"] = value
        if self.setup:
            parameters["slurm_setup"] = list(self.setup)
        if self.additional:
            parameters["slurm_additional_parameters"] = dict(self.additional)
        parameters["slurm_array_parallelism"] = min(num_workers or MAX_ARRAY_SIZE, MAX_ARRAY_SIZE)
        return parameters

    def make_folder(self) -> Path:
        """Make a folder for the files of jobs, which only this user can read.

        Raises:
            UserError: `job_folder` cannot be written.
        """
        default = Path.home() / ".cache" / "mores" / "jobs"
        parent = Path(self.job_folder or default).absolute()
        try:
            parent.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix="run-", dir=parent))
        except OSError as error:
            raise UserError(
                f"launcher: cannot write to job_folder {printable(parent, 200)}: {error.strerror}",
                code="not_writable",
                path="launcher",
            ) from None


class SlurmExecutor(RemoteExecutor):
    """Simulates cells as jobs."""

    def __init__(self, launcher: SlurmLauncher, num_workers: int) -> None:
        super().__init__(num_workers, shared_folder=True)
        self._launcher = launcher
        self._folder: Path | None = None
        self._executor: Any = None
        self._failed = False

    def run_tasks(
        self, tasks: Sequence[CellTask], callback: Callable[[str, float], None]
    ) -> Generator[CellOutcome | CellRetry, None, None]:
        """See `RemoteExecutor`. One array has all cells, if Slurm's usual limit allows that."""
        if self._launcher.cluster == "slurm":
            fits = len(tasks) <= MAX_ARRAY_SIZE
            num_workers = min(self.num_workers or MAX_ARRAY_SIZE, MAX_ARRAY_SIZE)
            self.max_submitted = MAX_ARRAY_SIZE if fits else num_workers
        return super().run_tasks(tasks, callback)

    def submit(self, requests: Sequence[CellRequest]) -> Sequence[Any]:
        """Submit an array with a job for each request; returns the jobs.

        Raises:
            UserError: the folder of the jobs cannot be written, or Slurm refuses the jobs.
        """
        submitit: Any = importlib.import_module("submitit")
        if self._executor is None:
            self._folder = self._launcher.make_folder()
            parameters = self._launcher.executor_parameters(self.num_workers)
            cluster = self._launcher.cluster
            self._executor = submitit.AutoExecutor(folder=self._folder, cluster=cluster)
            self._executor.update_parameters(**parameters)
        try:
            with _one_thread():  # of jobs, which inherit the environment
                return self._submit_array(_job_function(submitit), list(requests))
        except (submitit.core.utils.FailedJobError, OSError) as error:
            reason = describe_exception(error, with_place=False)
            raise UserError(
                f"launcher: jobs cannot be submitted: {reason}",
                code="failed",
                path="launcher",
            ) from error

    def _submit_array(self, function: Any, requests: list[CellRequest]) -> Sequence[Any]:
        """Submit an array in a thread, which a stop signal does not interrupt.

        Otherwise the ids of jobs would be lost if it came while `sbatch` runs. The jobs are
        registered when the signal has become an exception of this thread.
        """

        def register(submission: Future[Sequence[Any]]) -> None:
            if submission.exception() is None:
                for job in submission.result():
                    self.register(job)

        with ThreadPoolExecutor(1) as pool:
            submission = pool.submit(self._executor.map_array, function, requests)
            submission.add_done_callback(register)
            return submission.result()

    def wait(self, handles: Sequence[Any]) -> Sequence[Any]:
        """See `RemoteExecutor`."""
        while not (ended := [job for job in handles if job.done()]):
            time.sleep(POLL_SECONDS)
        return ended

    def result(self, handle: Any) -> RemoteOutcome:
        """See `RemoteExecutor`."""
        errors = importlib.import_module("submitit.core.utils")
        try:
            return handle.result()
        except errors.FailedJobError:
            self._failed = True
            raise
        except errors.UncompletedJobError as error:
            self._failed = True
            reason = f"its job {handle.job_id} ended without a result: {handle.state}"
            raise WorkerLost(f"{reason}; messages: {handle.paths.stderr}") from error

    def cancel(self, handles: Sequence[Any]) -> None:
        """See `RemoteExecutor`. One command cancels all jobs.

        Jobs that may still run are named in a warning. An error is not raised: it would hide the
        one for which the jobs are cancelled.
        """
        if self._launcher.cluster == "slurm":
            reason = _run_scancel([job.job_id for job in handles])
        else:
            reason = ""
            for job in handles:
                job.cancel()
        deadline = time.monotonic() + CANCEL_TIMEOUT_SECONDS
        running = [] if reason else list(handles)
        while running := [job for job in running if not job.done(force_check=True)]:
            if time.monotonic() > deadline:
                reason = f"not ended after {CANCEL_TIMEOUT_SECONDS:g} s"
                break
            time.sleep(POLL_SECONDS)
        if reason:
            ids = sorted({str(job.job_id).partition("_")[0] for job in running or handles})
            LOGGER.warning("jobs %s may still run: %s", " ".join(ids), reason)

    def stop(self) -> None:
        """Remove the files of jobs; those of a job that failed stay, to read its messages."""
        if self._folder is not None and not self._failed:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = self._executor = None


def _run_scancel(job_ids: Sequence[str]) -> str:
    """Cancel jobs of Slurm; the reason if that fails, else nothing."""
    try:
        done = subprocess.run(["scancel", *job_ids], check=False, capture_output=True, text=True)
    except OSError as error:
        return f"scancel: {error.strerror}"
    if done.returncode == 0:
        return ""
    return f"scancel: {printable(done.stderr.strip() or f'exit code {done.returncode}', 200)}"


def _job_function(submitit: Any) -> Any:
    """Callable job: submitit's `Checkpointable`, so that Slurm may requeue it.

    Defined in a function because submitit is optional.
    """

    class Job(submitit.helpers.Checkpointable):
        def __call__(self, request: CellRequest) -> RemoteOutcome:
            return simulate_remote_cell(request)

    return Job()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Environment variables of processes with one thread."""
    before = {name: os.environ.get(name) for name in THREAD_COUNTS}
    os.environ.update(THREAD_COUNTS)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
