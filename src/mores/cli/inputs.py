"""The scenario that a command names, and what is shown while it is read."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from mores.registry.plugins import load_plugins

if TYPE_CHECKING:
    from mores.experiments.scenario.loading import LoadedScenario

RUNS_FOLDER = Path("runs")  # of runs without --out


def activity(text: str) -> AbstractContextManager[None]:
    """Show on a terminal what is done inside: see `mores.experiments.progress`."""
    from mores.experiments import progress  # imports rich, which the help does without

    return progress.activity(text)


def load_with_plugins(
    file: str, overrides: list[str] | None, load: list[Path] | None
) -> LoadedScenario:
    """Load the user's plugin files, then the scenario."""
    with activity(f"reading {file}"):
        load_plugins(load or ())
        from mores.experiments.scenario.loading import load_scenario

        return load_scenario(file, overrides or ())
