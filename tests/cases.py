"""How many cases of a suite run: some of every kind by default, all with `MORES_TESTS=full`.

`make test` has five minutes on two cores. Two markers say what it leaves out:

    @pytest.mark.full       a long test of a kind that other tests of the suite cover
    @pytest.mark.cut(5)     of the parametrized cases of a test, one in five runs

`make test-full` and the targets of single suites (`make test-clients` ...) run everything.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

FULL = os.environ.get("MORES_TESTS") == "full"


def scaled(examples: int) -> int:
    """Number of examples of a property: a sixth of those of a full run."""
    return examples if FULL else max(5, examples // 6)


def deselect(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Remove the cases that only a full run has."""
    if FULL:
        return
    counts: Counter[str] = Counter()
    kept, removed = [], []
    for item in items:
        cut = item.get_closest_marker("cut")
        function = item.nodeid.split("[")[0]
        every = cut.args[0] if cut else 1
        keep = counts[function] % every == 0 and not item.get_closest_marker("full")
        counts[function] += 1
        (kept if keep else removed).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=removed)
