"""Profile intervals of the fitted parameters.

The 95 % interval of a parameter contains the values at which the distance, minimized over the
other parameters, exceeds the smallest distance by at most the square of Student's 97.5 % point
with S - k degrees of freedom (a profile: the quasi-likelihood ratio of Newey and West 1987,
International Economic Review 28, 777). It stays in the range, may be asymmetric, and ends at the
end of the range for an unidentified parameter. At every value the distance uses the covariance of
the moments at that value (continuously updated weights: Hansen, Heaton and Yaron 1996, J. Business
& Economic Statistics 14, 262). With the weights of the fit, intervals were far too short where the
moments vary less at the fit than at the true parameters: a noise estimate near zero implies
standard errors near zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.optimize
import scipy.stats
from jaxtyping import Float

from mores.experiments.calibration.minimization import CalibrationFit, standard_errors
from mores.experiments.calibration.moment_distance import MomentDistance, UnitPoint

CONFIDENCE_LEVEL = 0.95
ROOT_TOLERANCE = 0.02  # of the root of the distance at an end, which is about 2
MIN_DECREASE = 0.01  # negligible predicted decrease of the distance
MAX_STEPS = 20
MAX_CHECKS = 4
BETTER_FIT_MARGIN = 0.05  # decrease below the smallest distance that counts as a better fit


class BetterFitFound(Exception):
    """The interval search reached a point with a smaller distance than the fit."""

    def __init__(self, unit_point: UnitPoint) -> None:
        super().__init__()
        self.unit_point = unit_point


def interval_end(distance: MomentDistance, fit: CalibrationFit, parameter: int, end: int) -> float:
    """Low (0) or high (1) end of a parameter's interval, in the unit cube.

    Raises:
        BetterFitFound: the search found a smaller distance than that of the fit.
    """
    profile = _Profile(distance, fit, parameter)
    dof = max(1, distance.simulator.replicates - len(distance.fitted_targets))
    threshold = float(scipy.stats.t.ppf(0.5 + CONFIDENCE_LEVEL / 2, dof))
    fitted, bound = float(fit.unit_point[parameter]), float(end)
    if fitted == bound:
        return bound

    def excess_at(value: float) -> float:
        excess = profile(value) - threshold
        return 0.0 if abs(excess) < ROOT_TOLERANCE else excess

    def outward(value: float) -> float:
        return min(value + width, 1.0) if end else max(value - width, 0.0)

    width = float(min(threshold * standard_errors(fit.jacobian)[parameter], 1.0))
    inner, outer = fitted, outward(fitted)
    while excess_at(outer) < 0.0:  # until the distance is too large or the range ends
        if outer == bound:
            return bound
        inner, width = outer, 1.5 * width
        outer = outward(inner)
    for _ in range(MAX_CHECKS):
        if excess_at(inner) == 0.0:
            outer = inner
        elif excess_at(outer) != 0.0:
            root: Any = scipy.optimize.brentq(excess_at, inner, outer, xtol=1e-6)
            outer = float(root)
        if profile.is_minimum(outer) or excess_at(outer) == 0.0:
            return outer
        if excess_at(outer) < 0.0:  # the other parameters were not optimal
            inner = outer
            while excess_at(outer) < 0.0:
                if outer == bound:
                    return bound
                outer = outward(outer)
    return outer


class _Profile:
    """Root of the increase of the distance by one parameter, minimized over the others.

    Gauss-Newton steps minimize over the others. The Jacobian is that of the fit, updated after
    every step (Broyden 1965, Math. Comp. 19, 577) and recomputed if a step increases the distance.
    """

    def __init__(self, distance: MomentDistance, fit: CalibrationFit, parameter: int) -> None:
        self.distance, self.fit, self.parameter = distance, fit, parameter
        self._others = [j for j in range(distance.num_parameters) if j != parameter]
        self._jacobian = fit.jacobian.copy()
        fitted = float(fit.unit_point[parameter])
        self._points, self._values = {fitted: fit.unit_point}, {fitted: 0.0}

    def __call__(self, value: float) -> float:
        value = float(value)
        if value not in self._values:
            nearest = min(self._points, key=lambda known: abs(known - value))
            step = np.zeros(self.distance.num_parameters)
            step[self.parameter] = value - nearest
            start = self._points[nearest]
            point = start + step
            point += self._gauss_newton_step(point, self._residual(start) + self._jacobian @ step)
            self._broyden_update(start, point)
            self._store(value, self._minimize_others(point))
        return self._values[value]

    def is_minimum(self, value: float) -> bool:
        """Whether minimization with a recomputed Jacobian leaves the profile unchanged."""
        if not self._others:
            return True
        previous = self._values[value]
        self._recompute_jacobian(self._points[value])
        self._store(value, self._minimize_others(self._points[value]))
        return previous - self._values[value] < ROOT_TOLERANCE

    def _store(self, value: float, point: UnitPoint) -> None:
        if self.distance(point) < self.fit.objective - BETTER_FIT_MARGIN:
            raise BetterFitFound(point)
        increase = self._distance(point) - self.fit.objective
        self._points[value], self._values[value] = point, float(np.sqrt(max(increase, 0.0)))

    def _residual(self, point: UnitPoint) -> Float[np.ndarray, " moment"]:
        """Residual whitened by the covariance at the same point."""
        return self.distance.whitening_at(point) @ self.distance.difference(point)

    def _distance(self, point: UnitPoint) -> float:
        return float(np.sum(self._residual(point) ** 2))

    def _recompute_jacobian(self, point: UnitPoint) -> None:
        columns = self.distance.moment_jacobian(point, parameters=self._others)
        self._jacobian[:, self._others] = self.distance.whitening_at(point) @ columns

    def _minimize_others(self, point: UnitPoint) -> UnitPoint:
        """Minimum over the other parameters from a point, with the profiled one fixed."""
        recomputed = False
        for _ in range(MAX_STEPS):
            residual = self._residual(point)
            step = self._gauss_newton_step(point, residual)
            linearized = residual + self._jacobian @ step
            if np.sum(residual**2) - np.sum(linearized**2) < MIN_DECREASE:
                break
            candidate = np.clip(point + step, 0.0, 1.0)
            if self._distance(candidate) < np.sum(residual**2):
                self._broyden_update(point, candidate)
                point, recomputed = candidate, False
            elif recomputed:  # the best point along the step
                backtracked = [np.clip(point + part * step, 0.0, 1.0) for part in (0.5, 0.25, 0.1)]
                return min([point, *backtracked], key=self._distance)
            else:
                self._recompute_jacobian(point)
                recomputed = True
        return point

    def _gauss_newton_step(
        self, point: UnitPoint, residual: Float[np.ndarray, " moment"]
    ) -> UnitPoint:
        """Step of the other parameters to the minimum of the linearized distance."""
        step = np.zeros(self.distance.num_parameters)
        if self._others:
            current = point[self._others]
            bounds = (-current - 1e-12, 1.0 - current + 1e-12)
            solution = scipy.optimize.lsq_linear(self._jacobian[:, self._others], -residual, bounds)
            step[self._others] = solution.x
        return step

    def _broyden_update(self, before: UnitPoint, after: UnitPoint) -> None:
        step = after - before
        length = float(step @ step)
        if length > 0.0:
            change = self._residual(after) - self._residual(before)
            self._jacobian += np.outer(change - self._jacobian @ step, step) / length
