"""How far a run is: a bar on a terminal; elsewhere a line now and then, ever less often."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

BAR_INTERVAL = 0.1  # seconds between two looks of the bar
LINE_INTERVAL = 5.0  # seconds between two plain lines, and a twentieth of what has passed


class ProgressDisplay:
    """Shows the cells of a run as they are played. Used as a context manager.

    Args:
        name: of the run.
        costs: by id, how much there is to do in each cell that is to be played.
        num_finished: how many cells there are already.
        enabled: whether to show anything.
    """

    def __init__(
        self, name: str, costs: Mapping[str, float], num_finished: int, enabled: bool
    ) -> None:
        self._name, self._costs, self._enabled = name, dict(costs), enabled
        self._total_cost = sum(self._costs.values()) or 1.0
        self._num_cells, self._num_finished = num_finished + len(self._costs), num_finished
        self._finished_cost, self._fractions = 0.0, dict[str, float]()
        self._console = Console(stderr=True)
        self._bar: Bar | None = None
        self._start_time = self._last_update = time.monotonic()
        self._unused = ""

    def __enter__(self) -> ProgressDisplay:
        if self._enabled and self._console.is_terminal:
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
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, cell: str, fraction: float = 0.0) -> None:
        """That share of a cell was played since the last call."""
        self._fractions[cell] = self._fractions.get(cell, 0.0) + fraction
        self._refresh()

    def finish_cell(self, cell: str) -> None:
        """A cell is over: written, or failed."""
        self._fractions.pop(cell, None)
        self._finished_cost += self._costs[cell]
        self._num_finished += 1
        self._refresh(last=self._num_finished == self._num_cells)

    def show_step(self, text: str) -> None:
        """All cells are there, and this is done now."""
        if self._bar is not None:
            self._bar.update(self._task, completed=1.0, description=f"{self._name}: {text}")

    def note(self, text: str) -> None:
        """Say something that should not be overlooked."""
        if self._bar is not None:
            self._bar.console.print(f"{self._name}: {text}", markup=False, highlight=False)
        elif self._enabled:
            print(f"{self._name}: {text}", file=sys.stderr, flush=True)

    def restart_cell(self, cell: str) -> None:
        """A cell is played again from its start."""
        self._fractions.pop(cell, None)

    def _refresh(self, last: bool = False) -> None:
        if not self._enabled:
            return
        at = time.monotonic()
        if self._bar is not None:
            if last or at - self._last_update >= BAR_INTERVAL:
                self._last_update = at
                self._bar.update(
                    self._task, completed=self._completed_fraction, description=self._title()
                )
        elif last or at - self._last_update >= max(LINE_INTERVAL, (at - self._start_time) / 20):
            self._last_update = at
            print(self._line(at - self._start_time, last), file=sys.stderr, flush=True)

    @property
    def _completed_fraction(self) -> float:
        """The share of all that was to do."""
        played = sum(self._costs[cell] * min(1.0, part) for cell, part in self._fractions.items())
        return (self._finished_cost + played) / self._total_cost

    def _title(self) -> str:
        at = f" {next(iter(self._fractions))[:24]}" if len(self._fractions) == 1 else ""
        return f"{self._name}: {self._num_finished}/{self._num_cells} cells{at}"

    def _line(self, elapsed: float, last: bool) -> str:
        line = f"{self._name}: {self._num_finished} of {self._num_cells} cells"
        if last:
            return f"{line}, {_format_duration(elapsed)}"
        done = self._completed_fraction
        left = (
            f", about {_format_duration(elapsed * (1 - done) / done)} left" if done > 0.01 else ""
        )
        return f"{line}, {100 * done:.0f} %, {_format_duration(elapsed)} so far{left}"


def _format_duration(seconds: float) -> str:
    """A length of time as people say it."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
