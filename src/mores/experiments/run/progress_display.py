"""How far a run is: a bar on a terminal; elsewhere a line now and then, ever less often."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

DRAWN = 0.1  # seconds between two looks of the bar
SPOKEN = 5.0  # seconds between two plain lines, and a twentieth of what has passed


class Progress:
    """Shows the cells of a run as they are played. Used as a context manager.

    Args:
        name: of the run.
        costs: by id, how much there is to do in each cell that is to be played.
        before: how many cells there are already.
        shown: whether to show anything.
    """

    def __init__(self, name: str, costs: Mapping[str, float], before: int, shown: bool) -> None:
        self._name, self._costs, self._shown = name, dict(costs), shown
        self._whole = sum(self._costs.values()) or 1.0
        self._cells, self._ended = before + len(self._costs), before
        self._over, self._parts = 0.0, dict[str, float]()
        self._console = Console(stderr=True)
        self._bar: Bar | None = None
        self._began = self._last = time.monotonic()
        self._told = ""

    def __enter__(self) -> Progress:
        if self._shown and self._console.is_terminal:
            self._bar = Bar(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} %"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task(self._title(), total=1.0)
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

    def advance(self, cell: str, share: float = 0.0) -> None:
        """That share of a cell was played since the last call."""
        self._parts[cell] = self._parts.get(cell, 0.0) + share
        self._show()

    def end(self, cell: str) -> None:
        """A cell is over: written, or failed."""
        self._parts.pop(cell, None)
        self._over += self._costs[cell]
        self._ended += 1
        self._show(last=self._ended == self._cells)

    def then(self, text: str) -> None:
        """All cells are there, and this is done now."""
        if self._bar is not None:
            self._bar.update(self._task, completed=1.0, description=f"{self._name}: {text}")

    def note(self, text: str) -> None:
        """Say something that should not be overlooked."""
        if self._bar is not None:
            self._bar.console.print(f"{self._name}: {text}", markup=False, highlight=False)
        elif self._shown:
            print(f"{self._name}: {text}", file=sys.stderr, flush=True)

    def restart(self, cell: str) -> None:
        """A cell is played again from its start."""
        self._parts.pop(cell, None)

    def _show(self, last: bool = False) -> None:
        if not self._shown:
            return
        at = time.monotonic()
        if self._bar is not None:
            if last or at - self._last >= DRAWN:
                self._last = at
                self._bar.update(self._task, completed=self._done, description=self._title())
        elif last or at - self._last >= max(SPOKEN, (at - self._began) / 20):
            self._last = at
            print(self._line(at - self._began, last), file=sys.stderr, flush=True)

    @property
    def _done(self) -> float:
        """The share of all that was to do."""
        played = sum(self._costs[cell] * min(1.0, part) for cell, part in self._parts.items())
        return (self._over + played) / self._whole

    def _title(self) -> str:
        at = f" {next(iter(self._parts))[:24]}" if len(self._parts) == 1 else ""
        return f"{self._name}: {self._ended}/{self._cells} cells{at}"

    def _line(self, passed: float, last: bool) -> str:
        line = f"{self._name}: {self._ended} of {self._cells} cells"
        if last:
            return f"{line}, {_span(passed)}"
        done = self._done
        left = f", about {_span(passed * (1 - done) / done)} left" if done > 0.01 else ""
        return f"{line}, {100 * done:.0f} %, {_span(passed)} so far{left}"


def _span(seconds: float) -> str:
    """A length of time as people say it."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
