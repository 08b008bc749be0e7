"""How far the parameters are determined by the targets.

The 95 % interval of a parameter holds the values at which the distance, made as small as the other
parameters can make it, exceeds the smallest distance by no more than the square of Student's
97.5 % point with S - k degrees of freedom (a profile: the quasi-likelihood ratio of Newey and West
1987, International Economic Review 28, 777). It respects the ranges, need not be symmetric, and
where targets do not determine a parameter it ends where the range does. At every value the distance
is weighed by how figures vary *there* (continuously updated weights: Hansen, Heaton and Yaron 1996,
J. Business & Economic Statistics 14, 262). With the weights of the fit intervals were far too
short where figures vary less at the fit than at the true parameters: a noise estimated as almost
nothing says that there is almost no error.

What targets tell apart locally is in the derivative of the whitened figures by the parameters in
parts of their ranges: a singular value s says that along that direction the parameters have the
standard error 1 / s of their ranges.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.optimize
import scipy.stats
from jaxtyping import Float

from mores.experiments.calibration.minimization import CalibrationFit
from mores.experiments.calibration.moment_distance import MomentDistance, UnitPoint

OtherParameters = Float[np.ndarray, " other"]  # all parameters but the one whose interval it is

CONFIDENCE_LEVEL = 0.95
ROOT_TOLERANCE = (
    0.02  # of the root of the distance, whose limit is about 2: so near an end is found
)
MIN_DECREASE = 0.01  # improvement of the distance, by the slopes, that is none
MAX_STEPS = 20
MAX_CHECKS = 4
BETTER_FIT_MARGIN = 0.05  # so much below the smallest distance there is a better fit
MIN_LOADING = 0.3  # of a direction of length one that a parameter must have to be named in it


class ProfileInterval(NamedTuple):
    """Ends in the unit cube."""

    low: float
    high: float


class BetterFitFound(Exception):
    """There is a point that is nearer to the targets."""

    def __init__(self, unit_point: UnitPoint) -> None:
        super().__init__()
        self.unit_point = unit_point


class WeakDirection(NamedTuple):
    """A direction in which targets do not tell parameters apart.

    Attributes:
        standard_error: standard error along it, in parts of the ranges.
        parameters: those that change along it.
    """

    standard_error: float
    parameters: list[int]


def distance_threshold(replicates: int, num_moments: int, level: float = CONFIDENCE_LEVEL) -> float:
    """By how much the distance may exceed the smallest."""
    freedom = max(1, replicates - num_moments)
    return float(scipy.stats.t.ppf(0.5 + level / 2, freedom) ** 2)


def interval_end(distance: MomentDistance, fit: CalibrationFit, parameter: int, end: int) -> float:
    """One end of a parameter's interval: the low (0) or the high one (1), in the unit cube.

    Raises:
        Better: on the way a better fit was found.
    """
    limit = np.sqrt(distance_threshold(distance.simulator.replicates, len(distance.fitted_targets)))
    profile = _Profile(distance, fit, parameter)
    at, edge = float(fit.unit_point[parameter]), float(end)
    if at == edge:
        return edge

    def beyond(value: float) -> float:
        excess = profile(value) - limit
        return 0.0 if abs(excess) < ROOT_TOLERANCE else excess

    width = float(min(limit * fit.standard_errors[parameter], 1.0))
    inner, outer = at, at
    while True:  # out until the distance is too large, or to the end of the range
        outer = min(outer + width, 1.0) if end else max(outer - width, 0.0)
        if beyond(outer) >= 0.0:
            break
        if outer == edge:
            return edge
        inner, width = outer, 1.5 * width
    for _ in range(MAX_CHECKS):
        if beyond(inner) == 0.0:
            outer = inner
        elif beyond(outer) != 0.0:
            root: Any = scipy.optimize.brentq(beyond, inner, outer, xtol=1e-6)
            outer = float(root)
        if profile.is_minimum(outer) or beyond(outer) == 0.0:
            return outer
        if beyond(outer) < 0.0:  # the others could do better than was thought
            inner = outer
            while beyond(outer) < 0.0:
                if outer == edge:
                    return edge
                outer = min(outer + width, 1.0) if end else max(outer - width, 0.0)
    return outer


class _Profile:
    """Root of the rise of the distance with one parameter, the others as good as can be.

    The others are improved by Gauss and Newton's steps. Slopes are those of the fit, corrected by
    what every step shows of them (Broyden 1965, Math. Comp. 19, 577) and measured anew where a
    step makes things worse.
    """

    def __init__(self, distance: MomentDistance, fit: CalibrationFit, parameter: int) -> None:
        self.distance, self.fit, self.parameter = distance, fit, parameter
        self.other_parameters = np.delete(np.arange(distance.num_parameters), parameter)
        self._broyden_jacobian = fit.jacobian.copy()
        self._profile_points = {float(fit.unit_point[parameter]): fit.unit_point}
        self._profile_values = {float(fit.unit_point[parameter]): 0.0}

    def __call__(self, value: float) -> float:
        value = float(value)
        if value not in self._profile_values:
            near = min(self._profile_points, key=lambda known: abs(known - value))
            along = np.zeros(self.distance.num_parameters)
            along[self.parameter] = value - near
            before = self._profile_points[near]
            start = before + along
            start[self.other_parameters] += self._gauss_newton_step(
                start, self._residual(before) + self._broyden_jacobian @ along
            )
            self._broyden_update(before, start)
            self._store(value, self._minimize_others(start))
        return self._profile_values[value]

    def is_minimum(self, value: float) -> bool:
        """Whether slopes measured there promise no improvement; else it is made."""
        unit, before = self._profile_points[value], self._profile_values[value]
        if not len(self.other_parameters):
            return True
        self._broyden_jacobian[:, self.other_parameters] = self._jacobian(
            unit, self.other_parameters.tolist()
        )
        self._store(value, self._minimize_others(unit))
        return before - self._profile_values[value] < ROOT_TOLERANCE

    def _store(self, value: float, unit_point: UnitPoint) -> None:
        if self.distance(unit_point) < self.fit.objective - BETTER_FIT_MARGIN:
            raise BetterFitFound(unit_point)
        rise = self._distance(unit_point) - self.fit.objective
        self._profile_points[value], self._profile_values[value] = (
            unit_point,
            float(np.sqrt(max(rise, 0.0))),
        )

    def _residual(self, unit_point: UnitPoint) -> Float[np.ndarray, " figure"]:
        return self.distance.continuously_updated_residual(unit_point)

    def _distance(self, unit_point: UnitPoint) -> float:
        return float(np.sum(self._residual(unit_point) ** 2))

    def _jacobian(
        self, unit_point: UnitPoint, parameters: list[int]
    ) -> Float[np.ndarray, "figure column"]:
        slopes = self.distance.moment_jacobian(unit_point, parameters=parameters)[
            self.distance.fitted_targets
        ]
        return self.distance.whitening_at(unit_point) @ slopes

    def _minimize_others(self, unit_point: UnitPoint) -> UnitPoint:
        """Down from a point with the parameter as it is."""
        fresh = False
        for _ in range(MAX_STEPS if len(self.other_parameters) else 0):
            residual = self._residual(unit_point)
            step = np.zeros(self.distance.num_parameters)
            step[self.other_parameters] = self._gauss_newton_step(unit_point, residual)
            promised = np.sum(residual**2) - np.sum((residual + self._broyden_jacobian @ step) ** 2)
            if promised < MIN_DECREASE:
                break
            new = np.clip(unit_point + step, 0.0, 1.0)
            if self._distance(new) < np.sum(residual**2):
                self._broyden_update(unit_point, new)
                unit_point, fresh = new, False
            elif fresh:
                unit_point = self._backtrack(unit_point, step)
                break
            else:
                only = self.other_parameters.tolist()
                self._broyden_jacobian[:, only] = self._jacobian(unit_point, only)
                fresh = True
        return unit_point

    def _gauss_newton_step(
        self, unit_point: UnitPoint, residual: Float[np.ndarray, " figure"]
    ) -> OtherParameters:
        """Of the other parameters, to where the slopes say that the distance is smallest."""
        if not len(self.other_parameters):
            return np.zeros(0)
        here = unit_point[self.other_parameters]
        bounds = (-here - 1e-12, 1.0 - here + 1e-12)
        return scipy.optimize.lsq_linear(
            self._broyden_jacobian[:, self.other_parameters], -residual, bounds
        ).x

    def _broyden_update(self, before: UnitPoint, after: UnitPoint) -> None:
        """Correct the slopes by what a step showed."""
        step = after - before
        length = float(step @ step)
        if length > 0.0:
            rise = self._residual(after) - self._residual(before)
            self._broyden_jacobian += np.outer(rise - self._broyden_jacobian @ step, step) / length

    def _backtrack(self, unit_point: UnitPoint, step: UnitPoint) -> UnitPoint:
        """Part of a step, where the whole makes things worse."""
        best = unit_point
        for part in (0.5, 0.25, 0.1):
            new = np.clip(unit_point + part * step, 0.0, 1.0)
            best = min(best, new, key=self._distance)
        return best


def weakest_direction(fit: CalibrationFit) -> WeakDirection:
    """The direction about which the targets say least."""
    _, sizes, rows = np.linalg.svd(fit.jacobian, full_matrices=True)
    size = len(fit.unit_point)
    smallest = sizes[-1] if len(sizes) == size else 0.0
    direction = rows[-1]
    named = [int(j) for j in np.flatnonzero(np.abs(direction) >= MIN_LOADING)]
    return WeakDirection(float(1.0 / smallest) if smallest > 1e-12 else float(np.inf), named)


def condition_number(fit: CalibrationFit) -> float:
    """Ratio of the largest to the smallest singular value of the scaled derivative."""
    sizes = np.linalg.svd(fit.jacobian, compute_uv=False)
    if len(sizes) < len(fit.unit_point) or sizes[-1] <= 1e-12 * sizes[0]:
        return float(np.inf)
    return float(sizes[0] / sizes[-1])
