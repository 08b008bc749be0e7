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
from jaxtyping import Bool, Float

from mores.experiments.claims.claim_evaluation import metric_at_round
from mores.experiments.results.cell_result import CellResult
from mores.experiments.run.cell_execution import run_cell
from mores.experiments.scenario.claim_inputs import claim_arm, metric_compared_with_control
from mores.experiments.scenario.conditions import DEFAULT_ARM, Condition, condition_at_point
from mores.experiments.scenario.expansion import build_cells
from mores.experiments.scenario.loading import LoadedScenario
from mores.experiments.scenario.source_locations import Problem, ScenarioError, printable
from mores.experiments.scenario.specification import Scenario, metric_name
from mores.experiments.scenario.stages import Target

SECTION = "calibration"
ParameterValues = Float[np.ndarray, " parameter"]


class MetricKey(NamedTuple):
    """Arm, metric and round of one recorded value."""

    arm: str
    metric: str
    at_round: int


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
    """Simulates a scenario at points of the parameters, with a cache of the moments.

    Args:
        loaded: a scenario with a section `calibration`.
        seed: seed of all random numbers; None: the scenario's.
        replicates: number of replicates; None: the scenario's.

    Attributes:
        parameter_paths: dotted paths of the parameters, in the order of a point's values.
        ranges: [low, high] of each parameter.
        targets: in the order of the file.
        contrasts: recorded values of each target, with their signs.
        replicates, seed: of the simulations.
        num_evaluations: number of points simulated so far.
    """

    def __init__(
        self, loaded: LoadedScenario, seed: int | None = None, replicates: int | None = None
    ) -> None:
        scenario, calibration = loaded.scenario, loaded.scenario.calibration
        assert calibration is not None
        self.loaded = loaded
        self.parameter_paths = list(calibration.parameters)
        self.ranges = np.array(list(calibration.parameters.values()), dtype=np.float64)
        self.targets = list(calibration.targets)
        self.replicates = scenario.replicates if replicates is None else replicates
        self.on_evaluation: Callable[[], None] = lambda: None
        self.num_evaluations = 0
        self.contrasts = [_contrast(scenario, target) for target in self.targets]
        self.seed = scenario.seed if seed is None else seed
        self._scenario = _reduced_scenario(scenario, self.contrasts, self.seed)
        self._cache: dict[tuple[bytes, tuple[int, ...]], SimulatedMoments] = {}

    def moments_at(
        self, values: ParameterValues, targets: Sequence[int] | None = None
    ) -> SimulatedMoments:
        """Moments at these parameter values.

        Args:
            values: values of the parameters.
            targets: indices of the required targets; None: all. Arms that they do not use are not
                simulated, and moments that need those arms are nan.

        Raises:
            ScenarioError: an invalid parameter value, or a moment that is not finite.
        """
        key = np.asarray(values, dtype=np.float64).tobytes()
        required = tuple(range(len(self.targets)) if targets is None else targets)
        if (key, required) not in self._cache:
            series = self._metric_series(values, required)
            self._cache[key, required] = self._moments(series, values)
            self.num_evaluations += 1
            self.on_evaluation()
        return self._cache[key, required]

    def all_means(self) -> Float[np.ndarray, "point target"]:
        """Moments at all simulated points; nan where they were not required."""
        return np.array([moments.mean for moments in self._cache.values()])

    def _metric_series(
        self, values: ParameterValues, targets: Sequence[int]
    ) -> dict[MetricKey, Float[np.ndarray, " replicate"]]:
        """Recorded values of the targets, one number per replicate."""
        scenario = self._scenario
        point = {path: float(v) for path, v in zip(self.parameter_paths, values, strict=True)}
        keys = {key for i in targets for key in self.contrasts[i]}
        arms = {key.arm for key in keys}
        compared = any(metric_compared_with_control(key.metric) for key in keys)
        if compared and scenario.control is not None:
            arms.add(scenario.control)
        names = list(scenario.arms) or [DEFAULT_ARM]  # all, since some arms may lack a role
        conditions = [condition_at_point(scenario, arm, point, SECTION, "draw") for arm in names]
        return self._read_metrics(keys, self._run_cells(conditions, arms))

    def _run_cells(self, conditions: Sequence[Condition], arms: set[str]) -> dict[str, CellResult]:
        loaded = dataclasses.replace(self.loaded, scenario=self._scenario)
        return {
            built.cell.arm: run_cell(
                built.cell, self._scenario, range(self.replicates), lambda _: None, built
            )
            for built in build_cells(loaded, conditions)
            if built.cell.arm in arms
        }

    def _read_metrics(
        self, metric_keys: set[MetricKey], records: Mapping[str, CellResult]
    ) -> dict[MetricKey, Float[np.ndarray, " replicate"]]:
        stage = self._scenario.stage(None).name
        control = records.get(self._scenario.control or "")
        series = {}
        for key in metric_keys:
            record = records[key.arm]
            try:
                series[key] = metric_at_round(record, key.metric, stage, key.at_round, control)
            except KeyError:
                known = ", ".join(record.stage(stage).metrics)
                message = f"no metric with this name; known: {known}"
                self.reject_target(self._target_of(key), message, "unknown_name")
        return series

    def _target_of(self, metric_key: MetricKey) -> int:
        return next(i for i, contrast in enumerate(self.contrasts) if metric_key in contrast)

    def _moments(
        self, series: Mapping[MetricKey, Float[np.ndarray, " replicate"]], values: ParameterValues
    ) -> SimulatedMoments:
        missing = np.full(self.replicates, np.nan)
        rows = np.array([sum(sign * series.get(key, missing) for key, sign in contrast.items())
                         for contrast in self.contrasts])  # fmt: skip
        for i, contrast in enumerate(self.contrasts):
            if contrast.keys() <= series.keys() and not np.isfinite(rows[i]).all():
                point = zip(self.parameter_paths, values, strict=True)
                position = ", ".join(f"{path} = {value:.6g}" for path, value in point)
                self.reject_target(i, f"not finite at {position}", "not_finite")
        if self.replicates == 1:  # one replicate has no covariance
            undefined = np.full((len(rows), len(rows)), np.nan)
            return SimulatedMoments(rows.mean(1), undefined, undefined)
        simulation_covariance = np.atleast_2d(np.cov(rows)) / self.replicates
        return SimulatedMoments(rows.mean(1), self._study_covariance(series), simulation_covariance)

    def _study_covariance(
        self, series: Mapping[MetricKey, Float[np.ndarray, " replicate"]]
    ) -> Float[np.ndarray, "target target"]:
        """Covariance of the moments of one study: arms and sources have independent people."""
        num_targets = len(self.targets)
        covariance = np.zeros((num_targets, num_targets))
        for arm in {key.arm for key in series}:
            zero = np.zeros(self.replicates)
            rows = [sum((sign * series.get(key, zero) for key, sign in contrast.items()
                         if key.arm == arm), zero) for contrast in self.contrasts]  # fmt: skip
            covariance += np.atleast_2d(np.cov(np.array(rows)))
        covariance *= self._same_source()
        sds = np.sqrt(np.diag(covariance))
        stated = np.array([t.standard_error or np.nan for t in self.targets])
        ratio = np.divide(stated, sds, where=sds > 0, out=0 * sds)
        scale = np.where(np.isnan(stated), 1.0, ratio)
        covariance = covariance * np.outer(scale, scale)
        is_stated = ~np.isnan(stated)
        covariance[is_stated, is_stated] = stated[is_stated] ** 2  # also for a constant moment
        return covariance

    def _same_source(self) -> Bool[np.ndarray, "target target"]:
        sources = [target.source for target in self.targets]
        return np.array([[a == b for b in sources] for a in sources])

    def reject_target(self, target: int, message: str, code: str) -> None:
        """Raise the error of a target.

        Raises:
            ScenarioError: always.
        """
        path = (SECTION, "targets", target)
        name = printable(self.targets[target].metric)
        location = self.loaded.source_map.value_location(path)
        raise ScenarioError([Problem(location, path, f"{name}: {message}", code)])


def simulate_study(
    loaded: LoadedScenario, values: ParameterValues, seed: int
) -> Float[np.ndarray, " target"]:
    """Moments of one simulated study with these parameters, for tests of the calibration.

    Every arm and every source has independent people. The seed lies below 2^32.
    """
    calibration = loaded.scenario.calibration
    assert calibration is not None
    moments = np.full(len(calibration.targets), np.nan)
    sources = list(dict.fromkeys(target.source for target in calibration.targets))
    for index, source in enumerate(sources):
        indices = [i for i, t in enumerate(calibration.targets) if t.source == source]
        targets = [calibration.targets[i] for i in indices]
        subset = calibration.model_copy(update={"targets": targets})
        scenario = loaded.scenario.model_copy(update={"calibration": subset})
        part = dataclasses.replace(loaded, scenario=scenario)
        moments[indices] = _independent_arms(part, values, (seed << 16) + (index << 8))
    return moments


def _independent_arms(
    loaded: LoadedScenario, values: ParameterValues, seed: int
) -> Float[np.ndarray, " target"]:
    """Moments of the targets of one source, with independent random numbers in every arm."""
    simulator = MomentSimulator(loaded, seed, replicates=1)
    all_targets = range(len(simulator.targets))
    arms = sorted({key.arm for contrast in simulator.contrasts for key in contrast})
    by_arm = {}
    for index, arm in enumerate(arms):
        independent = MomentSimulator(loaded, seed + index, replicates=1)
        series = independent._metric_series(values, all_targets)
        by_arm |= {key: samples for key, samples in series.items() if key.arm == arm}
    return simulator._moments(by_arm, values).mean


def _contrast(scenario: Scenario, target: Target) -> dict[MetricKey, float]:
    """Recorded values of a target, with their signs."""
    last_round = scenario.rounds_per_episode(scenario.stage(None))
    at = last_round if target.at_round is None else target.at_round
    arm = claim_arm(scenario, target)
    assert arm is not None  # checked by `check_scenario`
    contrast = {MetricKey(arm, target.metric, at): 1.0}
    if target.compare_to is not None:
        contrast[MetricKey(target.compare_to, target.metric, at)] = -1.0
    return contrast


def _reduced_scenario(
    scenario: Scenario, contrasts: Sequence[Mapping[MetricKey, float]], seed: int
) -> Scenario:
    """Scenario with only the metrics and rounds that the targets need, and no trajectories."""
    metric_keys = {key for contrast in contrasts for key in contrast}
    recorded = {metric_compared_with_control(key.metric) or key.metric for key in metric_keys}
    names = {metric.partition("[")[0] for metric in recorded}
    update = {
        "metrics": [m for m in scenario.metrics if metric_name(m) in names],
        "seed": seed,
        "sample_worlds": 0,
        "claims": [],
        "uncertainty": None,
        "sweep": {},
    }
    last_round = max(key.at_round for key in metric_keys)
    if not scenario.stages:  # later rounds do not change earlier ones
        update["rounds"] = max(1, last_round)
    return scenario.model_copy(update=update)
