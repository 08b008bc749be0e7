"""Warnings about the fit of a calibration."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mores.experiments.calibration.minimization import CalibrationFit
from mores.experiments.calibration.moment_distance import MomentDistance
from mores.experiments.calibration.result import CalibrationResult

LARGE_Z = 3.0  # difference of a fitted moment from its target, in standard errors
MIN_P_VALUE = 0.05
MIN_LOADING = 0.3  # smallest component of a parameter in a unit direction that names it
UNIDENTIFIED_ERROR = 0.25  # standard error in ranges: its 95 % interval is as long as the range


def calibration_warnings(
    result: CalibrationResult, distance: MomentDistance, fit: CalibrationFit
) -> Iterator[str]:
    """Warnings, one sentence each."""
    if not result.converged:
        yield "The search did not converge: a better fit may exist."
    evaluated = distance.simulator.all_means()
    for i, target in enumerate(result.targets):
        if target.usage == "fitted" and abs(target.z) >= LARGE_Z:
            means = evaluated[:, i]
            reason = "it can be met alone, but not together with the others"
            if not np.nanmin(means) <= target.value <= np.nanmax(means):
                nearest = means[np.nanargmin(np.abs(means - target.value))]
                reason = f"the nearest value among {len(means)} points is {nearest:.6g}"
            yield (
                f"{target.metric} is {target.simulated:.6g} instead of {target.value:.6g} "
                f"({target.statement}): {reason}."
            )
    if result.p_value is not None and result.p_value < MIN_P_VALUE:
        yield (
            f"The fit to all targets together is poor: under the fitted scenario, a distance of "
            f"at least {result.distance:.3g} with {result.degrees_of_freedom} degrees of freedom "
            f"has probability {result.p_value:.2g}."
        )
    yield from _identifiability_warnings(result, fit)
    for parameter, coordinate in zip(result.parameters, fit.unit_point, strict=True):
        if coordinate in (0.0, 1.0):
            end = "low" if coordinate == 0.0 else "high"
            yield f"{parameter.path} is at the {end} end of its range, {parameter.value:.6g}."
    if result.replicates < distance.min_replicates:
        yield (
            f"{result.replicates} replicates are too few for the covariance of "
            f"{len(distance.fitted_targets)} moments, which count as independent; "
            f"{distance.min_replicates} replicates are needed."
        )


def _identifiability_warnings(result: CalibrationResult, fit: CalibrationFit) -> Iterator[str]:
    """Parameters of the direction with the largest standard error, in units of the ranges.

    A singular value s of the Jacobian means a standard error of 1 / s along its direction.
    """
    _, singular_values, rows = np.linalg.svd(fit.jacobian, full_matrices=True)
    is_complete = len(singular_values) == len(result.parameters)
    if is_complete and singular_values[-1] * UNIDENTIFIED_ERROR > 1.0:
        return
    loadings = np.abs(rows[-1])
    names = [p.path for p, x in zip(result.parameters, loadings, strict=True) if x >= MIN_LOADING]
    if len(names) == 1:
        yield f"{names[0]} is hardly identified by these targets."
    else:
        yield f"{' and '.join(names)} cannot be identified separately by these targets."
