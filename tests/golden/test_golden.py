"""A part of the golden numbers; all of them are compared by `make golden`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.golden import clients, environments, numbers, recipes, scenarios
from tests.golden.entries import Entry
from tests.learners.small_environments import unchecked

PARTS: dict[str, Callable[[], Iterator[tuple[str, Entry]]]] = {
    "environments": lambda: environments.entries(every=9),
    "clients": clients.entries,
    "recipes": lambda: recipes.entries(every=5),
    "scenarios": lambda: scenarios.entries(["karate", "strategies"]),
    "run": scenarios.run_folder,
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.filterwarnings("ignore")
@unchecked()
def test_numbers_are_unchanged(part: str) -> None:
    assert not numbers.compare(PARTS[part](), numbers.read())
