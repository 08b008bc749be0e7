"""How many cases of a suite run: some of every kind by default, all with `MORES_TESTS=full`.

`make test` has five minutes on two cores. Two markers say what it leaves out:

    @pytest.mark.full       a long test of a kind that other tests of the suite cover
    @pytest.mark.cut(5)     of the parametrized cases of a test, one in five runs; of combinations
                            of several lists, those that have many values of each

`make test-full` and the targets of single suites (`make test-clients` ...) run everything.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

FULL = os.environ.get("MORES_TESTS") == "full"
# Of the parametrized cases of these suites one in so many runs, where a test has no marker.
SUITE_CUTS = {
    f"tests/{suite}/": every
    for every, suites in (
        (2, ("analysis", "scenario")),
        (3, ("agents", "attacks", "clients", "conformance", "learners", "metrics", "oracles")),
        (3, ("run",)),
        (8, ("language", "served", "text")),
    )
    for suite in suites
}


def scaled(examples: int) -> int:
    """Number of examples of a property: a sixth of those of a full run."""
    return examples if FULL else max(5, examples // 6)


def deselect(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Remove the cases that only a full run has."""
    if FULL:
        return
    functions: dict[str, list[pytest.Item]] = {}
    for item in items:
        if not item.get_closest_marker("full"):
            functions.setdefault(item.nodeid.split("[")[0], []).append(item)
    chosen: set[pytest.Item] = set()
    for cases in functions.values():
        marker = cases[0].get_closest_marker("cut")
        suite = next((n for n in SUITE_CUTS if cases[0].nodeid.startswith(n)), "")
        every = marker.args[0] if marker else SUITE_CUTS.get(suite, 1)
        chosen |= set(cut(cases, every) if every > 1 and len(cases) > 1 else cases)
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = [item for item in items if item in chosen]


def cut(cases: list[pytest.Item], every: int) -> list[pytest.Item]:
    """One case in `every`; of combinations of several lists, those with many values of each."""
    if len([*cases[0].iter_markers("parametrize")]) < 2:
        return cases[::every]
    parameters = [case.callspec.params for case in cases]  # type: ignore[attr-defined]
    values = [{(name, id(value)) for name, value in case.items()} for case in parameters]
    used: Counter[tuple[str, int]] = Counter()
    left = [*range(len(cases))]
    chosen: list[pytest.Item] = []
    for _ in range(0, len(cases), every):
        best = min(left, key=lambda index: _uses(used, values[index]))
        left.remove(best)
        chosen.append(cases[best])
        used.update(values[best])
    return chosen


def _uses(used: Counter[tuple[str, int]], values: set[tuple[str, int]]) -> tuple[int, int]:
    """Number of values that a chosen case has, and how often chosen cases have them."""
    return sum(used[value] > 0 for value in values), sum(used[value] for value in values)
