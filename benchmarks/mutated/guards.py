"""Guards of an attempt: audit events, processor and wall time, memory, the text of a failure."""

from __future__ import annotations

import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MEMORY = 4 * 2**30  # bytes of address space beyond what the process has at the start
SIGNALS: dict[int, signal.Signals] = {  # of a timer
    signal.ITIMER_VIRTUAL: signal.SIGVTALRM,
    signal.ITIMER_REAL: signal.SIGALRM,
}

# What is wrong with an audit event (https://docs.python.org/3/library/audit_events.html) and its
# arguments; an empty text if nothing is.
FindFault = Callable[[str, tuple[Any, ...]], str]


class TimeLimitExceeded(BaseException):
    """The time limit of an attempt has passed."""


_installed = False
_watch: tuple[FindFault, list[str]] | None = None


@contextmanager
def watched(find_fault: FindFault) -> Iterator[list[str]]:
    """Record what is wrong with the audit events of the process."""
    global _installed, _watch
    if not _installed:
        _installed = True
        sys.addaudithook(_on_event)
    faults: list[str] = []
    _watch = find_fault, faults
    try:
        yield faults
    finally:
        _watch = None


def _on_event(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook; it cannot be removed."""
    global _watch
    watch = _watch
    if watch is None:
        return
    _watch = None  # what this function does is no event of the attempt
    find_fault, faults = watch
    try:
        if fault := find_fault(event, arguments):
            faults.append(fault)
    finally:
        _watch = watch


@contextmanager
def time_limit(seconds: float, timer: int = signal.ITIMER_VIRTUAL) -> Iterator[None]:
    """Raise `TimeLimitExceeded` after so much time, of the processor or of `signal.ITIMER_REAL`."""

    def stop(*_: object) -> None:
        raise TimeLimitExceeded

    before = signal.signal(SIGNALS[timer], stop)
    signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        signal.setitimer(timer, 0)
        signal.signal(SIGNALS[timer], before)


def limit_memory() -> None:
    """Let allocations far beyond the present size of the process fail."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def describe_failure(error: BaseException, num_frames: int) -> str:
    """An exception that is no `UserError`, with its innermost frames."""
    frames = traceback.extract_tb(error.__traceback__)[: -num_frames - 1 : -1]
    place = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
    return f"{type(error).__name__}: {error!s:.200} ({place})"
