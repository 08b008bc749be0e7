"""How far the simulated figures are from the targets, as a function of the parameters.

Parameters are searched in the unit cube: each range is mapped to [0, 1], by logarithm where it is
of one sign and spans a factor of ten or more. With the covariance V of what a study found less what
was simulated,

    Q = (m - y)' V^-1 (m - y),        m simulated means, y targets

is the distance (the simulated method of moments: McFadden 1989, Econometrica 57, 995; Gourieroux,
Monfort and Renault 1993, J. Appl. Econometrics 8, S85). It is minimised as a sum of squares of
L^-1 (m - y), V = L L'. V is estimated from S replicates; the inverse of an estimate is too large on
average, and is corrected by (S - k - 2) / (S - 1) for k figures (Hartlap, Simon and Schneider 2007,
Astronomy & Astrophysics 464, 399). With fewer than 5 k + 5 replicates figures are taken to be
independent of each other, because their covariances cannot be told.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.linalg
from jaxtyping import Float

from mores.experiments.calibration.simulated_moments import Figures, Simulator

Unit = Float[np.ndarray, " parameter"]  # each in [0, 1]
LOGARITHMIC = 10.0  # ranges that span such a factor are searched by logarithm
FIRST_STEP = 0.02  # of a difference quotient, while nothing is known of the scale of things
SMALLEST_STEP = 1e-3
STEP = 0.25  # later: so many standard errors
LEAST = 1e-3  # variance of a figure at any point, of its usual one
SINGULAR = 1e-8  # smallest eigenvalue of a correlation matrix, of the largest


class Distance:
    """Weighted distance from targets.

    Args:
        simulator: gives the figures.
        fitted: numbers of the targets that are fitted; the others are not looked at.
        wanted: what the figures of all targets should come to.
    """

    def __init__(
        self,
        simulator: Simulator,
        fitted: Sequence[int],
        wanted: Float[np.ndarray, " target"],
    ) -> None:
        self.simulator, self.fitted = simulator, list(fitted)
        self.wanted = np.asarray(wanted, dtype=np.float64)
        self.size = len(simulator.paths)
        low, high = simulator.ranges.T
        with np.errstate(divide="ignore", invalid="ignore"):
            self._log = (low * high > 0) & (np.maximum(low / high, high / low) >= LOGARITHMIC)
        self._sign = np.where(low < 0, -1.0, 1.0)
        self._ends = np.array([self._forward(low), self._forward(high)])
        self.whitening = np.eye(len(self.fitted))
        self._usual = np.zeros(len(self.fitted))  # variances, over the first points
        self._whitenings: dict[bytes, np.ndarray] = {}
        self.steps = np.full(self.size, FIRST_STEP)

    def _forward(self, values: Unit) -> Unit:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self._log, self._sign * np.log(np.abs(values)), values)

    def values(self, unit: Unit) -> Float[np.ndarray, " parameter"]:
        """The parameters at a point of the unit cube."""
        moved = self._ends[0] + np.clip(unit, 0.0, 1.0) * (self._ends[1] - self._ends[0])
        back = self._sign * np.exp(np.where(self._log, self._sign * moved, 0.0))
        inside = np.where(self._log, back, moved)
        return np.clip(inside, *self.simulator.ranges.T)  # ends exactly

    def unit(self, values: Float[np.ndarray, " parameter"]) -> Unit:
        """The point of the unit cube where the parameters have these values."""
        return (self._forward(np.asarray(values)) - self._ends[0]) / (self._ends[1] - self._ends[0])

    def figures(self, unit: Unit) -> Figures:
        """The figures of the fitted targets; nan in place of others that take other arms."""
        return self.simulator.at(self.values(unit), self.fitted)

    def residual(self, unit: Unit) -> Float[np.ndarray, " figure"]:
        """Fitted figures less targets, whitened: about standard normal at the true parameters."""
        return self.whitening @ (self.figures(unit).mean - self.wanted)[self.fitted]

    def __call__(self, unit: Unit) -> float:
        """The distance Q."""
        return float(np.sum(self.residual(unit) ** 2))

    def slopes(
        self,
        unit: Unit,
        central: bool = False,
        only: Sequence[int] | None = None,
        targets: Sequence[int] | None = None,
    ) -> Float[np.ndarray, "target column"]:
        """Change of every target's figure with each parameter, by difference quotients.

        Args:
            unit: where.
            central: from both sides; else from the side where there is more room.
            only: numbers of the parameters.
            targets: numbers of the targets that matter; default: the fitted ones.
        """
        targets = self.fitted if targets is None else targets

        def means(unit: Unit) -> Float[np.ndarray, " target"]:
            return self.simulator.at(self.values(unit), targets).mean

        here = None if central else means(unit)
        columns = []
        for j in range(self.size) if only is None else only:
            up, down = unit.copy(), unit.copy()
            up[j] = min(1.0, unit[j] + self.steps[j])
            down[j] = max(0.0, unit[j] - self.steps[j])
            if here is None:
                rise = means(up) - means(down)
            elif up[j] - unit[j] >= unit[j] - down[j]:
                down[j], rise = unit[j], means(up) - here
            else:
                up[j], rise = unit[j], here - means(down)
            columns.append(rise / (up[j] - down[j]))
        return np.array(columns).T

    def jacobian(
        self, unit: Unit, central: bool = False, only: Sequence[int] | None = None
    ) -> Float[np.ndarray, "figure column"]:
        """Derivative of `residual`, by all parameters or by some."""
        return self.whitening @ self.slopes(unit, central, only)[self.fitted]

    def weigh(self, unit: Unit) -> None:
        """Take the weights from the covariance of the figures at a point."""
        self.whitening = self.whitening_at(unit)

    def weighed_there(self, unit: Unit) -> Float[np.ndarray, " figure"]:
        """Fitted figures less targets, whitened by how figures vary at that very point."""
        return self.whitening_at(unit) @ (self.figures(unit).mean - self.wanted)[self.fitted]

    def whitening_at(self, unit: Unit) -> Float[np.ndarray, "figure figure"]:
        """The inverse of L where the covariance of the figures at a point is L L'."""
        key = unit.tobytes()
        if key not in self._whitenings:
            self._whitenings[key] = self._whitening_at(unit)
        return self._whitenings[key]

    def _whitening_at(self, unit: Unit) -> Float[np.ndarray, "figure figure"]:
        replicates, k = self.simulator.replicates, len(self.fitted)
        total = self.figures(unit).total[np.ix_(self.fitted, self.fitted)]
        least = np.maximum(np.diag(total), LEAST * self._usual)  # a share of one never varies
        self._refuse_constant(least)
        np.fill_diagonal(total, least)
        if replicates >= 5 * k + 5:
            total = total * (replicates - 1) / (replicates - k - 2)
        else:
            total = np.diag(np.diag(total))
        return _inverse_root(total)

    def weigh_evenly(self, points: Float[np.ndarray, "point parameter"]) -> None:
        """Take the weights from what figures vary by in the middle of some points."""
        found = [np.diag(self.figures(p).total)[self.fitted] for p in points]
        self._usual = np.mean(np.array(found), 0)
        self._refuse_constant(self._usual)
        middle = np.median(np.array(found), 0)
        self.whitening = np.diag(1.0 / np.sqrt(np.where(middle > 0, middle, self._usual)))

    def _refuse_constant(self, variances: Float[np.ndarray, " figure"]) -> None:
        """Refuse a figure of which nothing says how much it varies."""
        for i in np.flatnonzero(variances <= 0):
            message = "does not vary between replicates: state the target's error"
            self.simulator.refuse(self.fitted[i], message, "missing")

    def measure_steps(self, errors: Unit) -> None:
        """Take difference quotients over a part of the parameters' standard errors."""
        self.steps = np.clip(STEP * errors, SMALLEST_STEP, FIRST_STEP)


def _inverse_root(
    covariance: Float[np.ndarray, "figure figure"],
) -> Float[np.ndarray, "figure figure"]:
    """The inverse of L where the covariance is L L'; figures that say the same are kept apart."""
    sizes = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(sizes, sizes)
    values, vectors = np.linalg.eigh(correlation)
    kept = np.maximum(values, SINGULAR * values[-1])
    lower = scipy.linalg.cholesky(vectors * kept @ vectors.T, lower=True)
    return scipy.linalg.solve_triangular(lower, np.diag(1.0 / sizes), lower=True)
