"""The parameters at which the simulated figures are nearest to the targets.

Where to begin is looked for at the points of a scrambled Sobol sequence, with weights from the
figures' middling variances. From the best of them least squares (`scipy.optimize.least_squares`,
trust region, bounds) goes down with these; then with weights from the covariance of the figures
where it came to, from there and from further good points (two-step weights; taken again while they
change the answer). Slopes are difference quotients on shared draws over a quarter of a standard
error. Where figures jump, so that the slopes lead nowhere, a search without slopes goes on
(COBYQA: Ragonneau and Zhang 2023, as in `scipy.optimize.minimize`).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import scipy.optimize
import scipy.stats
from jaxtyping import Float

from mores.experiments.calibration.moment_distance import MomentDistance, UnitPoint

NUM_STARTS = 3  # points from which least squares is begun
COARSE_FTOL, FINE_FTOL = (
    0.05,
    0.002,
)  # fall of the distance, in parts of itself plus one, that is none
MIN_DECREASE = (
    0.02  # improvement of the distance, by the slopes, that is none (an interval's is 3.8)
)
REWEIGHTING_TOLERANCE = 0.05  # standard errors: a smaller change by new weights is none
MAX_REWEIGHTINGS = 4
BOUND_TOLERANCE = 1e-3  # so near to the end of its range a parameter is at it


@dataclasses.dataclass(frozen=True)
class CalibrationFit:
    """Where the search ended.

    Attributes:
        unit_point: the parameters, in the unit cube.
        objective: the distance there.
        jacobian: derivative of the whitened residual there.
        standard_errors: standard errors of the parameters in the unit cube, as the slopes have them.
        converged: whether the slopes promise no further improvement.
    """

    unit_point: UnitPoint
    objective: float
    jacobian: Float[np.ndarray, "figure parameter"]
    standard_errors: UnitPoint
    converged: bool


def initial_points(num_parameters: int, seed: int) -> Float[np.ndarray, "point parameter"]:
    """Points spread over the unit cube: the middle, and a scrambled Sobol sequence."""
    exponent = int(np.ceil(np.log2(8 * num_parameters)))
    spread = scipy.stats.qmc.Sobol(num_parameters, scramble=True, rng=seed).random_base2(exponent)
    return np.concatenate([np.full((1, num_parameters), 0.5), spread])


def minimize_distance(
    distance: MomentDistance, points: Float[np.ndarray, "point parameter"]
) -> CalibrationFit:
    """The nearest point that is found from these.

    Leaves the weights of `distance` as they are at the point found.
    """
    distance.set_diagonal_weights(points)
    best = _least_squares(distance, _ranked(distance, points)[0], COARSE_FTOL)
    distance.set_weights(best)
    ends = [best]
    for point in _ranked(distance, points)[: NUM_STARTS - 1]:
        ends.append(_least_squares(distance, point, COARSE_FTOL))
    return refine_fit(distance, min(ends, key=distance))


def refine_fit(distance: MomentDistance, best: UnitPoint) -> CalibrationFit:
    """The fit near a good point, with weights from where it ends."""
    for _ in range(MAX_REWEIGHTINGS):
        distance.set_weights(best)
        jacobian = distance.jacobian(best)
        errors = standard_errors(jacobian)
        distance.set_step_sizes(errors)
        new = _least_squares(distance, best)
        moved = np.abs(new - best) / np.maximum(errors, 1e-12)
        best = new
        if (moved < REWEIGHTING_TOLERANCE).all():
            break
    best = _snap_to_bounds(distance, best)
    jacobian = distance.jacobian(best, central=True)
    if _predicted_decrease(distance, best, jacobian) > MIN_DECREASE:
        best = _derivative_free_search(distance, best, jacobian)
        jacobian = distance.jacobian(best, central=True)
    errors = standard_errors(jacobian)
    converged = bool(_predicted_decrease(distance, best, jacobian) <= 5 * MIN_DECREASE)
    return CalibrationFit(best, distance(best), jacobian, errors, converged)


def standard_errors(jacobian: Float[np.ndarray, "figure parameter"]) -> UnitPoint:
    """Of the parameters, in parts of their ranges; many ranges where nothing determines them."""
    covariance = np.linalg.pinv(jacobian.T @ jacobian, rcond=1e-12, hermitian=True)
    flat = (jacobian**2).sum(0) <= 1e-12
    return np.where(flat, 1e6, np.sqrt(np.maximum(np.diag(covariance), 1e-24)))


def _ranked(
    distance: MomentDistance, points: Float[np.ndarray, "point parameter"]
) -> Float[np.ndarray, "point parameter"]:
    return points[np.argsort([distance(point) for point in points], kind="stable")]


def _least_squares(
    distance: MomentDistance, start: UnitPoint, tolerance: float = FINE_FTOL
) -> UnitPoint:
    """Down from a point by least squares, until the distance falls by less than the tolerance.

    A residual of one that never changes makes the tolerance absolute where the distance is small:
    figures that jump would else be followed into every corner.
    """

    def slopes(unit: UnitPoint) -> Float[np.ndarray, "row parameter"]:
        return np.vstack([distance.jacobian(unit), np.zeros(distance.num_parameters)])

    jacobian: Any = slopes  # scipy's stubs know names of methods only
    found = scipy.optimize.least_squares(
        lambda unit: np.append(distance.residual(unit), 1.0),
        np.clip(start, 1e-6, 1 - 1e-6),
        jacobian,
        bounds=(0.0, 1.0),
        xtol=1e-5,
        ftol=tolerance,
        gtol=1e-8,
        max_nfev=30,
    )
    return found.x if distance(found.x) <= distance(start) else start


def _snap_to_bounds(distance: MomentDistance, best: UnitPoint) -> UnitPoint:
    """Onto the ends of the ranges where it is all but there, and no worse: the search is inside."""
    snapped = np.where(best < BOUND_TOLERANCE, 0.0, np.where(best > 1 - BOUND_TOLERANCE, 1.0, best))
    return snapped if distance(snapped) <= distance(best) + MIN_DECREASE else best


def _predicted_decrease(
    distance: MomentDistance, best: UnitPoint, jacobian: Float[np.ndarray, "figure parameter"]
) -> float:
    """By how much the slopes say the distance would still fall."""
    step = scipy.optimize.lsq_linear(
        jacobian, -distance.residual(best), (-best - 1e-12, 1 - best + 1e-12)
    )
    return distance(best) - 2 * step.effort_cost


def _derivative_free_search(
    distance: MomentDistance, best: UnitPoint, jacobian: Float[np.ndarray, "figure parameter"]
) -> UnitPoint:
    """Down from a point by a search that asks for no slopes."""
    radius = float(np.clip(np.median(standard_errors(jacobian)), 0.002, 0.1))
    found = scipy.optimize.minimize(
        lambda unit: distance(np.clip(unit, 0.0, 1.0)),
        best,
        method="COBYQA",
        bounds=[(0.0, 1.0)] * distance.num_parameters,
        options={"maxfev": 60 * distance.num_parameters, "initial_tr_radius": radius,
                 "final_tr_radius": 1e-2 * radius},
    )  # fmt: skip
    unit = np.clip(found.x, 0.0, 1.0)
    return unit if distance(unit) < distance(best) else best
