"""The user's model is registered within the tests of this folder only."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mores.registry import REGISTRIES


@pytest.fixture(autouse=True)
def schelling() -> Iterator[None]:
    pytest.importorskip("mesa")
    from tests.mesa import schelling_user

    environments = REGISTRIES["environment"]
    environments["schelling"] = schelling_user.Schelling
    yield
    environments.pop("schelling", None)


def pytest_collection_finish() -> None:
    """The modules of tests have imported the user's file, which registers its model."""
    REGISTRIES["environment"].pop("schelling", None)
