"""Progress of a calibration: a bar on a console, log lines elsewhere."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

DELAY_SECONDS = 2.0  # time without output at the start


class CalibrationProgress:
    """Context manager that displays the number of simulated points.

    The number of points is not known in advance, so the bar has no total.
    """

    def __init__(self, name: str, enabled: bool) -> None:
        self._name, self._enabled = name, enabled
        self._status, self._points = "", 0
        self._start_time = self._last_update = time.monotonic()
        self._console = Console(stderr=True)
        self._bar: Bar | None = None

    def __enter__(self) -> CalibrationProgress:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def set_status(self, status: str) -> None:
        """Set the description of the current step."""
        self._status = status
        self._update(force=True)

    def advance(self) -> None:
        """Count one simulated point."""
        self._points += 1
        self._update()

    def _update(self, force: bool = False) -> None:
        now = time.monotonic()
        if not self._enabled or now - self._start_time < DELAY_SECONDS:
            return
        text = f"{self._name}: {self._status}, {self._points} points simulated"
        if self._console.is_terminal:
            if self._bar is None:
                columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
                self._bar = Bar(*columns, console=self._console, transient=True)
                self._task = self._bar.add_task(text, total=None)
                self._bar.start()
            if force or now - self._last_update > 0.1:
                self._last_update = now
                self._bar.update(self._task, description=text)
        elif force or now - self._last_update > 30.0:
            self._last_update = now
            print(text, file=sys.stderr, flush=True)
