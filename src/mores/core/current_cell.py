"""The cell of a run that this process simulates: for what is stored outside of its results.

Policies know no arm: their random numbers are the same in all arms. Replies of a language model
that runs elsewhere are kept by cell, so that a resumed cell reads its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_cell: ContextVar[str] = ContextVar("cell", default="")


def current_cell() -> str:
    """Name of the cell; empty outside of runs."""
    return _cell.get()


@contextmanager
def simulating_cell(name: str) -> Iterator[None]:
    """Context in which `current_cell` is this name."""
    token = _cell.set(name)
    try:
        yield
    finally:
        _cell.reset(token)
