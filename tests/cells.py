"""The cells of a scenario, without their objects."""

from __future__ import annotations

from mores.experiments.scenario.cell import Cell
from mores.experiments.scenario.expansion import build_and_verify, build_cells
from mores.experiments.scenario.loading import LoadedScenario
from mores.experiments.scenario.specification import Scenario


def expand(scenario: LoadedScenario | Scenario) -> tuple[Cell, ...]:
    """The cells of the arms."""
    return tuple(built.cell for built in build_cells(scenario))


def expand_and_verify(scenario: LoadedScenario | Scenario) -> tuple[Cell, ...]:
    """The cells of the arms, after all checks."""
    return tuple(built.cell for built in build_and_verify(scenario))
