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

from mores.experiments.calibration.moment_distance import Distance, Unit

BEGINNINGS = 3  # points from which least squares is begun
COARSE, FINE = 0.05, 0.002  # fall of the distance, in parts of itself plus one, that is none
NEAR = 0.02  # improvement of the distance, by the slopes, that is none (an interval's is 3.8)
SAME = 0.05  # standard errors: a smaller change by new weights is none
MOST_WEIGHTINGS = 4
EDGE = 1e-3  # so near to the end of its range a parameter is at it


@dataclasses.dataclass(frozen=True)
class Fit:
    """Where the search ended.

    Attributes:
        unit: the parameters, in the unit cube.
        objective: the distance there.
        jacobian: derivative of the whitened residual there.
        errors: standard errors of the parameters in the unit cube, as the slopes have them.
        converged: whether the slopes promise no further improvement.
    """

    unit: Unit
    objective: float
    jacobian: Float[np.ndarray, "figure parameter"]
    errors: Unit
    converged: bool


def first_points(size: int, seed: int) -> Float[np.ndarray, "point parameter"]:
    """Points spread over the unit cube: the middle, and a scrambled Sobol sequence."""
    exponent = int(np.ceil(np.log2(8 * size)))
    spread = scipy.stats.qmc.Sobol(size, scramble=True, rng=seed).random_base2(exponent)
    return np.concatenate([np.full((1, size), 0.5), spread])


def fit(distance: Distance, points: Float[np.ndarray, "point parameter"]) -> Fit:
    """The nearest point that is found from these.

    Leaves the weights of `distance` as they are at the point found.
    """
    distance.weigh_evenly(points)
    best = _descended(distance, _ranked(distance, points)[0], COARSE)
    distance.weigh(best)
    ends = [best]
    for point in _ranked(distance, points)[: BEGINNINGS - 1]:
        ends.append(_descended(distance, point, COARSE))
    return settled(distance, min(ends, key=distance))


def settled(distance: Distance, best: Unit) -> Fit:
    """The fit near a good point, with weights from where it ends."""
    for _ in range(MOST_WEIGHTINGS):
        distance.weigh(best)
        jacobian = distance.jacobian(best)
        errors = standard_errors(jacobian)
        distance.measure_steps(errors)
        new = _descended(distance, best)
        moved = np.abs(new - best) / np.maximum(errors, 1e-12)
        best = new
        if (moved < SAME).all():
            break
    best = _at_ends(distance, best)
    jacobian = distance.jacobian(best, central=True)
    if _promised(distance, best, jacobian) > NEAR:
        best = _without_slopes(distance, best, jacobian)
        jacobian = distance.jacobian(best, central=True)
    errors = standard_errors(jacobian)
    converged = bool(_promised(distance, best, jacobian) <= 5 * NEAR)
    return Fit(best, distance(best), jacobian, errors, converged)


def standard_errors(jacobian: Float[np.ndarray, "figure parameter"]) -> Unit:
    """Of the parameters, in parts of their ranges; many ranges where nothing determines them."""
    covariance = np.linalg.pinv(jacobian.T @ jacobian, rcond=1e-12, hermitian=True)
    flat = (jacobian**2).sum(0) <= 1e-12
    return np.where(flat, 1e6, np.sqrt(np.maximum(np.diag(covariance), 1e-24)))


def _ranked(
    distance: Distance, points: Float[np.ndarray, "point parameter"]
) -> Float[np.ndarray, "point parameter"]:
    return points[np.argsort([distance(point) for point in points], kind="stable")]


def _descended(distance: Distance, start: Unit, tolerance: float = FINE) -> Unit:
    """Down from a point by least squares, until the distance falls by less than the tolerance.

    A residual of one that never changes makes the tolerance absolute where the distance is small:
    figures that jump would else be followed into every corner.
    """

    def slopes(unit: Unit) -> Float[np.ndarray, "row parameter"]:
        return np.vstack([distance.jacobian(unit), np.zeros(distance.size)])

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


def _at_ends(distance: Distance, best: Unit) -> Unit:
    """Onto the ends of the ranges where it is all but there, and no worse: the search is inside."""
    snapped = np.where(best < EDGE, 0.0, np.where(best > 1 - EDGE, 1.0, best))
    return snapped if distance(snapped) <= distance(best) + NEAR else best


def _promised(
    distance: Distance, best: Unit, jacobian: Float[np.ndarray, "figure parameter"]
) -> float:
    """By how much the slopes say the distance would still fall."""
    step = scipy.optimize.lsq_linear(
        jacobian, -distance.residual(best), (-best - 1e-12, 1 - best + 1e-12)
    )
    return distance(best) - 2 * step.cost


def _without_slopes(
    distance: Distance, best: Unit, jacobian: Float[np.ndarray, "figure parameter"]
) -> Unit:
    """Down from a point by a search that asks for no slopes."""
    radius = float(np.clip(np.median(standard_errors(jacobian)), 0.002, 0.1))
    found = scipy.optimize.minimize(
        lambda unit: distance(np.clip(unit, 0.0, 1.0)),
        best,
        method="COBYQA",
        bounds=[(0.0, 1.0)] * distance.size,
        options={"maxfev": 60 * distance.size, "initial_tr_radius": radius,
                 "final_tr_radius": 1e-2 * radius},
    )  # fmt: skip
    unit = np.clip(found.x, 0.0, 1.0)
    return unit if distance(unit) < distance(best) else best
