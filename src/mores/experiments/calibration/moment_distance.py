"""Distance between simulated moments and targets, as a function of the parameters.

The search uses the unit cube: each range is mapped to [0, 1], on a log scale if it has one sign
and spans a factor of ten or more. With the covariance V of the difference between the moments of a
study and the simulated moments, the distance is

    Q = (m - y)' V^-1 (m - y),        m simulated means, y targets

(simulated method of moments: McFadden 1989, Econometrica 57, 995; Gourieroux, Monfort and Renault
1993, J. Appl. Econometrics 8, S85). It is minimized as a sum of squares of L^-1 (m - y), V = L L'.
V is estimated from S replicates. The inverse of an estimate is too large on average; the factor
(S - k - 2) / (S - 1) corrects it for k moments (Hartlap, Simon and Schneider 2007, Astronomy &
Astrophysics 464, 399). With fewer than 5 k + 5 replicates, the moments count as independent, since
their covariances are not determined.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.linalg
from jaxtyping import Float

from mores.experiments.calibration.simulated_moments import MomentSimulator, SimulatedMoments

UnitPoint = Float[np.ndarray, " parameter"]  # each in [0, 1]
Whitening = Float[np.ndarray, "moment moment"]
LOG_SCALE_RATIO = 10.0  # ranges with at least this ratio of their ends use a log scale
INITIAL_STEP = 0.02  # of a difference quotient, before standard errors are known
MIN_RELATIVE_VARIANCE = 1e-3  # smallest variance of a moment, relative to its mean variance
MIN_RELATIVE_EIGENVALUE = 1e-8  # smallest eigenvalue of a correlation, relative to the largest


class MomentDistance:
    """Weighted distance of simulated moments from the targets with these indices.

    `target_values` are those of all targets.
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
        self.min_replicates = 5 * len(self.fitted_targets) + 5  # fewer: moments independent
        low, high = simulator.ranges.T
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.maximum(low / high, high / low)
        self._is_log_scale = (low * high > 0) & (ratio >= LOG_SCALE_RATIO)
        self._sign = np.where(low < 0, -1.0, 1.0)
        self._scaled_low = self._to_scale(low)
        self._scaled_width = self._to_scale(high) - self._scaled_low
        self.whitening = np.eye(len(self.fitted_targets))
        self._mean_variances = np.zeros(len(self.fitted_targets))  # over the initial points
        self.step_sizes = np.full(self.num_parameters, INITIAL_STEP)

    def _to_scale(self, values: UnitPoint) -> UnitPoint:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self._is_log_scale, self._sign * np.log(np.abs(values)), values)

    def from_unit_cube(self, unit_point: UnitPoint) -> Float[np.ndarray, " parameter"]:
        """Parameters at a point of the unit cube."""
        scaled = self._scaled_low + np.clip(unit_point, 0.0, 1.0) * self._scaled_width
        exponential = self._sign * np.exp(np.where(self._is_log_scale, self._sign * scaled, 0.0))
        inside = np.where(self._is_log_scale, exponential, scaled)
        return np.clip(inside, *self.simulator.ranges.T)  # ends are exact

    def to_unit_cube(self, values: Float[np.ndarray, " parameter"]) -> UnitPoint:
        """Point of the unit cube with these parameter values."""
        return (self._to_scale(np.asarray(values)) - self._scaled_low) / self._scaled_width

    def moments(self, unit_point: UnitPoint) -> SimulatedMoments:
        """Moments of the fitted targets; nan for others that need further arms."""
        return self.simulator.moments_at(self.from_unit_cube(unit_point), self.fitted_targets)

    def difference(self, unit_point: UnitPoint) -> Float[np.ndarray, " moment"]:
        """Fitted moments minus targets."""
        return (self.moments(unit_point).mean - self.target_values)[self.fitted_targets]

    def residual(self, unit_point: UnitPoint) -> Float[np.ndarray, " moment"]:
        """Difference, whitened: about standard normal at the true parameters."""
        return self.whitening @ self.difference(unit_point)

    def __call__(self, unit_point: UnitPoint) -> float:
        """Distance Q."""
        return float(np.sum(self.residual(unit_point) ** 2))

    def moment_jacobian(
        self,
        unit_point: UnitPoint,
        central: bool = False,
        parameters: Sequence[int] | None = None,
        targets: Sequence[int] | None = None,
    ) -> Float[np.ndarray, "moment column"]:
        """Derivative of moments by parameters, by difference quotients.

        Central differences, or one-sided ones towards the more distant end. By default of the
        fitted moments by all parameters.
        """
        targets = self.fitted_targets if targets is None else list(targets)
        columns = []
        for j in range(self.num_parameters) if parameters is None else parameters:
            up, down, at = unit_point.copy(), unit_point.copy(), unit_point[j]
            up[j] = min(1.0, at + self.step_sizes[j])
            down[j] = max(0.0, at - self.step_sizes[j])
            if not central and up[j] - at >= at - down[j]:
                down[j] = at
            elif not central:
                up[j] = at
            ends = (self.simulator.moments_at(self.from_unit_cube(x), targets) for x in (up, down))
            above, below = (moments.mean for moments in ends)
            columns.append((above - below) / (up[j] - down[j]))
        return np.array(columns).T[targets]

    def jacobian(
        self, unit_point: UnitPoint, central: bool = False
    ) -> Float[np.ndarray, "moment parameter"]:
        """Derivative of `residual`."""
        return self.whitening @ self.moment_jacobian(unit_point, central)

    def whitening_at(self, unit_point: UnitPoint) -> Whitening:
        """Inverse of L, for the covariance L L' of the moments at a point."""
        replicates, k = self.simulator.replicates, len(self.fitted_targets)
        covariance = self._fitted_covariance(unit_point)
        # The floor is for moments that are constant at some points, such as a share of 1.
        floor = MIN_RELATIVE_VARIANCE * self._mean_variances
        variances = np.maximum(np.diag(covariance), floor)
        self._reject_constant(variances)
        if replicates < self.min_replicates:
            return _inverse_cholesky(np.diag(variances))
        np.fill_diagonal(covariance, variances)
        return _inverse_cholesky(covariance * (replicates - 1) / (replicates - k - 2))

    def _fitted_covariance(self, unit_point: UnitPoint) -> Float[np.ndarray, "moment moment"]:
        fitted = np.ix_(self.fitted_targets, self.fitted_targets)
        return self.moments(unit_point).total_covariance[fitted]

    def set_diagonal_weights(self, points: Float[np.ndarray, "point parameter"]) -> None:
        """Set diagonal weights from the median variances of the moments over some points."""
        variances = np.array([np.diag(self._fitted_covariance(point)) for point in points])
        self._mean_variances = np.mean(variances, 0)
        self._reject_constant(self._mean_variances)
        median = np.median(variances, 0)
        self.whitening = np.diag(1.0 / np.sqrt(np.where(median > 0, median, self._mean_variances)))

    def _reject_constant(self, variances: Float[np.ndarray, " moment"]) -> None:
        for i in np.flatnonzero(variances <= 0):
            message = "no variance between replicates: give the target a standard_error"
            raise self.simulator.target_error(self.fitted_targets[i], message, "missing")


def _inverse_cholesky(covariance: Whitening) -> Whitening:
    """Inverse of L for the covariance L L', with a floor for the eigenvalues of its correlation."""
    scales = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(scales, scales)
    values, vectors = np.linalg.eigh(correlation)
    clipped = np.maximum(values, MIN_RELATIVE_EIGENVALUE * values[-1])
    lower = scipy.linalg.cholesky(vectors * clipped @ vectors.T, lower=True)
    return scipy.linalg.solve_triangular(lower, np.diag(1.0 / scales), lower=True)
