"""Progress of a run: a bar on a terminal; otherwise a line at increasing intervals."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

BAR_INTERVAL = 0.1  # seconds between two updates of the bar
LINE_INTERVAL = 5.0  # least seconds between two lines; later 5 % of the elapsed time


class ProgressDisplay:
    """Shows the progress of a run's cells. Used as a context manager.

    Args:
        name: name of the run.
        costs: cost of each cell to simulate, by id.
        num_finished: number of cells that are complete already.
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

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, cell: str, fraction: float = 0.0) -> None:
        """Add a fraction of a cell, simulated since the last call."""
        self._fractions[cell] = self._fractions.get(cell, 0.0) + fraction
        self._refresh()

    def finish_cell(self, cell: str) -> None:
        """Mark a cell as over: written, or failed."""
        self._fractions.pop(cell, None)
        self._finished_cost += self._costs[cell]
        self._num_finished += 1
        self._refresh(last=self._num_finished == self._num_cells)

    def show_step(self, text: str) -> None:
        """Show a step that follows the last cell."""
        if self._bar is not None:
            self._bar.update(self._task, completed=1.0, description=f"{self._name}: {text}")

    def note(self, text: str) -> None:
        """Print a line that stays on the terminal."""
        if self._bar is not None:
            self._bar.console.print(f"{self._name}: {text}", markup=False, highlight=False)
        elif self._enabled:
            print(f"{self._name}: {text}", file=sys.stderr, flush=True)

    def restart_cell(self, cell: str) -> None:
        """Discard the progress of a cell that is simulated again from its start."""
        self._fractions.pop(cell, None)

    def _refresh(self, last: bool = False) -> None:
        if not self._enabled:
            return
        now = time.monotonic()
        if self._bar is not None:
            if last or now - self._last_update >= BAR_INTERVAL:
                self._last_update = now
                self._bar.update(
                    self._task, completed=self._completed_fraction, description=self._title()
                )
        elif last or now - self._last_update >= max(LINE_INTERVAL, (now - self._start_time) / 20):
            self._last_update = now
            print(self._line(now - self._start_time, last), file=sys.stderr, flush=True)

    @property
    def _completed_fraction(self) -> float:
        """Fraction of the total cost that is done."""
        partial = sum(self._costs[cell] * min(1.0, part) for cell, part in self._fractions.items())
        return (self._finished_cost + partial) / self._total_cost

    def _title(self) -> str:
        cell = f" {next(iter(self._fractions))[:24]}" if len(self._fractions) == 1 else ""
        return f"{self._name}: {self._num_finished}/{self._num_cells} cells{cell}"

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
    """A duration in seconds, minutes or hours."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
