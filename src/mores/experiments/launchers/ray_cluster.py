"""Cells as tasks of a Ray cluster (https://docs.ray.io), one process each."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent import futures
from concurrent.futures import Future
from typing import Any, ClassVar

from pydantic import Field

from mores.core.errors import UserError, describe_exception, printable
from mores.experiments.launchers.launcher import Launcher
from mores.experiments.launchers.remote_cell import CellRequest, RemoteOutcome, simulate_remote_cell
from mores.experiments.launchers.remote_executor import (
    CANCEL_TIMEOUT_SECONDS,
    RemoteExecutor,
    WorkerLost,
)
from mores.experiments.run.cell_executor import CellExecutor
from mores.experiments.run.worker_pool import THREAD_COUNTS, num_processes

CONNECT_TIMEOUT_SECONDS = 10.0  # how long a cluster may take to accept a connection


class RayLauncher(Launcher):
    """Machines of a Ray cluster; without one, Ray starts on this machine for the run.

    The machines need no common disk: a cell's files are sent back. With `shared_folder` they are
    written in place, with checkpoints.
    """

    modules: ClassVar[tuple[str, ...]] = ("ray",)
    extra: ClassVar[str] = "ray"

    address: str = Field(
        default="",
        description="`HOST:PORT` of the cluster; default: the variable RAY_ADDRESS, else a cluster "
        "that was started on this machine, else a new one",
    )
    num_cpus: float = Field(default=1.0, ge=0, description="CPUs reserved for a cell")
    num_gpus: float = Field(default=0.0, ge=0, description="GPUs reserved for a cell")
    memory_gib: float = Field(default=0.0, ge=0, description="memory reserved for a cell, GiB")
    shared_folder: bool = Field(
        default=False, description="all machines have the run's folder, under the same path"
    )

    def open(self, jobs: int | None) -> CellExecutor:
        """See `Launcher`; default, and 0: as many cells at a time as the cluster has room for."""
        address = self.address or os.environ.get("RAY_ADDRESS", "")
        if address.startswith("ray://"):
            raise UserError(
                f"launcher: address {printable(address, 60)} is that of a Ray client server: give "
                "HOST:PORT of the cluster, by default port 6379",
                code="unsupported",
                path="launcher",
            )
        if self.num_gpus > 1 and not self.num_gpus.is_integer():
            raise UserError(
                f"launcher: num_gpus {self.num_gpus:g}: above 1, Ray reserves whole GPUs",
                code="invalid_value",
                path="launcher",
            )
        try:
            _check_reachable(address)
        except OSError as error:
            raise _unreachable(address, error) from error
        return RayExecutor(self, num_processes(jobs) if jobs else 0)


class RayExecutor(RemoteExecutor):
    """Simulates cells as tasks of Ray. A cluster that this process had joined stays joined."""

    def __init__(self, launcher: RayLauncher, num_workers: int) -> None:
        super().__init__(num_workers, launcher.shared_folder)
        self._launcher = launcher
        self._ray: Any = None
        self._joined = False
        self._references: dict[Future[RemoteOutcome], Any] = {}  # of the tasks of futures

    def submit(self, requests: Sequence[CellRequest]) -> Sequence[Any]:
        """Start a Ray task for each request; returns their futures.

        Raises:
            UserError: the cluster cannot be reached, or none of its machines has the resources that
                are reserved for a cell.
        """
        ray = self._connected()
        self._check_resources()
        launcher = self._launcher
        options: dict[str, Any] = {
            "num_cpus": launcher.num_cpus,
            "num_gpus": launcher.num_gpus,
            "memory": launcher.memory_gib * 2**30 or None,
            "max_retries": 0,  # lost workers are counted, and logged, by the run
            "scheduling_strategy": "SPREAD",
            "runtime_env": {"env_vars": THREAD_COUNTS},
        }
        function = ray.remote(**options)(simulate_remote_cell)
        handles = []
        for request in requests:
            reference = function.options(name=f"mores {request.name}").remote(request)
            handle = reference.future()
            self._references[handle] = reference
            self.register(handle)
            handles.append(handle)
        return handles

    def wait(self, handles: Sequence[Any]) -> Sequence[Any]:
        """See `RemoteExecutor`."""
        # `ray.wait` turns every signal into Ctrl-C.
        return list(futures.wait(handles, return_when=futures.FIRST_COMPLETED).done)

    def result(self, handle: Any) -> RemoteOutcome:
        """See `RemoteExecutor`."""
        del self._references[handle]
        try:
            return handle.result()
        except self._ray.exceptions.RayTaskError:
            raise
        except self._ray.exceptions.RayError as error:
            raise WorkerLost(f"its worker was lost: {type(error).__name__}") from error

    def cancel(self, handles: Sequence[Any]) -> None:
        """See `RemoteExecutor`."""
        for handle in handles:
            self._ray.cancel(self._references.pop(handle), force=True)
        futures.wait(handles, timeout=CANCEL_TIMEOUT_SECONDS)

    def stop(self) -> None:
        """Leave the cluster; end it if it was started for this run."""
        if self._joined:
            self._ray.shutdown()
            self._joined = False

    def _connected(self) -> Any:
        """The module `ray`, connected to a cluster.

        Raises:
            UserError: the cluster cannot be reached.
        """
        self._ray = self._ray or importlib.import_module("ray")
        if not self._ray.is_initialized():
            address = self._launcher.address
            # A cluster that starts here sends no statistics to Ray's makers, unless asked to.
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            try:
                _check_reachable(address)
                with _keep_signal_handler():
                    self._ray.init(
                        address=address or None,
                        include_dashboard=False,
                        log_to_driver=False,
                        logging_level="ERROR",
                    )
            except (ConnectionError, ValueError, RuntimeError, OSError) as error:
                raise _unreachable(address, error) from error
            self._joined = True
        return self._ray

    def _check_resources(self) -> None:
        """Refuse a cell that fits on no machine: Ray would wait forever.

        Raises:
            UserError: see above.
        """
        machines = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        needed = {"CPU": self._launcher.num_cpus, "GPU": self._launcher.num_gpus}
        needed["memory"] = self._launcher.memory_gib * 2**30
        if any(all(each.get(k, 0) >= n for k, n in needed.items()) for each in machines):
            return
        cpus, gpus, memory = needed["CPU"], needed["GPU"], self._launcher.memory_gib
        words = f"{cpus:g} CPUs, {gpus:g} GPUs and {memory:g} GiB"
        raise UserError(
            f"launcher: no machine of the Ray cluster has {words} for a cell",
            code="out_of_range",
            path="launcher",
        )


def _unreachable(address: str, error: Exception) -> UserError:
    at = f" at {printable(address, 60)}" if address else ""
    reason = describe_exception(error, with_place=False)
    return UserError(
        f"launcher: Ray cannot be reached{at}: {reason}", code="failed", path="launcher"
    )


def _check_reachable(address: str) -> None:
    """Fail at once if nothing listens at `HOST:PORT`: Ray would try for minutes.

    Raises:
        OSError: see above.
    """
    host, _, port = address.rpartition(":")
    if port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT_SECONDS).close()


@contextlib.contextmanager
def _keep_signal_handler() -> Iterator[None]:
    """Restore the handler of SIGTERM: the run's own records where it stopped, unlike Ray's."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
