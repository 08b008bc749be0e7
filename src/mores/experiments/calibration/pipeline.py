"""Calibration of a scenario: search, intervals, result."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import scipy.stats
from jaxtyping import Bool, Float

from mores.core.arguments import check_path
from mores.core.errors import UserError, did_you_mean
from mores.core.threads import single_threaded
from mores.experiments.calibration.fit_warnings import calibration_warnings
from mores.experiments.calibration.minimization import (
    CalibrationFit,
    initial_points,
    minimize_distance,
    refine_fit,
)
from mores.experiments.calibration.moment_distance import MomentDistance
from mores.experiments.calibration.output import make_output_folder, write_calibration
from mores.experiments.calibration.profile_intervals import BetterFitFound, interval_end
from mores.experiments.calibration.result import CalibrationResult, FittedParameter, TargetFit
from mores.experiments.calibration.simulated_moments import SECTION, MomentSimulator
from mores.experiments.progress import ProgressDisplay
from mores.experiments.run.dry_run import check_scenario
from mores.experiments.scenario.loading import LoadedScenario, check_loaded
from mores.experiments.scenario.source_locations import ScenarioError, printable

MIN_REPLICATES = 8  # for the covariance of the moments
PROGRESS_DELAY = 2.0  # seconds before progress is displayed
MAX_RESTARTS = 3  # after an interval search found a better fit


def calibrate(
    loaded: LoadedScenario,
    out: str | Path | None = None,
    hold_out: Sequence[str] = (),
    seed: int | None = None,
    progress: bool = True,
    simulator: MomentSimulator | None = None,
) -> CalibrationResult:
    """Fit of the parameters in a scenario's section `calibration` to the targets there.

    Args:
        loaded: the scenario, from `mores.load_scenario`.
        out: output folder, new or empty: `calibration.json`, `calibration.png` and
            `calibrated.yaml`, the scenario with the fitted values. None: nothing is written.
        hold_out: targets to predict instead of fitting them, by metric or by statement.
        seed: seed of all random numbers; None: the scenario's.
        progress: display progress after two seconds.
        simulator: shared between calibrations of scenarios that differ in the target values only,
            to reuse simulated points.

    Raises:
        UserError: no section `calibration`; an unknown path, metric or target; too few targets or
            replicates; a moment that is not finite; a parameter without effect on the fitted
            moments; an output folder that is not writable.
    """
    start_time = time.monotonic()
    check_loaded(loaded)
    out = None if out is None else check_path("out", out)
    check_scenario(loaded)
    held = _held_out_mask(loaded, hold_out)
    simulator = simulator or MomentSimulator(loaded, seed)
    calibration = loaded.scenario.calibration
    assert calibration is not None
    target_values = np.array([target.value for target in calibration.targets])
    folder = None if out is None else make_output_folder(out)
    distance = MomentDistance(simulator, np.flatnonzero(~held).tolist(), target_values)
    evaluations_before = simulator.num_evaluations
    name, step = loaded.scenario.name, ""
    with single_threaded(), ProgressDisplay(name, None, progress, PROGRESS_DELAY) as display:

        def show_progress(next_step: str = "") -> None:
            nonlocal step
            step = next_step or step
            points = simulator.num_evaluations - evaluations_before
            display.update(f"{step}, {points} points simulated", important=bool(next_step))

        simulator.on_evaluation = show_progress
        try:
            fit, intervals = _search(distance, show_progress)
            result = _make_result(loaded, distance, fit, intervals, held)
        finally:
            simulator.on_evaluation = lambda: None
    result = dataclasses.replace(
        result,
        warnings=tuple(calibration_warnings(result, distance, fit)),
        num_evaluations=simulator.num_evaluations - evaluations_before,
        seconds=round(time.monotonic() - start_time, 2),
        folder=folder,
    )
    if folder is not None:
        write_calibration(folder, loaded, result)
    return result


def _search(
    distance: MomentDistance, set_status: Callable[[str], None]
) -> tuple[CalibrationFit, Float[np.ndarray, "parameter 2"]]:
    """Fit with the interval of every parameter in the unit cube."""
    set_status("initial points")
    points = initial_points(distance.num_parameters, distance.simulator.seed)
    for point in points:
        distance.moments(point)
    set_status("fitting")
    fit = minimize_distance(distance, points)
    _reject_flat_parameters(distance, fit)
    parameters = range(distance.num_parameters)
    for _ in range(MAX_RESTARTS + 1):
        set_status("intervals")
        try:
            ends = [[interval_end(distance, fit, j, end) for end in (0, 1)] for j in parameters]
            return fit, np.array(ends)
        except BetterFitFound as error:
            fit = refine_fit(distance, error.unit_point)
    return dataclasses.replace(fit, converged=False), np.array([[0.0, 1.0] for _ in parameters])


def _reject_flat_parameters(distance: MomentDistance, fit: CalibrationFit) -> None:
    """Reject parameters without effect on the fitted moments anywhere in their ranges."""
    simulator, problems = distance.simulator, []
    for j in np.flatnonzero((fit.jacobian**2).sum(0) <= 1e-12):
        low, high = fit.unit_point.copy(), fit.unit_point.copy()
        low[j], high[j] = 0.0, 1.0
        if np.array_equal(distance.residual(low), distance.residual(high)):
            path = (SECTION, "parameters", simulator.parameter_paths[j])
            message = "no effect on the fitted moments: remove it, or add a target it affects"
            source_map = simulator.loaded.source_map
            problems.append(source_map.problem(message, *path, code="conflict", at_key=True))
    if problems:
        raise ScenarioError(problems)


def _held_out_mask(loaded: LoadedScenario, hold_out: Sequence[str]) -> Bool[np.ndarray, " target"]:
    """Mask of held-out targets, by the file and by name, after checks of the scenario."""
    scenario, source_map = loaded.scenario, loaded.source_map
    calibration = scenario.calibration

    def refusal(message: str, path: str, code: str = "conflict") -> ScenarioError:
        at_key = path == SECTION
        return ScenarioError([source_map.problem(message, path, code=code, at_key=at_key)])

    if calibration is None:
        message = f"{source_map.source}: no section {SECTION} with parameters and targets"
        raise UserError(message, code="missing", path=SECTION)
    if scenario.sweep:
        raise refusal("calibration and sweep exclude each other: remove one of them", SECTION)
    if scenario.replicates < MIN_REPLICATES:
        message = f"calibration needs at least {MIN_REPLICATES}, not {scenario.replicates}"
        raise refusal(message, "replicates", "out_of_range")
    held = np.array([target.held_out for target in calibration.targets])
    for name in hold_out:
        matches = np.array([name in (t.metric, t.statement) for t in calibration.targets])
        if not matches.any():
            suggestion = did_you_mean(name, dict.fromkeys(t.metric for t in calibration.targets))
            message = f"--hold-out: no target named {printable(name)}{suggestion}"
            raise UserError(message, code="unknown_name", path="hold_out")
        held |= matches
    num_fitted, num_parameters = int((~held).sum()), len(calibration.parameters)
    if num_fitted < num_parameters:
        message = f"{num_fitted} fitted targets are too few for {num_parameters} parameters"
        raise refusal(message, SECTION)
    return held


def _make_result(
    loaded: LoadedScenario,
    distance: MomentDistance,
    fit: CalibrationFit,
    intervals: Float[np.ndarray, "parameter 2"],
    held_out: Bool[np.ndarray, " target"],
) -> CalibrationResult:
    """Result in the units of the file, without warnings."""
    simulator = distance.simulator
    values = distance.from_unit_cube(fit.unit_point)
    low = np.minimum(distance.from_unit_cube(intervals[:, 0]), values)
    high = np.maximum(distance.from_unit_cube(intervals[:, 1]), values)
    parameters = []
    for j, path in enumerate(simulator.parameter_paths):
        first, last = simulator.ranges[j].tolist()
        at_bound = bool(intervals[j, 0] <= 0.0), bool(intervals[j, 1] >= 1.0)
        estimate = float(values[j]), float(low[j]), float(high[j])
        parameters.append(FittedParameter(path, *estimate, (first, last), *at_bound))
    dof = len(distance.fitted_targets) - distance.num_parameters
    covariance = np.linalg.pinv(fit.jacobian.T @ fit.jacobian, rcond=1e-12, hermitian=True)
    errors = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = covariance / np.outer(errors, errors)
    is_identified = np.linalg.matrix_rank(fit.jacobian, rtol=1e-12) == len(values)
    return CalibrationResult(
        scenario=loaded.scenario.name,
        parameters=tuple(parameters),
        targets=_target_fits(distance, fit, held_out),
        correlation=tuple(map(tuple, correlation.tolist())),
        distance=fit.objective,
        degrees_of_freedom=dof,
        p_value=float(scipy.stats.chi2.sf(fit.objective, dof)) if dof else None,
        condition_number=float(np.linalg.cond(fit.jacobian)) if is_identified else float("inf"),
        converged=fit.converged,
        warnings=(),
        replicates=simulator.replicates,
        seed=simulator.seed,
        num_evaluations=0,
        seconds=0.0,
    )


def _target_fits(
    distance: MomentDistance, fit: CalibrationFit, held_out: Bool[np.ndarray, " target"]
) -> tuple[TargetFit, ...]:
    """Targets with their simulated moments at the fit."""
    simulator = distance.simulator
    moments = simulator.moments_at(distance.from_unit_cube(fit.unit_point))
    total = moments.total_covariance
    # Errors of fitted targets enter a held-out target's error through the fitted parameters.
    jacobian = distance.moment_jacobian(fit.unit_point, central=True, targets=range(len(held_out)))
    interior = (fit.unit_point > 0.0) & (fit.unit_point < 1.0)
    inverse = np.linalg.pinv(fit.jacobian[:, interior], rcond=1e-8) @ distance.whitening
    residual_map = np.eye(len(held_out))
    residual_map[:, distance.fitted_targets] -= jacobian[:, interior] @ inverse
    prediction_error = np.sqrt(np.maximum(np.diag(residual_map @ total @ residual_map.T), 0.0))
    error = np.where(held_out, prediction_error, np.sqrt(np.diag(total)))
    difference = distance.target_values - moments.mean
    with np.errstate(divide="ignore", invalid="ignore"):
        z = difference / error
    return tuple(
        TargetFit(
            statement=target.statement,
            metric=target.metric,
            arm=next(iter(simulator.contrasts[i])),
            compare_to=target.compare_to,
            at_round=simulator.rounds[i],
            source=target.source,
            value=float(distance.target_values[i]),
            standard_error=float(np.sqrt(moments.study_covariance[i, i])),
            simulated=float(moments.mean[i]),
            simulation_standard_error=float(np.sqrt(moments.simulation_covariance[i, i])),
            z=float(z[i]),
            usage="predicted" if held_out[i] else "fitted",
        )
        for i, target in enumerate(simulator.targets)
    )
