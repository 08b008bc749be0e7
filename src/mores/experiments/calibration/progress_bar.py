"""How far a calibration is: a bar on a terminal, a plain line a stage elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

PATIENCE = 2.0  # seconds for which nothing is said


class Progress:
    """Shows how many points were played. Used as a context manager.

    Nobody knows beforehand how many points a search takes, so the bar has no end.
    """

    def __init__(self, name: str, shown: bool) -> None:
        self._name, self._shown = name, shown
        self._stage, self._points = "", 0
        self._began = self._drawn = time.monotonic()
        self._console = Console(stderr=True)
        self._bar: Bar | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def stage(self, name: str) -> None:
        """A stage begins."""
        self._stage = name
        self._show(at_once=True)

    def played(self) -> None:
        """A point was played."""
        self._points += 1
        self._show()

    def _show(self, at_once: bool = False) -> None:
        now = time.monotonic()
        if not self._shown or now - self._began < PATIENCE:
            return
        text = f"{self._name}: {self._stage}, {self._points} points played"
        if self._console.is_terminal:
            if self._bar is None:
                columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
                self._bar = Bar(*columns, console=self._console, transient=True)
                self._task = self._bar.add_task(text, total=None)
                self._bar.start()
            if at_once or now - self._drawn > 0.1:
                self._drawn = now
                self._bar.update(self._task, description=text)
        elif at_once or now - self._drawn > 30.0:
            self._drawn = now
            print(text, file=sys.stderr, flush=True)
