"""Being asked to stop: SIGTERM and a closed terminal end a run as orderly as Ctrl-C does."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

STOP_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class StopRequested(KeyboardInterrupt):
    """The system, or somebody at it, asked this process to stop.

    Attributes:
        code: exit code by which a shell knows the signal.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.code = 128 + signal_number


@contextlib.contextmanager
def stop_on_signals() -> Iterator[None]:
    """Raise `StopRequested` where the process would end without a word; others' handlers are kept."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = [number for number in STOP_SIGNALS if signal.getsignal(number) == signal.SIG_DFL]
    for number in ours:
        signal.signal(number, _raise_stop_requested)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _raise_stop_requested(signal_number: int, frame: FrameType | None) -> None:
    raise StopRequested(signal_number)
