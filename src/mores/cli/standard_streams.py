"""Standard streams and sizes of a terminal, as a shell or a service manager may leave them."""

from __future__ import annotations

import contextlib
import os
import sys

MAX_DIGITS = 6  # of a number of columns or lines


def open_closed_streams() -> None:
    """Open the null device in place of each standard stream that is closed (`>&-`).

    Otherwise `sys.stdout` is None, and the next file that is opened gets the number of the stream.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_WRONLY if number else os.O_RDONLY)
            if opened == number:
                os.set_inheritable(number, True)
            else:
                os.dup2(opened, number)
                os.close(opened)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            stream = os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False)
            setattr(sys, name, stream)


def remove_invalid_sizes() -> None:
    """Remove the variables COLUMNS and LINES if they are no numbers: rich fails on some texts."""
    for name in ("COLUMNS", "LINES"):
        if name in os.environ and not is_size(os.environ[name]):
            del os.environ[name]


def is_size(text: str) -> bool:
    """Whether a text is a number of columns or lines. `"²".isdigit()` is true."""
    return text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS


def discard_stdout() -> None:
    """Discard buffered output that has no reader; Python would report an error at exit."""
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
