"""Fit a scenario's parameters to figures of the real world."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.stats
from jaxtyping import Float

from mores.core.errors import UserError, did_you_mean
from mores.experiments.calibration import fit_warnings
from mores.experiments.calibration.minimization import (
    CalibrationFit,
    initial_points,
    minimize_distance,
    refine_fit,
)
from mores.experiments.calibration.moment_distance import MomentDistance
from mores.experiments.calibration.output import make_output_folder, write_calibration
from mores.experiments.calibration.profile_intervals import (
    BetterFitFound,
    ProfileInterval,
    condition_number,
    interval_end,
)
from mores.experiments.calibration.progress_bar import CalibrationProgress
from mores.experiments.calibration.result import CalibrationResult, FittedParameter, TargetFit
from mores.experiments.calibration.simulated_moments import SECTION, MomentSimulator
from mores.experiments.run.dry_run import check_scenario
from mores.experiments.run.scheduling import single_threaded
from mores.experiments.scenario.loading import LoadedScenario
from mores.experiments.scenario.source_locations import (
    Problem,
    ScenarioError,
    printable,
    problem_at_path,
)

MIN_REPLICATES = 8  # to say how figures vary
MAX_RESTARTS = 3  # where an interval came upon a better fit


def calibrate(
    loaded: LoadedScenario,
    out: Path | None = None,
    hold_out: Sequence[str] = (),
    seed: int | None = None,
    progress: bool = True,
    simulator: MomentSimulator | None = None,
) -> CalibrationResult:
    """Fit the parameters that a scenario's section `calibration` names to the targets there.

    Args:
        loaded: the scenario, from `mores.load_scenario`.
        out: folder to write into, new or empty: `calibration.json`, `calibration.png` and
            `calibrated.yaml`, the scenario with the fitted values; none: nothing is written.
        hold_out: targets to predict instead of fitting them, by measure or by what they say.
        seed: of all draws; default: the scenario's.
        progress: show how far it is, once it takes longer than two seconds.
        simulator: of this very scenario but for the targets' values, where several calibrations
            share what was played.

    Raises:
        UserError: there is nothing to calibrate; a path, measure or target that is not there; too
            few figures or replicates; a figure that is not a number; a parameter on which no
            fitted figure depends; a folder that cannot be written.
    """
    began = time.monotonic()
    check_scenario(loaded)
    held = _held_out_mask(loaded, hold_out)
    if simulator is None:
        simulator = MomentSimulator(loaded, seed)
    calibration = loaded.scenario.calibration
    assert calibration is not None
    wanted = np.array([target.value for target in calibration.targets])
    folder = None if out is None else make_output_folder(out)
    distance = MomentDistance(simulator, np.flatnonzero(~held).tolist(), wanted)
    before = simulator.num_evaluations
    points = initial_points(distance.num_parameters, simulator.seed)
    with single_threaded(), CalibrationProgress(loaded.scenario.name, progress) as bar:
        simulator.on_evaluation = bar.advance
        try:
            found, ends = _search(distance, points, bar.set_status)
            result = _make_result(loaded, distance, found, ends, held)
        finally:
            simulator.on_evaluation = lambda: None
    result = dataclasses.replace(
        result,
        num_evaluations=simulator.num_evaluations - before,
        seconds=round(time.monotonic() - began, 2),
        folder=folder,
    )
    if folder is not None:
        write_calibration(folder, loaded, result)
    return result


class _SearchResult(NamedTuple):
    """Where the search ended, and the interval of every parameter in the unit cube."""

    fit: CalibrationFit
    intervals: list[ProfileInterval]


def _search(
    distance: MomentDistance,
    points: Float[np.ndarray, "point parameter"],
    set_status: Callable[[str], None],
) -> _SearchResult:
    set_status("looking for a beginning")
    for point in points:
        distance.moments(point)
    set_status("fitting")
    found = minimize_distance(distance, points)
    _reject_flat_parameters(distance, found)
    for _ in range(MAX_RESTARTS + 1):
        set_status("intervals")
        try:
            ends = [
                ProfileInterval(
                    interval_end(distance, found, j, 0), interval_end(distance, found, j, 1)
                )
                for j in range(distance.num_parameters)
            ]
            return _SearchResult(found, ends)
        except BetterFitFound as better:
            found = refine_fit(distance, better.unit_point)
    found = dataclasses.replace(found, converged=False)
    return _SearchResult(found, [ProfileInterval(0.0, 1.0)] * distance.num_parameters)


def _reject_flat_parameters(distance: MomentDistance, fit: CalibrationFit) -> None:
    """Refuse parameters on which no fitted figure depends, wherever in its range it is."""
    problems = []
    for j in np.flatnonzero((fit.jacobian**2).sum(0) <= 1e-12):
        low, high = fit.unit_point.copy(), fit.unit_point.copy()
        low[j], high[j] = 0.0, 1.0
        if np.array_equal(distance.residual(low), distance.residual(high)):
            path = distance.simulator.parameter_paths[j]
            stands = (SECTION, "parameters", path)
            place = distance.simulator.loaded.source_map.key_location(stands)
            message = "no fitted figure depends on it: leave it out, or fit a figure that does"
            problems.append(Problem(place, stands, message, "conflict"))
    if problems:
        raise ScenarioError(problems)


def _held_out_mask(loaded: LoadedScenario, hold_out: Sequence[str]) -> np.ndarray:
    """Which targets are held out, by the file and by name; what can be said before playing."""
    scenario, places = loaded.scenario, loaded.source_map
    calibration = scenario.calibration
    if calibration is None:
        raise UserError(
            f"{places.source}: there is nothing to calibrate: it has no section {SECTION}, which "
            "names parameters and targets",
            code="missing",
            path=SECTION,
        )
    if scenario.sweep:
        message = "calibration does not go with a sweep: leave one of them out"
        raise ScenarioError(
            [Problem(places.key_location((SECTION,)), (SECTION,), message, "conflict")]
        )
    if scenario.replicates < MIN_REPLICATES:
        message = (
            f"calibration needs at least {MIN_REPLICATES} replicates to see how figures vary, "
            f"not {scenario.replicates}"
        )
        raise ScenarioError([problem_at_path(places, message, "replicates", code="out_of_range")])
    held = np.array([target.held_out for target in calibration.targets])
    for name in hold_out:
        meant = np.array([name in (t.metric, t.statement) for t in calibration.targets])
        if not meant.any():
            known = dict.fromkeys(t.metric for t in calibration.targets)
            near = did_you_mean(name, known)
            message = f"--hold-out {printable(name)}: there is no such target{near}"
            raise UserError(message, code="unknown_name", path="hold_out")
        held |= meant
    fitted, needed = int((~held).sum()), len(calibration.parameters)
    if fitted < needed:
        message = f"{fitted} figures to fit are too few for {needed} parameters"
        raise ScenarioError(
            [Problem(places.key_location((SECTION,)), (SECTION,), message, "conflict")]
        )
    return held


def _make_result(
    loaded: LoadedScenario,
    distance: MomentDistance,
    fit: CalibrationFit,
    intervals: list[ProfileInterval],
    held_out: np.ndarray,
) -> CalibrationResult:
    """The result in the units of the file."""
    simulator = distance.simulator
    values = distance.from_unit_cube(fit.unit_point)
    parameters = []
    for j, (path, ends) in enumerate(zip(simulator.parameter_paths, intervals, strict=True)):
        low, high = (_value_at(distance, fit, j, end) for end in ends)
        low, high = min(low, values[j]), max(high, values[j])
        searched = (float(simulator.ranges[j, 0]), float(simulator.ranges[j, 1]))
        opened = (ends.low <= 0.0, ends.high >= 1.0)
        parameters.append(
            FittedParameter(path, float(values[j]), float(low), float(high), searched, *opened)
        )
    targets = _target_fits(loaded, distance, fit, held_out)
    freedom = len(distance.fitted_targets) - distance.num_parameters
    probability = float(scipy.stats.chi2.sf(fit.objective, freedom)) if freedom else None
    result = CalibrationResult(
        scenario=loaded.scenario.name,
        parameters=tuple(parameters),
        targets=targets,
        correlation=_parameter_correlation(fit),
        distance=fit.objective,
        degrees_of_freedom=freedom,
        p_value=probability,
        condition_number=condition_number(fit),
        converged=fit.converged,
        warnings=(),
        replicates=simulator.replicates,
        seed=simulator.seed,
        num_evaluations=0,
        seconds=0.0,
    )
    return dataclasses.replace(
        result, warnings=tuple(fit_warnings.calibration_warnings(result, distance, fit))
    )


def _value_at(
    distance: MomentDistance, fit: CalibrationFit, parameter_index: int, coordinate: float
) -> float:
    """The value of one parameter at a place in the unit cube."""
    unit = fit.unit_point.copy()
    unit[parameter_index] = coordinate
    return float(distance.from_unit_cube(unit)[parameter_index])


def _target_fits(
    loaded: LoadedScenario, distance: MomentDistance, fit: CalibrationFit, held_out: np.ndarray
) -> tuple[TargetFit, ...]:
    """Every target with what is simulated there."""
    simulator = distance.simulator
    figures = simulator.moments_at(distance.from_unit_cube(fit.unit_point))
    total = figures.total_covariance
    # A held-out figure's error holds what the fitted parameters carry over from their targets.
    slopes = distance.moment_jacobian(fit.unit_point, central=True, targets=range(len(held_out)))
    free = (fit.unit_point > 0.0) & (fit.unit_point < 1.0)
    carried = np.zeros((len(held_out), len(held_out)))
    inverse = np.linalg.pinv(fit.jacobian[:, free], rcond=1e-8) @ distance.whitening
    carried[:, distance.fitted_targets] = slopes[:, free] @ inverse
    left = np.eye(len(held_out)) - carried
    predicted = np.sqrt(np.maximum(np.diag(left @ total @ left.T), 0.0))
    error = np.where(held_out, predicted, np.sqrt(np.diag(total)))
    calibration = loaded.scenario.calibration
    assert calibration is not None
    met = []
    for i, target in enumerate(calibration.targets):
        look = next(iter(simulator.contrasts[i]))
        off = float(target.value - figures.mean[i])
        met.append(
            TargetFit(
                statement=target.statement,
                metric=target.metric,
                arm=look.arm,
                compare_to=target.compare_to,
                at_round=look.at_round,
                source=target.source,
                value=target.value,
                standard_error=float(np.sqrt(figures.study_covariance[i, i])),
                simulated=float(figures.mean[i]),
                simulation_standard_error=float(np.sqrt(figures.simulation_covariance[i, i])),
                z=off / float(error[i]) if error[i] > 0 else float(np.sign(off) * np.inf),
                usage="predicted" if held_out[i] else "fitted",
            )
        )
    return tuple(met)


def _parameter_correlation(fit: CalibrationFit) -> tuple[tuple[float, ...], ...]:
    covariance = np.linalg.pinv(fit.jacobian.T @ fit.jacobian, rcond=1e-12, hermitian=True)
    sizes = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = covariance / np.outer(sizes, sizes)
    return tuple(tuple(float(number) for number in row) for row in correlation)
