"""Cells in worker processes of this machine."""

from __future__ import annotations

from mores.experiments.launchers.launcher import Launcher
from mores.experiments.run.cell_executor import CellExecutor
from mores.experiments.run.worker_pool import WorkerPool, num_processes


class LocalLauncher(Launcher):
    """Worker processes on this machine, as without `--launcher`."""

    def open(self, jobs: int | None) -> CellExecutor:
        """See `Launcher`; default: one process."""
        return WorkerPool(num_processes(1 if jobs is None else jobs))
