"""What a reader must know of a calibration besides its figures."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mores.experiments.calibration.minimization import Fit
from mores.experiments.calibration.moment_distance import Distance
from mores.experiments.calibration.profile_intervals import weakest
from mores.experiments.calibration.result import Calibrated

FAR = 3.0  # standard errors by which a fitted figure misses its target
UNLIKELY = 0.05
UNDETERMINED = 0.25  # standard error along a direction: its interval is as long as the range


def remarks(result: Calibrated, distance: Distance, found: Fit) -> Iterator[str]:
    """One sentence each."""
    if not result.converged:
        yield "The search did not come to an end: a better fit may exist."
    yield from _missed(result, distance)
    if result.probability is not None and result.probability < UNLIKELY:
        yield (
            f"The fitted figures cannot all be met: a distance of {result.distance:.3g} or more "
            f"with {result.freedom} degrees of freedom has the probability "
            f"{result.probability:.2g}, were the scenario right."
        )
    yield from _undetermined(result, found)
    for parameter, place in zip(result.parameters, found.unit, strict=True):
        if place in (0.0, 1.0):
            end = "low" if place == 0.0 else "high"
            yield f"{parameter.path} is at the {end} end of its range, {parameter.value:.6g}."
    replicates, figures = result.replicates, len(distance.fitted)
    if replicates < 5 * figures + 5:
        yield (
            f"{replicates} replicates are too few to see how {figures} figures vary together: they "
            f"were taken to be independent; {5 * figures + 5} would do."
        )


def _missed(result: Calibrated, distance: Distance) -> Iterator[str]:
    """Fitted figures that are far from their targets, and how near any point came."""
    everywhere = distance.simulator.everywhere()
    for i, target in enumerate(result.targets):
        if target.role == "predicted" or abs(target.z) < FAR:
            continue
        near = everywhere[np.nanargmin(np.abs(everywhere[:, i] - target.value)), i]
        least, most = np.nanmin(everywhere[:, i]), np.nanmax(everywhere[:, i])
        if least <= target.value <= most:
            how = "alone it could be met, but not with the others"
        else:
            how = f"of {len(everywhere)} points tried the best reached is {near:.6g}"
        yield (
            f"{target.measure} comes to {target.simulated:.6g} and not to {target.value:.6g} "
            f"({target.says}): {how}."
        )


def _undetermined(result: Calibrated, found: Fit) -> Iterator[str]:
    direction = weakest(found)
    if direction.error < UNDETERMINED:
        return
    names = [result.parameters[j].path for j in direction.parameters]
    if len(names) == 1:
        yield f"{names[0]} is hardly determined by these targets."
    else:
        yield f"{' and '.join(names)} cannot be told apart by these targets."
