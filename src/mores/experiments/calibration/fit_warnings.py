"""What a reader must know of a calibration besides its figures."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mores.experiments.calibration.minimization import CalibrationFit
from mores.experiments.calibration.moment_distance import MomentDistance
from mores.experiments.calibration.profile_intervals import weakest_direction
from mores.experiments.calibration.result import CalibrationResult

LARGE_Z = 3.0  # standard errors by which a fitted figure misses its target
MIN_P_VALUE = 0.05
UNIDENTIFIED_ERROR = 0.25  # standard error along a direction: its interval is as long as the range


def calibration_warnings(
    result: CalibrationResult, distance: MomentDistance, fit: CalibrationFit
) -> Iterator[str]:
    """One sentence each."""
    if not result.converged:
        yield "The search did not come to an end: a better fit may exist."
    yield from _missed_target_warnings(result, distance)
    if result.p_value is not None and result.p_value < MIN_P_VALUE:
        yield (
            f"The fitted figures cannot all be met: a distance of {result.distance:.3g} or more "
            f"with {result.degrees_of_freedom} degrees of freedom has the probability "
            f"{result.p_value:.2g}, were the scenario right."
        )
    yield from _identifiability_warnings(result, fit)
    for parameter, place in zip(result.parameters, fit.unit_point, strict=True):
        if place in (0.0, 1.0):
            end = "low" if place == 0.0 else "high"
            yield f"{parameter.path} is at the {end} end of its range, {parameter.value:.6g}."
    replicates, figures = result.replicates, len(distance.fitted_targets)
    if replicates < 5 * figures + 5:
        yield (
            f"{replicates} replicates are too few to see how {figures} figures vary together: they "
            f"were taken to be independent; {5 * figures + 5} would do."
        )


def _missed_target_warnings(result: CalibrationResult, distance: MomentDistance) -> Iterator[str]:
    """Fitted figures that are far from their targets, and how near any point came."""
    everywhere = distance.simulator.all_means()
    for i, target in enumerate(result.targets):
        if target.usage == "predicted" or abs(target.z) < LARGE_Z:
            continue
        near = everywhere[np.nanargmin(np.abs(everywhere[:, i] - target.value)), i]
        least, most = np.nanmin(everywhere[:, i]), np.nanmax(everywhere[:, i])
        if least <= target.value <= most:
            how = "alone it could be met, but not with the others"
        else:
            how = f"of {len(everywhere)} points tried the best reached is {near:.6g}"
        yield (
            f"{target.metric} comes to {target.simulated:.6g} and not to {target.value:.6g} "
            f"({target.statement}): {how}."
        )


def _identifiability_warnings(result: CalibrationResult, fit: CalibrationFit) -> Iterator[str]:
    direction = weakest_direction(fit)
    if direction.standard_error < UNIDENTIFIED_ERROR:
        return
    names = [result.parameters[j].path for j in direction.parameters]
    if len(names) == 1:
        yield f"{names[0]} is hardly determined by these targets."
    else:
        yield f"{' and '.join(names)} cannot be told apart by these targets."
