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

from mores.experiments.calibration.simulated_moments import MomentSimulator, SimulatedMoments

UnitPoint = Float[np.ndarray, " parameter"]  # each in [0, 1]
LOG_SCALE_RATIO = 10.0  # ranges that span such a factor are searched by logarithm
INITIAL_STEP = 0.02  # of a difference quotient, while nothing is known of the scale of things
MIN_STEP = 1e-3
STEP_IN_STANDARD_ERRORS = 0.25  # later: so many standard errors
MIN_RELATIVE_VARIANCE = 1e-3  # variance of a figure at any point, of its usual one
MIN_RELATIVE_EIGENVALUE = 1e-8  # smallest eigenvalue of a correlation matrix, of the largest


class MomentDistance:
    """Weighted distance from targets.

    Args:
        simulator: gives the figures.
        fitted_targets: numbers of the targets that are fitted; the others are not looked at.
        target_values: what the figures of all targets should come to.
    """

    def __init__(
        self,
        simulator: MomentSimulator,
        fitted_targets: Sequence[int],
        target_values: Float[np.ndarray, " target"],
    ) -> None:
        self.simulator, self.fitted_targets = simulator, list(fitted_targets)
        self.target_values = np.asarray(target_values, dtype=np.float64)
        self.num_parameters = len(simulator.parameter_paths)
        low, high = simulator.ranges.T
        with np.errstate(divide="ignore", invalid="ignore"):
            self._is_log_scale = (low * high > 0) & (
                np.maximum(low / high, high / low) >= LOG_SCALE_RATIO
            )
        self._sign = np.where(low < 0, -1.0, 1.0)
        self._transformed_bounds = np.array([self._to_scale(low), self._to_scale(high)])
        self.whitening = np.eye(len(self.fitted_targets))
        self._mean_variances = np.zeros(
            len(self.fitted_targets)
        )  # variances, over the first points
        self._whitening_cache: dict[bytes, np.ndarray] = {}
        self.step_sizes = np.full(self.num_parameters, INITIAL_STEP)

    def _to_scale(self, values: UnitPoint) -> UnitPoint:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self._is_log_scale, self._sign * np.log(np.abs(values)), values)

    def from_unit_cube(self, unit_point: UnitPoint) -> Float[np.ndarray, " parameter"]:
        """The parameters at a point of the unit cube."""
        moved = self._transformed_bounds[0] + np.clip(unit_point, 0.0, 1.0) * (
            self._transformed_bounds[1] - self._transformed_bounds[0]
        )
        back = self._sign * np.exp(np.where(self._is_log_scale, self._sign * moved, 0.0))
        inside = np.where(self._is_log_scale, back, moved)
        return np.clip(inside, *self.simulator.ranges.T)  # ends exactly

    def to_unit_cube(self, values: Float[np.ndarray, " parameter"]) -> UnitPoint:
        """The point of the unit cube where the parameters have these values."""
        return (self._to_scale(np.asarray(values)) - self._transformed_bounds[0]) / (
            self._transformed_bounds[1] - self._transformed_bounds[0]
        )

    def moments(self, unit_point: UnitPoint) -> SimulatedMoments:
        """The figures of the fitted targets; nan in place of others that take other arms."""
        return self.simulator.moments_at(self.from_unit_cube(unit_point), self.fitted_targets)

    def residual(self, unit_point: UnitPoint) -> Float[np.ndarray, " figure"]:
        """Fitted figures less targets, whitened: about standard normal at the true parameters."""
        return (
            self.whitening
            @ (self.moments(unit_point).mean - self.target_values)[self.fitted_targets]
        )

    def __call__(self, unit_point: UnitPoint) -> float:
        """The distance Q."""
        return float(np.sum(self.residual(unit_point) ** 2))

    def moment_jacobian(
        self,
        unit_point: UnitPoint,
        central: bool = False,
        parameters: Sequence[int] | None = None,
        targets: Sequence[int] | None = None,
    ) -> Float[np.ndarray, "target column"]:
        """Change of every target's figure with each parameter, by difference quotients.

        Args:
            unit_point: where.
            central: from both sides; else from the side where there is more room.
            parameters: numbers of the parameters.
            targets: numbers of the targets that matter; default: the fitted ones.
        """
        targets = self.fitted_targets if targets is None else targets

        def means(unit: UnitPoint) -> Float[np.ndarray, " target"]:
            return self.simulator.moments_at(self.from_unit_cube(unit), targets).mean

        here = None if central else means(unit_point)
        columns = []
        for j in range(self.num_parameters) if parameters is None else parameters:
            up, down = unit_point.copy(), unit_point.copy()
            up[j] = min(1.0, unit_point[j] + self.step_sizes[j])
            down[j] = max(0.0, unit_point[j] - self.step_sizes[j])
            if here is None:
                rise = means(up) - means(down)
            elif up[j] - unit_point[j] >= unit_point[j] - down[j]:
                down[j], rise = unit_point[j], means(up) - here
            else:
                up[j], rise = unit_point[j], here - means(down)
            columns.append(rise / (up[j] - down[j]))
        return np.array(columns).T

    def jacobian(
        self, unit_point: UnitPoint, central: bool = False, parameters: Sequence[int] | None = None
    ) -> Float[np.ndarray, "figure column"]:
        """Derivative of `residual`, by all parameters or by some."""
        return (
            self.whitening
            @ self.moment_jacobian(unit_point, central, parameters)[self.fitted_targets]
        )

    def set_weights(self, unit_point: UnitPoint) -> None:
        """Take the weights from the covariance of the figures at a point."""
        self.whitening = self.whitening_at(unit_point)

    def continuously_updated_residual(self, unit_point: UnitPoint) -> Float[np.ndarray, " figure"]:
        """Fitted figures less targets, whitened by how figures vary at that very point."""
        return (
            self.whitening_at(unit_point)
            @ (self.moments(unit_point).mean - self.target_values)[self.fitted_targets]
        )

    def whitening_at(self, unit_point: UnitPoint) -> Float[np.ndarray, "figure figure"]:
        """The inverse of L where the covariance of the figures at a point is L L'."""
        key = unit_point.tobytes()
        if key not in self._whitening_cache:
            self._whitening_cache[key] = self._whitening_at(unit_point)
        return self._whitening_cache[key]

    def _whitening_at(self, unit_point: UnitPoint) -> Float[np.ndarray, "figure figure"]:
        replicates, k = self.simulator.replicates, len(self.fitted_targets)
        total = self.moments(unit_point).total_covariance[
            np.ix_(self.fitted_targets, self.fitted_targets)
        ]
        least = np.maximum(
            np.diag(total), MIN_RELATIVE_VARIANCE * self._mean_variances
        )  # a share of one never varies
        self._reject_constant(least)
        np.fill_diagonal(total, least)
        if replicates >= 5 * k + 5:
            total = total * (replicates - 1) / (replicates - k - 2)
        else:
            total = np.diag(np.diag(total))
        return _inverse_cholesky(total)

    def set_diagonal_weights(self, points: Float[np.ndarray, "point parameter"]) -> None:
        """Take the weights from what figures vary by in the middle of some points."""
        found = [np.diag(self.moments(p).total_covariance)[self.fitted_targets] for p in points]
        self._mean_variances = np.mean(np.array(found), 0)
        self._reject_constant(self._mean_variances)
        middle = np.median(np.array(found), 0)
        self.whitening = np.diag(1.0 / np.sqrt(np.where(middle > 0, middle, self._mean_variances)))

    def _reject_constant(self, variances: Float[np.ndarray, " figure"]) -> None:
        """Refuse a figure of which nothing says how much it varies."""
        for i in np.flatnonzero(variances <= 0):
            message = "does not vary between replicates: state the target's error"
            self.simulator.reject_target(self.fitted_targets[i], message, "missing")

    def set_step_sizes(self, standard_errors: UnitPoint) -> None:
        """Take difference quotients over a part of the parameters' standard errors."""
        self.step_sizes = np.clip(STEP_IN_STANDARD_ERRORS * standard_errors, MIN_STEP, INITIAL_STEP)


def _inverse_cholesky(
    covariance: Float[np.ndarray, "figure figure"],
) -> Float[np.ndarray, "figure figure"]:
    """The inverse of L where the covariance is L L'; figures that say the same are kept apart."""
    sizes = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(sizes, sizes)
    values, vectors = np.linalg.eigh(correlation)
    kept = np.maximum(values, MIN_RELATIVE_EIGENVALUE * values[-1])
    lower = scipy.linalg.cholesky(vectors * kept @ vectors.T, lower=True)
    return scipy.linalg.solve_triangular(lower, np.diag(1.0 / sizes), lower=True)
