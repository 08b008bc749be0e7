"""Executors simulate the cells of a run in worker processes or on other machines."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple

from mores.core.errors import UserError
from mores.experiments.run.cell_execution import CellOutcome
from mores.experiments.run.run_folder import CellTask


class CellLost(UserError):
    """The worker that simulated a cell was lost, twice."""


class CellRetry(NamedTuple):
    """The worker that simulated a cell was lost, and the cell is simulated once more."""

    cell: str
    reason: str


class CellExecutor(contextlib.AbstractContextManager["CellExecutor"], ABC):
    """Simulates cells outside of this process; several runs may use it, one after another.

    Resources are acquired by the first call of `run_tasks`, and released at the end of the `with`
    block.

    Attributes:
        num_workers: number of cells that are simulated at a time, at most; 0: no limit.
    """

    num_workers: int

    @abstractmethod
    def run_tasks(
        self, tasks: Sequence[CellTask], callback: Callable[[str, float], None]
    ) -> Generator[CellOutcome | CellRetry, None, None]:
        """Start tasks in this order; yield the outcomes of their cells.

        An outcome without an error is yielded when the cell is written into its folder. No cell is
        running after the generator has ended, was closed or has raised an exception.

        Args:
            tasks: the cells.
            callback: called with a cell, and the fraction of it simulated since the last call, if
                that is known before the cell ends.
        """

    @abstractmethod
    def stop(self) -> None:
        """Release all resources. The cells that are written are complete."""

    def __exit__(self, *exception: object) -> None:
        self.stop()


class WorkerLossTracker:
    """Decides what follows the loss of a worker: its cell is simulated once more, or has failed."""

    def __init__(self) -> None:
        self._retried = set[str]()

    def on_worker_lost(self, cell: str, reason: str) -> CellOutcome | CellRetry:
        """Event to report; `reason` says how the worker was lost."""
        if cell in self._retried:
            return CellOutcome(cell, CellLost(f"cell {cell}: {reason}, twice", code="failed"))
        self._retried.add(cell)
        return CellRetry(cell, reason)
