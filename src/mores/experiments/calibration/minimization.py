"""Minimization of the distance between simulated moments and targets.

The search starts from the points of a scrambled Sobol sequence, with weights from the median
variances of the moments. Least squares (`scipy.optimize.least_squares`, trust region, bounds)
starts at the best point with these weights; then, with weights from the covariance of the moments
at its solution, at that solution and at further good points (two-step weights; updated until the
solution is stable). Derivatives are difference quotients on common random numbers over a quarter
of a standard error. If moments are discontinuous and the derivatives do not help, a derivative-free
search continues (COBYQA: Ragonneau and Zhang 2023, in `scipy.optimize.minimize`).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.optimize
import scipy.stats
from jaxtyping import Float

from mores.experiments.calibration.moment_distance import INITIAL_STEP, MomentDistance, UnitPoint

NUM_STARTS = 3  # starting points of least squares
COARSE_FTOL, FINE_FTOL = 0.05, 0.002  # negligible decrease of the distance, relative to 1 + it
MIN_DECREASE = 0.02  # negligible predicted decrease of the distance (an interval's width is 3.8)
REWEIGHTING_TOLERANCE = 0.05  # negligible change by new weights, in standard errors
MAX_REWEIGHTINGS = 4
BOUND_TOLERANCE = 1e-3  # a parameter so near to the end of its range moves to the end
MIN_STEP = 1e-3  # of a difference quotient
STEP_IN_STANDARD_ERRORS = 0.25  # of a difference quotient


@dataclasses.dataclass(frozen=True)
class CalibrationFit:
    """Result of the search.

    Attributes:
        unit_point: fitted parameters, in the unit cube.
        objective: distance at the fitted parameters.
        jacobian: derivative of the whitened residual at the fitted parameters.
        converged: whether the derivatives predict no further decrease.
    """

    unit_point: UnitPoint
    objective: float
    jacobian: Float[np.ndarray, "moment parameter"]
    converged: bool


def initial_points(num_parameters: int, seed: int) -> Float[np.ndarray, "point parameter"]:
    """Center of the unit cube, followed by points of a scrambled Sobol sequence."""
    exponent = int(np.ceil(np.log2(8 * num_parameters)))
    sobol = scipy.stats.qmc.Sobol(num_parameters, scramble=True, rng=seed).random_base2(exponent)
    return np.concatenate([np.full((1, num_parameters), 0.5), sobol])


def minimize_distance(
    distance: MomentDistance, points: Float[np.ndarray, "point parameter"]
) -> CalibrationFit:
    """Best fit from these starting points. Sets the weights of `distance` at the fit."""
    distance.set_diagonal_weights(points)
    best = _least_squares(distance, min(points, key=distance), COARSE_FTOL)
    distance.whitening = distance.whitening_at(best)
    starts = sorted(points, key=distance)[: NUM_STARTS - 1]
    candidates = [best, *(_least_squares(distance, start, COARSE_FTOL) for start in starts)]
    return refine_fit(distance, min(candidates, key=distance))


def refine_fit(distance: MomentDistance, best: UnitPoint) -> CalibrationFit:
    """Fit near a good point, with the weights at the fit."""
    for _ in range(MAX_REWEIGHTINGS):
        distance.whitening = distance.whitening_at(best)
        errors = standard_errors(distance.jacobian(best))
        distance.step_sizes = np.clip(STEP_IN_STANDARD_ERRORS * errors, MIN_STEP, INITIAL_STEP)
        previous, best = best, _least_squares(distance, best, FINE_FTOL)
        change = np.abs(best - previous) / np.maximum(errors, 1e-12)
        if (change < REWEIGHTING_TOLERANCE).all():
            break
    # The solver stays inside the ranges, so that a parameter at the end of its range stops near it.
    near_end = np.minimum(best, 1 - best) < BOUND_TOLERANCE
    snapped = np.where(near_end, np.round(best), best)
    if distance(snapped) <= distance(best) + MIN_DECREASE:
        best = snapped
    jacobian = distance.jacobian(best, central=True)
    if _predicted_decrease(distance, best, jacobian) > MIN_DECREASE:
        best = _derivative_free_search(distance, best, jacobian)
        jacobian = distance.jacobian(best, central=True)
    converged = bool(_predicted_decrease(distance, best, jacobian) <= 5 * MIN_DECREASE)
    return CalibrationFit(best, distance(best), jacobian, converged)


def standard_errors(jacobian: Float[np.ndarray, "moment parameter"]) -> UnitPoint:
    """Standard errors in units of the ranges; very large for unidentified parameters."""
    covariance = np.linalg.pinv(jacobian.T @ jacobian, rcond=1e-12, hermitian=True)
    unidentified = (jacobian**2).sum(0) <= 1e-12
    return np.where(unidentified, 1e6, np.sqrt(np.maximum(np.diag(covariance), 1e-24)))


def _least_squares(distance: MomentDistance, start: UnitPoint, tolerance: float) -> UnitPoint:
    """Least-squares solution from a point, with a tolerance for the decrease of the distance.

    A constant residual of 1 makes the tolerance absolute for small distances: discontinuous
    moments would otherwise cause many useless steps.
    """

    def residual(unit_point: UnitPoint) -> Float[np.ndarray, " residual"]:
        return np.append(distance.residual(unit_point), 1.0)

    def jacobian(unit_point: UnitPoint) -> Float[np.ndarray, "residual parameter"]:
        return np.pad(distance.jacobian(unit_point), ((0, 1), (0, 0)))

    solution = scipy.optimize.least_squares(
        residual,
        np.clip(start, 1e-6, 1 - 1e-6),
        jacobian,  # type: ignore[arg-type] - scipy's stub allows no function here
        bounds=(0.0, 1.0),
        xtol=1e-5,
        ftol=tolerance,
        gtol=1e-8,
        max_nfev=30,
    )
    return solution.x if distance(solution.x) <= distance(start) else start


def _predicted_decrease(
    distance: MomentDistance, best: UnitPoint, jacobian: Float[np.ndarray, "moment parameter"]
) -> float:
    """Further decrease of the distance that the derivatives predict."""
    step = scipy.optimize.lsq_linear(
        jacobian, -distance.residual(best), (-best - 1e-12, 1 - best + 1e-12)
    )
    return distance(best) - 2 * step.cost


def _derivative_free_search(
    distance: MomentDistance, best: UnitPoint, jacobian: Float[np.ndarray, "moment parameter"]
) -> UnitPoint:
    """Solution of a derivative-free search from a point."""
    radius = float(np.clip(np.median(standard_errors(jacobian)), 0.002, 0.1))
    solution = scipy.optimize.minimize(
        lambda unit_point: distance(np.clip(unit_point, 0.0, 1.0)),
        best,
        method="COBYQA",
        bounds=[(0.0, 1.0)] * distance.num_parameters,
        options={"maxfev": 60 * distance.num_parameters, "initial_tr_radius": radius,
                 "final_tr_radius": 1e-2 * radius},
    )  # fmt: skip
    unit_point = np.clip(solution.x, 0.0, 1.0)
    return unit_point if distance(unit_point) < distance(best) else best
