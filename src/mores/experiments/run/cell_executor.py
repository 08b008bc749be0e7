"""What simulates the cells of a run outside of this process: worker processes, other machines."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple

from mores.core.errors import UserError
from mores.experiments.run.cell_execution import CellEnd
from mores.experiments.run.run_folder import CellTask


class CellDied(UserError):
    """The process that simulated a cell ended, twice."""


class CellRetry(NamedTuple):
    """The process that simulated a cell ended, and the cell is simulated once more."""

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
    ) -> Generator[CellEnd | CellRetry, None, None]:
        """Start tasks in this order; yield the ends of their cells, written into their folders.

        No cell is in work after the generator has ended, was closed or has raised an exception.

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


class DeathCounter:
    """Decides what follows the death of a process: its cell is simulated once more, or failed."""

    def __init__(self) -> None:
        self._retried = set[str]()

    def after_death(self, cell: str, reason: str) -> CellEnd | CellRetry:
        """What to report; `reason` is that of the death, in words."""
        if cell in self._retried:
            return CellEnd(cell, CellDied(f"cell {cell}: {reason}, twice", code="failed"))
        self._retried.add(cell)
        return CellRetry(cell, reason)
