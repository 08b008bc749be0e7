"""Progress of a run, calibration or training: a bar on a terminal, a line at times elsewhere.

`activity` shows on a terminal what precedes or follows the counted work, such as loading a file.
`hide_progress` hides both.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import timedelta

from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn
from rich.status import Status

from mores.core.errors import printable

LINE_INTERVAL = 5.0  # least seconds between two lines; later 5 % of the elapsed time

_hidden: ContextVar[bool] = ContextVar("hidden", default=False)
_status: ContextVar[Status | None] = ContextVar("status", default=None)


@contextlib.contextmanager
def hide_progress(hidden: bool = True) -> Iterator[None]:
    """Show no progress inside, unless `hidden` is false."""
    token = _hidden.set(hidden or _hidden.get())
    try:
        yield
    finally:
        _hidden.reset(token)


@contextlib.contextmanager
def activity(text: str) -> Iterator[None]:
    """Show on a terminal what is done inside. An inner activity replaces the text of the outer."""
    outer = _status.get()
    console = Console(stderr=True)
    if _hidden.get() or not console.is_terminal:
        yield
    elif outer is not None:
        before = outer.status
        outer.update(text)
        try:
            yield
        finally:
            outer.update(before)
    else:
        with console.status(text) as status:
            token = _status.set(status)
            try:
                yield
            finally:
                _status.reset(token)


def print_line(name: str, text: str, enabled: bool = True) -> None:
    """Print a line about a run or another work of that name on standard error."""
    if enabled and not _hidden.get():
        print(printable(f"{name}: {text}", 2000), file=sys.stderr)


class ProgressDisplay:
    """Shows progress on standard error. Used as a context manager.

    Args:
        name: the start of every line.
        total: amount of work; None: unknown.
        enabled: whether to show anything.
        delay: seconds without output at the start.
    """

    def __init__(
        self, name: str, total: float | None, enabled: bool = True, delay: float = 0.0
    ) -> None:
        enabled = enabled and not _hidden.get()
        self._name, self._total, self._enabled, self._delay = name, total, enabled, delay
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            *Progress.get_default_columns()[1:],
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not (enabled and self._console.is_terminal),
        )
        self._task = self._bar.add_task(name, total=total)
        self._text, self._completed = "", 0.0
        self._start_time = self._last_line = time.monotonic()

    def __enter__(self) -> ProgressDisplay:
        self.update()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def update(
        self, text: str | None = None, advance: float = 0.0, important: bool = False
    ) -> None:
        """Show progress.

        Args:
            text: what is done at present; None: unchanged.
            advance: amount of work done since the last call.
            important: print a line at once where there is no bar.
        """
        self._completed += advance
        self._text = self._text if text is None else text
        now = time.monotonic()
        elapsed = now - self._start_time
        if not self._enabled or elapsed < self._delay:
            return
        if not self._bar.disable:
            description = f"{self._name}: {self._text}" if self._text else self._name
            self._bar.start()
            self._bar.update(self._task, completed=self._completed, description=description)
        elif important or now - self._last_line >= max(LINE_INTERVAL, elapsed / 20):
            self._last_line = now
            self.note(f"{self._text}, {self._times(elapsed)}")

    @contextlib.contextmanager
    def final_work(self, text: str) -> Iterator[None]:
        """Show what is done inside, after all counted work: a line at once where there is no bar.

        The bar, which is full, gives way to an activity.
        """
        if self._bar.disable:
            self.update(text, important=True)
            yield
            return
        self._bar.stop()
        with activity(text):
            yield

    def note(self, text: str) -> None:
        """Print a line that stays on the terminal."""
        if self._enabled:
            line = f"{self._name}: {text}"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _times(self, elapsed: float) -> str:
        so_far = str(timedelta(seconds=round(elapsed)))
        if not self._total or not 0 < self._completed < self._total:
            return so_far
        left = timedelta(seconds=round(elapsed * (self._total / self._completed - 1)))
        return f"{self._completed / self._total:.0%}, {so_far} so far, about {left} left"
