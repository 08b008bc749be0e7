"""Stop signals: SIGTERM and a closed terminal end a run in the same way as Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

STOP_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class StopRequested(KeyboardInterrupt):
    """This process received a stop signal.

    Attributes:
        code: exit code that a shell reports for the signal.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.code = 128 + signal_number


@contextlib.contextmanager
def stop_on_signals() -> Iterator[None]:
    """Raise `StopRequested` for stop signals that have no handler of their own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    unhandled = [number for number in STOP_SIGNALS if signal.getsignal(number) == signal.SIG_DFL]
    for number in unhandled:
        signal.signal(number, _raise_stop_requested)
    try:
        yield
    finally:
        for number in unhandled:
            signal.signal(number, signal.SIG_DFL)


def _raise_stop_requested(signal_number: int, frame: FrameType | None) -> None:
    raise StopRequested(signal_number)
