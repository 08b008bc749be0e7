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

from mores.experiments.calibration.minimization import Fit
from mores.experiments.calibration.moment_distance import Distance, Unit

Others = Float[np.ndarray, " other"]  # all parameters but the one whose interval it is

LEVEL = 0.95
EXACT = 0.02  # of the root of the distance, whose limit is about 2: so near an end is found
NEAR = 0.01  # improvement of the distance, by the slopes, that is none
MOST_STEPS = 20
MOST_CHECKS = 4
SMALLER = 0.05  # so much below the smallest distance there is a better fit
PART = 0.3  # of a direction of length one that a parameter must have to be named in it


class Interval(NamedTuple):
    """Ends in the unit cube."""

    low: float
    high: float


class Better(Exception):
    """There is a point that is nearer to the targets."""

    def __init__(self, unit: Unit) -> None:
        super().__init__()
        self.unit = unit


class Direction(NamedTuple):
    """A direction in which targets do not tell parameters apart.

    Attributes:
        error: standard error along it, in parts of the ranges.
        parameters: those that change along it.
    """

    error: float
    parameters: list[int]


def threshold(replicates: int, figures: int, level: float = LEVEL) -> float:
    """By how much the distance may exceed the smallest."""
    freedom = max(1, replicates - figures)
    return float(scipy.stats.t.ppf(0.5 + level / 2, freedom) ** 2)


def interval(distance: Distance, fit: Fit, parameter: int, end: int) -> float:
    """One end of a parameter's interval: the low (0) or the high one (1), in the unit cube.

    Raises:
        Better: on the way a better fit was found.
    """
    limit = np.sqrt(threshold(distance.simulator.replicates, len(distance.fitted)))
    profile = _Profile(distance, fit, parameter)
    at, edge = float(fit.unit[parameter]), float(end)
    if at == edge:
        return edge

    def beyond(value: float) -> float:
        excess = profile(value) - limit
        return 0.0 if abs(excess) < EXACT else excess

    width = float(min(limit * fit.errors[parameter], 1.0))
    inner, outer = at, at
    while True:  # out until the distance is too large, or to the end of the range
        outer = min(outer + width, 1.0) if end else max(outer - width, 0.0)
        if beyond(outer) >= 0.0:
            break
        if outer == edge:
            return edge
        inner, width = outer, 1.5 * width
    for _ in range(MOST_CHECKS):
        if beyond(inner) == 0.0:
            outer = inner
        elif beyond(outer) != 0.0:
            root: Any = scipy.optimize.brentq(beyond, inner, outer, xtol=1e-6)
            outer = float(root)
        if profile.confirmed(outer) or beyond(outer) == 0.0:
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

    def __init__(self, distance: Distance, fit: Fit, parameter: int) -> None:
        self.distance, self.fit, self.parameter = distance, fit, parameter
        self.others = np.delete(np.arange(distance.size), parameter)
        self._slopes = fit.jacobian.copy()
        self._path = {float(fit.unit[parameter]): fit.unit}
        self._known = {float(fit.unit[parameter]): 0.0}

    def __call__(self, value: float) -> float:
        value = float(value)
        if value not in self._known:
            near = min(self._path, key=lambda known: abs(known - value))
            along = np.zeros(self.distance.size)
            along[self.parameter] = value - near
            before = self._path[near]
            start = before + along
            start[self.others] += self._step(start, self._residual(before) + self._slopes @ along)
            self._learn(before, start)
            self._keep(value, self._lowest(start))
        return self._known[value]

    def confirmed(self, value: float) -> bool:
        """Whether slopes measured there promise no improvement; else it is made."""
        unit, before = self._path[value], self._known[value]
        if not len(self.others):
            return True
        self._slopes[:, self.others] = self._jacobian(unit, self.others.tolist())
        self._keep(value, self._lowest(unit))
        return before - self._known[value] < EXACT

    def _keep(self, value: float, unit: Unit) -> None:
        if self.distance(unit) < self.fit.objective - SMALLER:
            raise Better(unit)
        rise = self._distance(unit) - self.fit.objective
        self._path[value], self._known[value] = unit, float(np.sqrt(max(rise, 0.0)))

    def _residual(self, unit: Unit) -> Float[np.ndarray, " figure"]:
        return self.distance.weighed_there(unit)

    def _distance(self, unit: Unit) -> float:
        return float(np.sum(self._residual(unit) ** 2))

    def _jacobian(self, unit: Unit, only: list[int]) -> Float[np.ndarray, "figure column"]:
        slopes = self.distance.slopes(unit, only=only)[self.distance.fitted]
        return self.distance.whitening_at(unit) @ slopes

    def _lowest(self, unit: Unit) -> Unit:
        """Down from a point with the parameter as it is."""
        fresh = False
        for _ in range(MOST_STEPS if len(self.others) else 0):
            residual = self._residual(unit)
            step = np.zeros(self.distance.size)
            step[self.others] = self._step(unit, residual)
            promised = np.sum(residual**2) - np.sum((residual + self._slopes @ step) ** 2)
            if promised < NEAR:
                break
            new = np.clip(unit + step, 0.0, 1.0)
            if self._distance(new) < np.sum(residual**2):
                self._learn(unit, new)
                unit, fresh = new, False
            elif fresh:
                unit = self._shorter(unit, step)
                break
            else:
                only = self.others.tolist()
                self._slopes[:, only] = self._jacobian(unit, only)
                fresh = True
        return unit

    def _step(self, unit: Unit, residual: Float[np.ndarray, " figure"]) -> Others:
        """Of the other parameters, to where the slopes say that the distance is smallest."""
        if not len(self.others):
            return np.zeros(0)
        here = unit[self.others]
        bounds = (-here - 1e-12, 1.0 - here + 1e-12)
        return scipy.optimize.lsq_linear(self._slopes[:, self.others], -residual, bounds).x

    def _learn(self, before: Unit, after: Unit) -> None:
        """Correct the slopes by what a step showed."""
        step = after - before
        length = float(step @ step)
        if length > 0.0:
            rise = self._residual(after) - self._residual(before)
            self._slopes += np.outer(rise - self._slopes @ step, step) / length

    def _shorter(self, unit: Unit, step: Unit) -> Unit:
        """Part of a step, where the whole makes things worse."""
        best = unit
        for part in (0.5, 0.25, 0.1):
            new = np.clip(unit + part * step, 0.0, 1.0)
            best = min(best, new, key=self._distance)
        return best


def weakest(fit: Fit) -> Direction:
    """The direction about which the targets say least."""
    _, sizes, rows = np.linalg.svd(fit.jacobian, full_matrices=True)
    size = len(fit.unit)
    smallest = sizes[-1] if len(sizes) == size else 0.0
    direction = rows[-1]
    named = [int(j) for j in np.flatnonzero(np.abs(direction) >= PART)]
    return Direction(float(1.0 / smallest) if smallest > 1e-12 else float(np.inf), named)


def condition_number(fit: Fit) -> float:
    """Ratio of the largest to the smallest singular value of the scaled derivative."""
    sizes = np.linalg.svd(fit.jacobian, compute_uv=False)
    if len(sizes) < len(fit.unit) or sizes[-1] <= 1e-12 * sizes[0]:
        return float(np.inf)
    return float(sizes[0] / sizes[-1])
