"""Entries of `mores list`, read from source without importing the class."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from mores.experiments.scenario import catalog
from mores.experiments.scenario.class_source import class_skeleton
from mores.registry import REGISTRIES, class_of

KINDS = [
    (registry, kind)
    for registry, classes in REGISTRIES.items()
    for kind in classes
    if not kind.startswith("toy_") and registry not in ("scenario", "metric")
]
SOURCE = '''
from mores.core.learner import Learner
from mores.core.policy import Policy

class Base(Policy):
    """A base class.

    More.
    """

    tags = {"stochastic": True, "paper": ("1234.5678",)}

class Trained(Base, Learner):
    trains = {"online"}

    def update(self, state, transition, streams):
        return state

class Computed(Base):
    """Tags that are not literals."""

    tags = {**Base.tags, "real": True}

class Assigned(Base, Learner):
    """The value is assigned."""

    trains = Trained.trains
    update = Trained.update
'''


@pytest.mark.parametrize(("registry", "kind"), KINDS)
def test_source_gives_the_same_entry_as_the_class(registry: str, kind: str) -> None:
    imported = class_of(registry, kind)
    skeleton = class_skeleton(f"{imported.__module__}:{imported.__name__}")
    entry = catalog._entry_of(skeleton, registry, kind)
    assert entry == catalog._entry_of(imported, registry, kind)
    assert entry.summary


@pytest.mark.parametrize(
    ("name", "summary", "tags"),
    [
        ("Base", "A base class.", {"stochastic": True, "paper": ("1234.5678",)}),
        (
            "Trained",
            "A base class.",
            {"trains": True, "stochastic": True, "paper": ("1234.5678",), "loop": ["train"]},
        ),
        ("Computed", "Tags that are not literals.", {}),
        ("Assigned", "The value is assigned.", {}),
        ("Missing", "(catalog_missing:Missing)", {}),
    ],
)
def test_entries_of_locations_are_read_and_not_imported(
    name: str,
    summary: str,
    tags: Mapping[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / f"catalog_{name.lower()}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    entry_point = f"catalog_{name.lower()}:{name}"
    monkeypatch.setitem(REGISTRIES["policy"], "custom", entry_point)
    (entry,) = [entry for entry in catalog.list_entries() if entry.name == "custom"]
    assert (entry.summary, dict(entry.tags)) == (summary, tags)
    assert f"catalog_{name.lower()}" not in sys.modules


def test_class_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRIES["policy"], "custom", "no_such_module:Custom")
    (entry,) = [entry for entry in catalog.list_entries() if entry.name == "custom"]
    assert entry.summary.startswith("(cannot be read: ") and "no_such_module" in entry.summary
