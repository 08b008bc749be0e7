"""The figures that a scenario comes to when its parameters have certain values.

A *figure* is what a target names: a measure in an arm after some rounds, less that of another arm
where the target has `against`. At a point of the parameters the figures are means over S
replicates, on the same random draws at every point, so that they change with the parameters and
not by chance. Two covariances come with them:

    of a study     how the figures of one study vary: one replicate, which should have as many
                   people as the real study had. People of different arms are different people, as
                   in an experiment, and so are people of targets with different sources. Where a
                   target states its `error`, its variance is that, and its correlations stay.
    of the mean    how far the simulated means are off by chance: the covariance over replicates,
                   whose arms share their draws, divided by S.

A real figure and the simulated one differ, at the true parameters, by the sum of both.
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
from mores.experiments.scenario.claim_inputs import DERIVED_METRICS, claim_arm
from mores.experiments.scenario.conditions import DEFAULT_ARM, Condition, condition_at_point
from mores.experiments.scenario.expansion import cells_for_conditions
from mores.experiments.scenario.loading import LoadedScenario
from mores.experiments.scenario.source_locations import Problem, ScenarioError, printable
from mores.experiments.scenario.specification import Scenario
from mores.experiments.scenario.stages import Target

SECTION = "calibration"
ParameterValues = Float[np.ndarray, " parameter"]


class MetricKey(NamedTuple):
    """Where a number is read: in which arm, which measure, after how many rounds."""

    arm: str
    metric: str
    at_round: int


class SimulatedMoments(NamedTuple):
    """What the targets' figures come to at a point.

    Attributes:
        mean: of each figure over replicates.
        study_covariance: covariance of the figures of one study.
        simulation_covariance: covariance of `mean`.
    """

    mean: Float[np.ndarray, " target"]
    study_covariance: Float[np.ndarray, "target target"]
    simulation_covariance: Float[np.ndarray, "target target"]

    @property
    def total_covariance(self) -> Float[np.ndarray, "target target"]:
        """Covariance of what a study found less what was simulated."""
        return self.study_covariance + self.simulation_covariance


class MomentSimulator:
    """Plays a scenario at points of the parameters, and remembers what came out.

    Args:
        loaded: the scenario, which has a `calibration`.
        seed: of all draws; default: the scenario's.
        replicates: how many; default: as many as the scenario has.

    Attributes:
        parameter_paths: of the parameters, in the order in which points list them.
        ranges: of each, [low, high].
        targets: in the order of the file.
        contrasts: where each target is read, and with which sign.
        replicates, seed: of what is played.
        num_evaluations: points that were played so far.
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
        """The figures where the parameters have these values.

        Args:
            values: of the parameters.
            targets: numbers of the targets that matter; arms that no other target looks at are not
                played, and its figures are nan.

        Raises:
            ScenarioError: a parameter cannot have that value, or a figure is not finite there.
        """
        point = np.asarray(values, dtype=np.float64).tobytes()
        wanted = tuple(range(len(self.targets)) if targets is None else targets)
        if (point, wanted) not in self._cache:
            self._cache[point, wanted] = self._moments(self._metric_series(values, wanted), values)
            self.num_evaluations += 1
            self.on_evaluation()
        return self._cache[point, wanted]

    def all_means(self) -> Float[np.ndarray, "point target"]:
        """The figures at all points played so far; nan where they did not matter."""
        return np.array([figures.mean for figures in self._cache.values()])

    def _metric_series(
        self, values: ParameterValues, targets: Sequence[int]
    ) -> dict[MetricKey, Float[np.ndarray, " replicate"]]:
        """What is read in each look, one number a replicate."""
        scenario, places = self._scenario, self.loaded.source_map
        point = {path: float(v) for path, v in zip(self.parameter_paths, values, strict=True)}
        wanted = {look for i in targets for look in self.contrasts[i]}
        arms = {look.arm for look in wanted}
        if any(look.metric in DERIVED_METRICS for look in wanted) and scenario.control is not None:
            arms.add(scenario.control)
        every = list(scenario.arms) or [DEFAULT_ARM]  # a role may be there in some arms only
        asked = [condition_at_point(scenario, places, arm, point, SECTION, "draw") for arm in every]
        return self._read_metrics(wanted, self._run_cells(asked, arms))

    def _run_cells(self, conditions: Sequence[Condition], arms: set[str]) -> dict[str, CellResult]:
        given = dataclasses.replace(self.loaded, scenario=self._scenario)
        return {
            cell.arm: run_cell(cell, self._scenario, range(self.replicates), lambda _: None)
            for cell in cells_for_conditions(given, conditions)
            if cell.arm in arms
        }

    def _read_metrics(
        self, metric_keys: set[MetricKey], records: Mapping[str, CellResult]
    ) -> dict[MetricKey, Float[np.ndarray, " replicate"]]:
        stage = self._scenario.stage(None).name
        control = records.get(self._scenario.control or "")
        series = {}
        for look in metric_keys:
            record = records[look.arm]
            try:
                series[look] = metric_at_round(record, look.metric, stage, look.at_round, control)
            except KeyError:
                known = ", ".join(record.stage(stage).metrics)
                message = f"there is no such number; known: {known}"
                self.reject_target(self._target_of(look), message, "unknown_name")
        return series

    def _target_of(self, metric_key: MetricKey) -> int:
        return next(i for i, looks in enumerate(self.contrasts) if metric_key in looks)

    def _moments(
        self, series: Mapping[MetricKey, Float[np.ndarray, " replicate"]], values: ParameterValues
    ) -> SimulatedMoments:
        nothing = np.full(self.replicates, np.nan)
        rows = np.array([sum(sign * series.get(look, nothing) for look, sign in looks.items())
                         for looks in self.contrasts])  # fmt: skip
        for i, looks in enumerate(self.contrasts):
            if looks.keys() <= series.keys() and not np.isfinite(rows[i]).all():
                where = ", ".join(
                    f"{p} = {v:.6g}" for p, v in zip(self.parameter_paths, values, strict=True)
                )
                self.reject_target(i, f"is not a finite number at {where}", "not_finite")
        if self.replicates == 1:  # one replicate does not say how much it varies
            unknown = np.full((len(rows), len(rows)), np.nan)
            return SimulatedMoments(rows.mean(1), unknown, unknown)
        chance = np.atleast_2d(np.cov(rows)) / self.replicates
        return SimulatedMoments(rows.mean(1), self._study_covariance(series), chance)

    def _study_covariance(
        self, series: Mapping[MetricKey, Float[np.ndarray, " replicate"]]
    ) -> Float[np.ndarray, "target target"]:
        """Covariance of one study's figures: other arms and other sources are other people."""
        k = len(self.targets)
        study = np.zeros((k, k))
        for arm in {look.arm for look in series}:
            zero = np.zeros(self.replicates)
            part = [sum((s * series.get(x, zero) for x, s in looks.items() if x.arm == arm), zero)
                    for looks in self.contrasts]  # fmt: skip
            study += np.atleast_2d(np.cov(np.array(part)))
        study *= self._same_source()
        sizes = np.sqrt(np.diag(study))
        stated = np.array(
            [t.standard_error if t.standard_error is not None else np.nan for t in self.targets]
        )
        scale = np.where(
            np.isnan(stated), 1.0, np.divide(stated, sizes, where=sizes > 0, out=0 * sizes)
        )
        study = study * np.outer(scale, scale)
        exact = ~np.isnan(stated)
        study[exact, exact] = stated[exact] ** 2  # also where the figure never varies
        return study

    def _same_source(self) -> Bool[np.ndarray, "target target"]:
        sources = [target.source for target in self.targets]
        return np.array([[a == b for b in sources] for a in sources])

    def reject_target(self, target: int, message: str, code: str) -> None:
        """Say what is wrong with a target.

        Raises:
            ScenarioError: always.
        """
        path = (SECTION, "targets", target)
        name = printable(self.targets[target].metric)
        place = self.loaded.source_map.value_location(path)
        raise ScenarioError([Problem(place, path, f"{name}: {message}", code)])


def simulate_study(
    loaded: LoadedScenario, values: ParameterValues, seed: int
) -> Float[np.ndarray, " target"]:
    """What one study would find, were the parameters these: for tests of the calibration itself.

    Every arm and every source has people of its own.

    Args:
        loaded: the scenario.
        values: of the parameters.
        seed: of the study: a number below 2^32.
    """
    calibration = loaded.scenario.calibration
    assert calibration is not None
    found = np.full(len(calibration.targets), np.nan)
    sources = list(dict.fromkeys(target.source for target in calibration.targets))
    for number, source in enumerate(sources):
        chosen = [i for i, t in enumerate(calibration.targets) if t.source == source]
        only = calibration.model_copy(update={"targets": [calibration.targets[i] for i in chosen]})
        scenario = loaded.scenario.model_copy(update={"calibration": only})
        part = dataclasses.replace(loaded, scenario=scenario)
        found[chosen] = _independent_arms(part, values, (seed << 16) + (number << 8))
    return found


def _independent_arms(
    loaded: LoadedScenario, values: ParameterValues, seed: int
) -> Float[np.ndarray, " target"]:
    """The targets of one source, every arm on draws of its own."""
    simulator = MomentSimulator(loaded, seed, replicates=1)
    every = range(len(simulator.targets))
    arms = sorted({look.arm for looks in simulator.contrasts for look in looks})
    by_arm = {}
    for number, arm in enumerate(arms):
        series = MomentSimulator(loaded, seed + number, replicates=1)._metric_series(values, every)
        by_arm |= {look: row for look, row in series.items() if look.arm == arm}
    return simulator._moments(by_arm, values).mean


def _contrast(scenario: Scenario, target: Target) -> dict[MetricKey, float]:
    """Where a target is read, and with which sign."""
    last = scenario.rounds_per_episode(scenario.stage(None))
    at = last if target.at_round is None else target.at_round
    arm = claim_arm(scenario, target)
    assert arm is not None  # seen to when the scenario was checked
    looks = {MetricKey(arm, target.metric, at): 1.0}
    if target.compare_to is not None:
        looks[MetricKey(target.compare_to, target.metric, at)] = -1.0
    return looks


def _reduced_scenario(
    scenario: Scenario, contrasts: Sequence[Mapping[MetricKey, float]], seed: int
) -> Scenario:
    """The scenario without what no target asks for: measures, rounds, pictures."""
    wanted = {look for found in contrasts for look in found}
    names = {DERIVED_METRICS.get(look.metric, look.metric).partition("[")[0] for look in wanted}
    update = {
        "measures": [name for name in scenario.metrics if name in names],
        "seed": seed,
        "sample": 0,
        "claims": [],
        "uncertain": None,
        "sweep": {},
    }
    last = max(look.at_round for look in wanted)
    if not scenario.stages:  # what comes later does not change what came before
        update["rounds"] = max(1, last)
    return scenario.model_copy(update=update)
