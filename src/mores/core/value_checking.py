"""Whether results are checked by value: in the first rounds of a scenario, before its run.

Types, shapes and dtypes are checked at every call. A check of numbers reads a tensor, which waits
for the device, so classes inside of an environment make it only where `values_are_checked()`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_checked: ContextVar[bool] = ContextVar("values_are_checked", default=False)


def values_are_checked() -> bool:
    """Whether the present simulation is one of `mores.sim.first_rounds`."""
    return _checked.get()


@contextmanager
def check_values() -> Iterator[None]:
    """Check values within this context."""
    token = _checked.set(True)
    try:
        yield
    finally:
        _checked.reset(token)
