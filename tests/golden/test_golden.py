"""A part of the golden numbers, or all in a full run; `make golden` compares addresses as well."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from mores.experiments.scenario.loading import bundled_scenarios
from tests.cases import FULL
from tests.golden import clients, environments, numbers, recipes, scenarios
from tests.golden.entries import Entry
from tests.learners.small_environments import unchecked

ENVIRONMENTS, RECIPES = (1, 1) if FULL else (9, 5)  # one in so many
SCENARIOS = list(bundled_scenarios()) if FULL else ["karate", "strategies"]
PARTS: dict[str, Callable[[], Iterator[tuple[str, Entry]]]] = {
    "environments": lambda: environments.entries(ENVIRONMENTS),
    "clients": clients.entries,
    "recipes": lambda: recipes.entries(RECIPES),
    "scenarios": lambda: scenarios.entries(SCENARIOS),
    "run": scenarios.run_folder,
}


def cases(part: str) -> list[str]:
    """Beginnings of the names of the entries of a part."""
    if part == "environments":
        names = [name for name, *_ in itertools.islice(environments.cases(), 0, None, ENVIRONMENTS)]
        return [f"environment/{name}" for name in names]
    if part == "clients":
        return [f"client/{name}" for name in clients.CLIENTS]
    if part == "recipes":
        names = [name for name, _ in itertools.islice(recipes.trainings(), 0, None, RECIPES)]
        return [f"recipe/{name}" for name in names]
    return [f"scenario/{name}" for name in SCENARIOS] if part == "scenarios" else ["run/karate"]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.filterwarnings("ignore")
@unchecked()
def test_numbers_are_unchanged(part: str) -> None:
    assert not numbers.compare(PARTS[part](), numbers.read(), cases(part))


def test_missing_and_changed_entries_are_reported() -> None:
    golden = numbers.read()
    kept = dict(itertools.islice(golden["entries"].items(), 1, None))
    assert len(numbers.compare(kept.items(), golden)) == 1
    name = next(iter(kept))
    kept[name] = {**kept[name], "shape": [99], "hash": ""}
    assert len(numbers.compare(kept.items(), golden)) == 2
