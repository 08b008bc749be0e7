"""How far a run is: a bar on a terminal, a plain line a cell elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Progress:
    """Shows the cells of a run as they are played. Used as a context manager."""

    def __init__(self, name: str, cells: int, shown: bool) -> None:
        self._name, self._cells, self._shown = name, cells, shown
        self._done, self._part, self._cell = 0, 0.0, ""
        self._console = Console(stderr=True)
        self._bar: Bar | None = None
        self._drawn = 0.0

    def __enter__(self) -> Progress:
        if self._shown and self._console.is_terminal:
            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} %"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task(self._name, total=float(self._cells))
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, cell: str) -> None:
        """A cell is begun."""
        self._cell, self._part, self._began = cell, 0.0, time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, description=f"{self._name}: {cell}")

    def advance(self, share: float) -> None:
        """That share of the cell was played since the last call."""
        self._part += share
        if self._bar is not None and time.monotonic() - self._drawn > 0.1:
            self._drawn = time.monotonic()
            self._bar.update(self._task, completed=self._done + self._part)

    def end(self) -> None:
        """The cell is played and written."""
        self._done += 1
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done)
        elif self._shown:
            seconds = time.monotonic() - self._began
            line = f"{self._name}: {self._cell} ({self._done}/{self._cells}), {seconds:.1f} s"
            print(line, file=sys.stderr, flush=True)
