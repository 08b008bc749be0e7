"""What a calibration came to."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from mores.experiments.scenario.base_models import Range


@dataclasses.dataclass(frozen=True)
class FittedParameter:
    """A parameter that was fitted.

    Attributes:
        path: dotted path in the scenario.
        value: at which the figures are nearest to the targets.
        low, high: 95 % interval; where an end is that of the range searched, the targets do not
            say where it ends.
        search_range: the range.
        low_at_bound, high_at_bound: whether that end of the interval is only the end of the range.
    """

    path: str
    value: float
    low: float
    high: float
    search_range: Range
    low_at_bound: bool
    high_at_bound: bool


@dataclasses.dataclass(frozen=True)
class TargetFit:
    """A target, and what the scenario comes to with the fitted parameters.

    Attributes:
        statement, metric, arm, compare_to, at_round, source: as in the file; which arm and round were meant.
        value: the figure of the real world.
        standard_error: its standard error, as stated, or as one replicate varies.
        simulated: what the measure comes to.
        simulation_standard_error: standard error of that, by the number of replicates.
        z: `value` less `simulated`, in standard errors; of a predicted target these also cover
            the fitted parameters' uncertainty.
        usage: whether it was fitted, or held out and predicted.
    """

    statement: str
    metric: str
    arm: str
    compare_to: str | None
    at_round: int
    source: str | None
    value: float
    standard_error: float
    simulated: float
    simulation_standard_error: float
    z: float
    usage: Literal["fitted", "predicted"]


@dataclasses.dataclass(frozen=True)
class CalibrationResult:
    """A scenario's parameters fitted to its targets.

    Attributes:
        scenario: its name.
        parameters: in the order of the file.
        targets: in the order of the file.
        correlation: of the parameters' estimates, by the slopes where the search ended, row by
            row; nan where targets do not tell them apart.
        distance: of the fitted figures from their targets, about chi-square with `degrees_of_freedom`
            degrees at the true parameters.
        degrees_of_freedom: figures fitted less parameters.
        p_value: of a distance as large or larger, were the scenario right; none without
            freedom.
        condition_number: ratio of the largest to the smallest singular value of the figures' derivative,
            scaled by standard errors and ranges.
        converged: whether the search ended where no slope leads further down.
        warnings: what the reader must know: figures out of reach, parameters that cannot be told
            apart, ends of ranges.
        replicates, seed: of the simulations.
        num_evaluations: of the parameters that were played.
        seconds: it took.
        folder: where it was written, if it was.
    """

    scenario: str
    parameters: tuple[FittedParameter, ...]
    targets: tuple[TargetFit, ...]
    correlation: tuple[tuple[float, ...], ...]
    distance: float
    degrees_of_freedom: int
    p_value: float | None
    condition_number: float
    converged: bool
    warnings: tuple[str, ...]
    replicates: int
    seed: int
    num_evaluations: int
    seconds: float
    folder: Path | None = None

    @property
    def values(self) -> Mapping[str, float]:
        """The fitted values by path."""
        return {parameter.path: parameter.value for parameter in self.parameters}
