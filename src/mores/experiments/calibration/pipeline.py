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
from mores.experiments.calibration.minimization import Fit, first_points, fit, settled
from mores.experiments.calibration.moment_distance import Distance
from mores.experiments.calibration.output import new_folder, write
from mores.experiments.calibration.profile_intervals import (
    Better,
    Interval,
    condition_number,
    interval,
)
from mores.experiments.calibration.progress_bar import Progress
from mores.experiments.calibration.result import Calibrated, Met, Parameter
from mores.experiments.calibration.simulated_moments import SECTION, Simulator
from mores.experiments.run.dry_run import check
from mores.experiments.run.scheduling import one_thread
from mores.experiments.scenario.loading import Loaded
from mores.experiments.scenario.source_locations import Problem, ScenarioError, problem_at, shown

FEWEST_REPLICATES = 8  # to say how figures vary
MOST_RESTARTS = 3  # where an interval came upon a better fit


def calibrate(
    loaded: Loaded,
    out: Path | None = None,
    hold_out: Sequence[str] = (),
    seed: int | None = None,
    progress: bool = True,
    simulator: Simulator | None = None,
) -> Calibrated:
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
    check(loaded)
    held = _held_out(loaded, hold_out)
    if simulator is None:
        simulator = Simulator(loaded, seed)
    calibration = loaded.scenario.calibration
    assert calibration is not None
    wanted = np.array([target.value for target in calibration.targets])
    folder = None if out is None else new_folder(out)
    distance = Distance(simulator, np.flatnonzero(~held).tolist(), wanted)
    before = simulator.played
    points = first_points(distance.size, simulator.seed)
    with one_thread(), Progress(loaded.scenario.name, progress) as bar:
        simulator.tick = bar.played
        try:
            found, ends = _search(distance, points, bar.stage)
            result = _told(loaded, distance, found, ends, held)
        finally:
            simulator.tick = lambda: None
    result = dataclasses.replace(
        result,
        points=simulator.played - before,
        seconds=round(time.monotonic() - began, 2),
        folder=folder,
    )
    if folder is not None:
        write(folder, loaded, result)
    return result


class _Found(NamedTuple):
    """Where the search ended, and the interval of every parameter in the unit cube."""

    fit: Fit
    intervals: list[Interval]


def _search(
    distance: Distance,
    points: Float[np.ndarray, "point parameter"],
    stage: Callable[[str], None],
) -> _Found:
    stage("looking for a beginning")
    for point in points:
        distance.figures(point)
    stage("fitting")
    found = fit(distance, points)
    _refuse_flat(distance, found)
    for _ in range(MOST_RESTARTS + 1):
        stage("intervals")
        try:
            ends = [
                Interval(interval(distance, found, j, 0), interval(distance, found, j, 1))
                for j in range(distance.size)
            ]
            return _Found(found, ends)
        except Better as better:
            found = settled(distance, better.unit)
    found = dataclasses.replace(found, converged=False)
    return _Found(found, [Interval(0.0, 1.0)] * distance.size)


def _refuse_flat(distance: Distance, found: Fit) -> None:
    """Refuse parameters on which no fitted figure depends, wherever in its range it is."""
    problems = []
    for j in np.flatnonzero((found.jacobian**2).sum(0) <= 1e-12):
        low, high = found.unit.copy(), found.unit.copy()
        low[j], high[j] = 0.0, 1.0
        if np.array_equal(distance.residual(low), distance.residual(high)):
            path = distance.simulator.paths[j]
            stands = (SECTION, "parameters", path)
            place = distance.simulator.loaded.places.key(stands)
            message = "no fitted figure depends on it: leave it out, or fit a figure that does"
            problems.append(Problem(place, stands, message, "conflict"))
    if problems:
        raise ScenarioError(problems)


def _held_out(loaded: Loaded, names: Sequence[str]) -> np.ndarray:
    """Which targets are held out, by the file and by name; what can be said before playing."""
    scenario, places = loaded.scenario, loaded.places
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
        raise ScenarioError([Problem(places.key((SECTION,)), (SECTION,), message, "conflict")])
    if scenario.replicates < FEWEST_REPLICATES:
        message = (
            f"calibration needs at least {FEWEST_REPLICATES} replicates to see how figures vary, "
            f"not {scenario.replicates}"
        )
        raise ScenarioError([problem_at(places, message, "replicates", code="out_of_range")])
    held = np.array([target.held_out for target in calibration.targets])
    for name in names:
        meant = np.array([name in (t.measure, t.says) for t in calibration.targets])
        if not meant.any():
            known = dict.fromkeys(t.measure for t in calibration.targets)
            near = did_you_mean(name, known)
            message = f"--hold-out {shown(name)}: there is no such target{near}"
            raise UserError(message, code="unknown_name", path="hold_out")
        held |= meant
    fitted, needed = int((~held).sum()), len(calibration.parameters)
    if fitted < needed:
        message = f"{fitted} figures to fit are too few for {needed} parameters"
        raise ScenarioError([Problem(places.key((SECTION,)), (SECTION,), message, "conflict")])
    return held


def _told(
    loaded: Loaded, distance: Distance, found: Fit, intervals: list[Interval], held: np.ndarray
) -> Calibrated:
    """The result in the units of the file."""
    simulator = distance.simulator
    values = distance.values(found.unit)
    parameters = []
    for j, (path, ends) in enumerate(zip(simulator.paths, intervals, strict=True)):
        low, high = (_moved(distance, found, j, end) for end in ends)
        low, high = min(low, values[j]), max(high, values[j])
        searched = (float(simulator.ranges[j, 0]), float(simulator.ranges[j, 1]))
        opened = (ends.low <= 0.0, ends.high >= 1.0)
        parameters.append(
            Parameter(path, float(values[j]), float(low), float(high), searched, *opened)
        )
    targets = _met(loaded, distance, found, held)
    freedom = len(distance.fitted) - distance.size
    probability = float(scipy.stats.chi2.sf(found.objective, freedom)) if freedom else None
    result = Calibrated(
        scenario=loaded.scenario.name,
        parameters=tuple(parameters),
        targets=targets,
        correlation=_correlation(found),
        distance=found.objective,
        freedom=freedom,
        probability=probability,
        condition=condition_number(found),
        converged=found.converged,
        remarks=(),
        replicates=simulator.replicates,
        seed=simulator.seed,
        points=0,
        seconds=0.0,
    )
    return dataclasses.replace(result, remarks=tuple(fit_warnings.remarks(result, distance, found)))


def _moved(distance: Distance, found: Fit, parameter: int, to: float) -> float:
    """The value of one parameter at a place in the unit cube."""
    unit = found.unit.copy()
    unit[parameter] = to
    return float(distance.values(unit)[parameter])


def _met(loaded: Loaded, distance: Distance, found: Fit, held: np.ndarray) -> tuple[Met, ...]:
    """Every target with what is simulated there."""
    simulator = distance.simulator
    figures = simulator.at(distance.values(found.unit))
    total = figures.total
    # A held-out figure's error holds what the fitted parameters carry over from their targets.
    slopes = distance.slopes(found.unit, central=True, targets=range(len(held)))
    free = (found.unit > 0.0) & (found.unit < 1.0)
    carried = np.zeros((len(held), len(held)))
    inverse = np.linalg.pinv(found.jacobian[:, free], rcond=1e-8) @ distance.whitening
    carried[:, distance.fitted] = slopes[:, free] @ inverse
    left = np.eye(len(held)) - carried
    predicted = np.sqrt(np.maximum(np.diag(left @ total @ left.T), 0.0))
    error = np.where(held, predicted, np.sqrt(np.diag(total)))
    calibration = loaded.scenario.calibration
    assert calibration is not None
    met = []
    for i, target in enumerate(calibration.targets):
        look = next(iter(simulator.looks[i]))
        off = float(target.value - figures.mean[i])
        met.append(
            Met(
                says=target.says,
                measure=target.measure,
                arm=look.arm,
                against=target.against,
                at=look.at,
                source=target.source,
                value=target.value,
                error=float(np.sqrt(figures.study[i, i])),
                simulated=float(figures.mean[i]),
                simulation_error=float(np.sqrt(figures.chance[i, i])),
                z=off / float(error[i]) if error[i] > 0 else float(np.sign(off) * np.inf),
                role="predicted" if held[i] else "fitted",
            )
        )
    return tuple(met)


def _correlation(found: Fit) -> tuple[tuple[float, ...], ...]:
    covariance = np.linalg.pinv(found.jacobian.T @ found.jacobian, rcond=1e-12, hermitian=True)
    sizes = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = covariance / np.outer(sizes, sizes)
    return tuple(tuple(float(number) for number in row) for row in correlation)
