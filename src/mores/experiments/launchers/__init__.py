"""A launcher opens an executor, which simulates the cells of a run.

They are simulated in worker processes, on a Ray cluster, or as Slurm jobs.
"""

from mores.experiments.launchers.launcher import Launcher, open_executor
from mores.experiments.launchers.remote_cell import CellRequest, RemoteOutcome, simulate_remote_cell
from mores.experiments.launchers.remote_executor import RemoteExecutor, WorkerLost

__all__ = [
    "CellRequest",
    "Launcher",
    "RemoteExecutor",
    "RemoteOutcome",
    "WorkerLost",
    "open_executor",
    "simulate_remote_cell",
]
