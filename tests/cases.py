"""How many cases of a suite run: some of every kind by default, all with `MORES_TESTS=full`.

`make test` has five minutes on two cores. A parametrized test with many cases is cut to every so
many (`cut`); a long test of a kind that others cover as well is marked `full`. `make test-full` and
the targets of single suites (`make test-clients` ...) run everything.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeVar

Case = TypeVar("Case")
FULL = os.environ.get("MORES_TESTS") == "full"


def cut(cases: Iterable[Case], every: int) -> list[Case]:
    """All cases in a full run; else the first of every `every` cases."""
    return list(cases)[:: 1 if FULL else every]
