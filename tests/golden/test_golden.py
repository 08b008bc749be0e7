"""A part of the golden numbers, or all in a full run; `make golden` compares addresses as well."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.cases import FULL
from tests.golden import clients, environments, numbers, recipes, scenarios
from tests.golden.entries import Entry
from tests.learners.small_environments import unchecked

# One case in so many; a part that is not named here is compared as a whole.
EVERY = {} if FULL else {"environments": 9, "recipes": 5}
CASES = {part: cases[:: EVERY.get(part, 1)] for part, cases in numbers.cases_by_part().items()}
if not FULL:
    CASES["scenarios"] = ["scenario/karate", "scenario/strategies"]
PARTS: dict[str, Callable[[], Iterator[tuple[str, Entry]]]] = {
    "environments": lambda: environments.entries(EVERY.get("environments", 1)),
    "clients": clients.entries,
    "recipes": lambda: recipes.entries(EVERY.get("recipes", 1)),
    "scenarios": lambda: scenarios.entries([case.split("/")[1] for case in CASES["scenarios"]]),
    "run": scenarios.run_folder,
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.filterwarnings("ignore")
@unchecked()
def test_numbers_are_unchanged(part: str) -> None:
    assert not numbers.compare(PARTS[part](), numbers.read(), CASES[part])


def test_missing_and_changed_entries_are_reported() -> None:
    golden = numbers.read()
    kept = dict(itertools.islice(golden["entries"].items(), 1, None))
    assert len(numbers.compare(kept.items(), golden)) == 1
    name = next(iter(kept))
    kept[name] = {**kept[name], "shape": [99], "hash": ""}
    assert len(numbers.compare(kept.items(), golden)) == 2
