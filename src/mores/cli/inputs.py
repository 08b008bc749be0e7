"""The scenario that a command names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mores.registry.plugins import load_plugins

if TYPE_CHECKING:
    from mores.experiments.scenario.loading import LoadedScenario


def load_with_plugins(
    file: str, overrides: list[str] | None, load: list[Path] | None
) -> LoadedScenario:
    """Load the user's plugin files, then the scenario."""
    load_plugins(load or ())
    from mores.experiments.scenario.loading import load_scenario

    return load_scenario(file, overrides or ())
