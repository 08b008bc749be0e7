"""Simulated moments: the targets' metrics as functions of the scenario's parameters.

The moment of a target is its metric in an arm after a number of rounds, minus that of another arm
if the target has `compare_to`. At a point of the parameters, the moments are means over S
replicates with the same random numbers at every point, so that they change with the parameters
and not by chance. Two covariances belong to them:

    study        covariance of the moments of one study, which is one replicate and should have as
                 many people as the empirical study. Different arms have different people, as in an
                 experiment, and so have targets with different sources. A stated `standard_error`
                 replaces the variance of a target and leaves its correlations.
    simulation   Monte Carlo covariance of the means: covariance over replicates, whose arms share
                 random numbers, divided by S.

At the true parameters, the difference of empirical and simulated moments has the sum of both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mores.experiments.claims.claim_evaluation import metric_at_round, stage_and_round
from mores.experiments.results.cell_result import CellResult
from mores.experiments.run.cell_execution import run_cell
from mores.experiments.scenario.claim_inputs import (
    claim_arm,
    metric_compared_with_control,
    required_arms,
)
from mores.experiments.scenario.conditions import DEFAULT_ARM, condition_at_point
from mores.experiments.scenario.expansion import build_cells
from mores.experiments.scenario.loading import LoadedScenario
from mores.experiments.scenario.recording import TrajectoryOptions
from mores.experiments.scenario.source_locations import ScenarioError, printable
from mores.experiments.scenario.specification import Scenario, metric_name

SECTION = "calibration"
ParameterValues = Float[np.ndarray, " parameter"]
ArmSamples = Mapping[str, Float[np.ndarray, "target replicate"]]


class SimulatedMoments(NamedTuple):
    """Moments of the targets at a point of the parameters.

    Attributes:
        mean: mean of each moment over replicates.
        study_covariance: covariance of the moments of one study.
        simulation_covariance: Monte Carlo covariance of `mean`.
    """

    mean: Float[np.ndarray, " target"]
    study_covariance: Float[np.ndarray, "target target"]
    simulation_covariance: Float[np.ndarray, "target target"]

    @property
    def total_covariance(self) -> Float[np.ndarray, "target target"]:
        """Covariance of the moments of a study minus the simulated moments."""
        return self.study_covariance + self.simulation_covariance


class MomentSimulator:
    """Simulates a scenario with a section `calibration` at points of the parameters.

    The moments of simulated points are cached. `seed` and `replicates` replace the scenario's.

    Attributes:
        parameter_paths: dotted paths of the parameters, in the order of a point's values.
        contrasts: for each target, the sign of its metric in each arm that it needs.
        rounds: for each target, the number of rounds after which its metric is taken.
        num_evaluations: number of points simulated so far.
        on_evaluation: called after each simulated point.
    """

    def __init__(
        self, loaded: LoadedScenario, seed: int | None = None, replicates: int | None = None
    ) -> None:
        scenario, calibration = loaded.scenario, loaded.scenario.calibration
        assert calibration is not None
        self.loaded = loaded
        self.parameter_paths = list(calibration.parameters)
        self.ranges = np.array(list(calibration.parameters.values()), dtype=np.float64)
        self.targets = calibration.targets
        self.contrasts: list[dict[str, float]] = []
        for target in self.targets:
            reference = {} if target.compare_to is None else {target.compare_to: -1.0}
            self.contrasts.append({claim_arm(scenario, target) or "": 1.0, **reference})
        self.rounds = [stage_and_round(scenario, target)[1] for target in self.targets]
        self.seed = scenario.seed if seed is None else seed
        self.replicates = scenario.replicates if replicates is None else replicates
        self.num_evaluations = 0
        self.on_evaluation: Callable[[], None] = lambda: None
        self._scenario = self._reduced_scenario(scenario)
        self._cache: dict[tuple[bytes, tuple[int, ...]], SimulatedMoments] = {}

    def _reduced_scenario(self, scenario: Scenario) -> Scenario:
        """Scenario with only the metrics and rounds that the targets need, and no trajectories."""
        metrics = {metric_compared_with_control(t.metric) or t.metric for t in self.targets}
        names = {metric.partition("[")[0] for metric in metrics}
        update = {
            "metrics": [m for m in scenario.metrics if metric_name(m) in names],
            "seed": self.seed,
            "trajectory": TrajectoryOptions(worlds=0),
            "claims": [],
            "uncertainty": None,
            "sweep": {},
        }
        if not scenario.stages:  # later rounds do not change earlier ones
            update["rounds"] = max(1, *self.rounds)
        return scenario.model_copy(update=update)

    def moments_at(
        self, values: ParameterValues, targets: Sequence[int] | None = None
    ) -> SimulatedMoments:
        """Moments at these parameter values, of all targets or of those with these indices.

        Arms that these targets do not use are not simulated; the moments of other targets are nan.

        Raises:
            ScenarioError: an invalid parameter value, or a moment that is not finite.
        """
        required = tuple(range(len(self.targets)) if targets is None else targets)
        key = np.asarray(values, dtype=np.float64).tobytes(), required
        if key not in self._cache:
            samples = self.arm_samples(values, required)
            rows = np.sum(list(samples.values()), axis=0)  # target replicate
            for i in sorted(required):
                if not np.isfinite(rows[i]).all():
                    point = zip(self.parameter_paths, values, strict=True)
                    position = ", ".join(f"{path} = {value:.6g}" for path, value in point)
                    raise self.target_error(i, f"not finite at {position}", "not_finite")
            simulation_covariance = np.atleast_2d(np.cov(rows)) / self.replicates
            study_covariance = self._study_covariance(samples)
            moments = SimulatedMoments(rows.mean(1), study_covariance, simulation_covariance)
            self._cache[key] = moments
            self.num_evaluations += 1
            self.on_evaluation()
        return self._cache[key]

    def all_means(self) -> Float[np.ndarray, "point target"]:
        """Moments at all simulated points; nan where they were not required."""
        return np.array([moments.mean for moments in self._cache.values()])

    def arm_samples(self, values: ParameterValues, targets: Sequence[int]) -> ArmSamples:
        """Signed metrics of the targets in each arm: 0 in an arm that a target does not use.

        nan for targets that are not required.
        """
        scenario = self._scenario
        arms = sorted(required_arms(scenario, [self.targets[i] for i in targets]))
        point = {path: float(v) for path, v in zip(self.parameter_paths, values, strict=True)}
        conditions = [  # of all arms, since some may lack a role
            condition_at_point(scenario, arm, point, SECTION, "draw")
            for arm in scenario.arms or [DEFAULT_ARM]
        ]
        loaded = dataclasses.replace(self.loaded, scenario=scenario)
        results = {
            built.cell.arm: run_cell(
                built.cell, scenario, range(self.replicates), lambda _: None, built
            )
            for built in build_cells(loaded, conditions)
            if built.cell.arm in arms
        }
        shape = len(self.targets), self.replicates
        samples = {arm: np.full(shape, np.nan) for arm in arms}
        for arm, rows in samples.items():
            for i in targets:
                sign = self.contrasts[i].get(arm, 0.0)
                rows[i] = sign * self._read_metric(i, arm, results) if sign else 0.0
        return samples

    def _read_metric(
        self, target: int, arm: str, results: Mapping[str, CellResult]
    ) -> Float[np.ndarray, " replicate"]:
        stage, metric = self._scenario.stage(None).name, self.targets[target].metric
        control = results.get(self._scenario.control or "")
        try:
            return metric_at_round(results[arm], metric, stage, self.rounds[target], control)
        except KeyError:
            known = ", ".join(results[arm].stage(stage).names)
            message = f"no metric with this name; known: {known}"
        raise self.target_error(target, message, "unknown_name")

    def _study_covariance(self, samples: ArmSamples) -> Float[np.ndarray, "target target"]:
        """Covariance of the moments of one study: arms and sources have independent people."""
        covariance = sum(np.atleast_2d(np.cov(rows)) for rows in samples.values())
        sources = [target.source for target in self.targets]
        covariance = covariance * np.array([[a == b for b in sources] for a in sources])
        sds = np.sqrt(np.diag(covariance))
        stated = np.array([t.standard_error or np.nan for t in self.targets])
        ratio = np.divide(stated, sds, where=sds > 0, out=0 * sds)
        is_stated = ~np.isnan(stated)
        scale = np.where(is_stated, ratio, 1.0)
        covariance = covariance * np.outer(scale, scale)
        covariance[is_stated, is_stated] = stated[is_stated] ** 2  # also for a constant moment
        return covariance

    def target_error(self, target: int, message: str, code: str) -> ScenarioError:
        """The error of a target, with its place in the file."""
        message = f"{printable(self.targets[target].metric)}: {message}"
        path = (SECTION, "targets", target)
        return ScenarioError([self.loaded.source_map.problem(message, *path, code=code)])
