"""How far a calibration is: a bar on a terminal, a plain line a stage elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

DELAY_SECONDS = 2.0  # seconds for which nothing is said


class CalibrationProgress:
    """Shows how many points were played. Used as a context manager.

    Nobody knows beforehand how many points a search takes, so the bar has no end.
    """

    def __init__(self, name: str, enabled: bool) -> None:
        self._name, self._enabled = name, enabled
        self._status, self._points = "", 0
        self._start_time = self._last_update = time.monotonic()
        self._console = Console(stderr=True)
        self._bar: Bar | None = None

    def __enter__(self) -> CalibrationProgress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def set_status(self, status: str) -> None:
        """A stage begins."""
        self._status = status
        self._update(force=True)

    def advance(self) -> None:
        """A point was played."""
        self._points += 1
        self._update()

    def _update(self, force: bool = False) -> None:
        now = time.monotonic()
        if not self._enabled or now - self._start_time < DELAY_SECONDS:
            return
        text = f"{self._name}: {self._status}, {self._points} points played"
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
