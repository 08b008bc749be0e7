"""Simulated moments, their covariances, and the distance from targets."""

from __future__ import annotations

import numpy as np
import pytest

from mores.agents.people.normal import NormalPopulation
from mores.envs.opinion.coevolution import Coevolution
from mores.experiments.calibration import simulated_moments
from mores.experiments.calibration.moment_distance import MomentDistance
from mores.experiments.calibration.simulated_moments import MomentSimulator
from mores.sim.simulation import simulate
from tests.calibration.conftest import EXPERIMENT, RANDOM_WALK


def test_moments_equal_those_of_a_plain_simulation(load_text):
    simulator = MomentSimulator(load_text(RANDOM_WALK))
    moments = simulator.moments_at(np.array([1.5, 0.4]))
    environment = Coevolution(
        human="idealised",
        num_people=60,
        num_values=1,
        num_assistants=0,
        initial_std=1.5,
        noise_std=0.4,
    )
    population = NormalPopulation(num_people=60, std=1.5)
    result = simulate(environment, {}, 32, 3, 0, ["rms_distance"], population=population)
    values = result.metrics["rms_distance"].values.astype(float)
    assert moments.mean == pytest.approx(values[:, [0, 1, 3]].mean(0), abs=1e-12)
    assert moments.study_covariance == pytest.approx(np.cov(values[:, [0, 1, 3]].T), rel=1e-9)
    assert moments.simulation_covariance == pytest.approx(moments.study_covariance / 32, rel=1e-9)


def test_points_share_random_numbers_and_are_cached(load_text):
    simulator = MomentSimulator(load_text(RANDOM_WALK))
    means = [simulator.moments_at(np.array([1.0, noise])).mean for noise in (0.3, 0.300001, 0.3)]
    assert simulator.num_evaluations == 2
    assert means[0][0] == means[1][0] == means[2][0]  # noise acts after round 0
    assert 0 < abs(means[1][2] - means[0][2]) < 1e-5


def test_arms_are_independent_in_a_study_and_paired_in_simulation(load_text):
    simulator = MomentSimulator(load_text(EXPERIMENT), replicates=400)
    moments = simulator.moments_at(np.array([0.1]))
    # variance of the mean of 60 people after two rounds of noise, in the control; a persuader with
    # the same message for all reduces differences between means by 19 %
    variance = (1.0 + 2 * 0.2**2) / 60
    assert moments.study_covariance[0, 0] == pytest.approx((1 + 0.81**2) * variance, rel=0.2)
    assert moments.simulation_covariance[0, 0] * 400 < 0.1 * moments.study_covariance[0, 0]
    assert moments.study_covariance[1, 1] == pytest.approx(0.1**2)  # stated
    assert moments.study_covariance[0, 1] == 0.0  # independent sources


def test_only_required_arms_are_simulated(load_text, monkeypatch):
    arms = []

    def record(cell, *arguments):
        arms.append(cell.arm)
        return original(cell, *arguments)

    original = simulated_moments.run_cell
    monkeypatch.setattr(simulated_moments, "run_cell", record)
    simulator = MomentSimulator(load_text(EXPERIMENT))
    moments = simulator.moments_at(np.array([0.1]), [1])
    assert arms == ["twin"]
    assert np.isnan(moments.mean[0]) and np.isfinite(moments.mean[1])


def test_unit_cube_conversion(load_text):
    distance = MomentDistance(MomentSimulator(load_text(RANDOM_WALK)), [0, 1, 2], np.ones(3))
    corners = np.array([distance.from_unit_cube(np.full(2, end)) for end in (0.0, 1.0)])
    assert corners.tolist() == [[0.2, 0.02], [3.0, 1.0]]  # exact: limits may be closed
    for point in np.random.default_rng(0).random((20, 2)):
        again = distance.to_unit_cube(distance.from_unit_cube(point))
        assert again == pytest.approx(point, abs=1e-12)
    center = distance.from_unit_cube(np.array([0.5, 0.5]))
    assert center[1] == pytest.approx(np.sqrt(0.02))  # log scale


def test_distance_is_a_quadratic_form(load_text):
    simulator = MomentSimulator(load_text(RANDOM_WALK))
    distance = MomentDistance(simulator, [0, 1, 2], np.array([1.0, 1.1, 1.2]))
    unit_point = np.array([0.4, 0.6])
    distance.whitening = distance.whitening_at(unit_point)
    moments = simulator.moments_at(distance.from_unit_cube(unit_point))
    total = moments.study_covariance + moments.simulation_covariance
    corrected = total * 31 / (32 - 3 - 2)  # Hartlap's correction
    difference = moments.mean - distance.target_values
    expected = difference @ np.linalg.solve(corrected, difference)
    assert distance(unit_point) == pytest.approx(expected, rel=1e-6)
