"""Launchers: where the cells of a run are simulated. Worker processes, a Ray cluster, Slurm."""

from mores.experiments.launchers.launcher import Launcher, open_executor
from mores.experiments.launchers.remote_cell import RemoteCell, RemoteEnd, simulate_remote_cell
from mores.experiments.launchers.remote_executor import RemoteExecutor, WorkerDied

__all__ = [
    "Launcher",
    "RemoteCell",
    "RemoteEnd",
    "RemoteExecutor",
    "WorkerDied",
    "open_executor",
    "simulate_remote_cell",
]
