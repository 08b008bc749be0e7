"""Result of a calibration."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from mores.experiments.scenario.base_models import Range


@dataclasses.dataclass(frozen=True)
class FittedParameter:
    """Fitted parameter with its interval.

    Attributes:
        path: dotted path in the scenario.
        value: value with the smallest distance from the targets.
        low, high: 95 % interval. An end at the end of the search range means that the targets do
            not bound the parameter there.
        search_range: range of the search.
        low_at_bound, high_at_bound: whether this end of the interval is the end of the range.
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
    """Target with its simulated moment at the fitted parameters.

    Attributes:
        statement, metric, arm, compare_to, at_round, source: as in the file, with defaults filled.
        value: empirical value.
        standard_error: its standard error: as stated, or the standard deviation over replicates.
        simulated: simulated moment.
        simulation_standard_error: Monte Carlo standard error of `simulated`.
        z: `value` minus `simulated` in standard errors, which for a predicted target include the
            uncertainty of the fitted parameters.
        usage: fitted, or held out and predicted.
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
    """Fit of a scenario's parameters to its targets.

    Attributes:
        scenario: name of the scenario.
        parameters: in the order of the file.
        targets: in the order of the file.
        correlation: correlation matrix of the parameter estimates, from the derivatives at the
            fit; nan for unidentified parameters.
        distance: distance of the fitted moments from their targets; about chi-square with
            `degrees_of_freedom` at the true parameters.
        degrees_of_freedom: number of fitted targets minus number of parameters.
        p_value: probability of this distance or a larger one under the fitted scenario; None
            without degrees of freedom.
        condition_number: ratio of the largest to the smallest singular value of the moments'
            derivative, scaled by standard errors and ranges.
        converged: whether the derivatives at the fit predict no further decrease.
        warnings: sentences on missed targets, unidentified parameters, and ends of ranges.
        replicates, seed: of the simulations.
        num_evaluations: number of simulated points.
        seconds: duration.
        folder: output folder; None if nothing was written.
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
        """Fitted values by path."""
        return {parameter.path: parameter.value for parameter in self.parameters}
