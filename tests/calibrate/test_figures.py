"""Figures at a point, and how they vary."""

from __future__ import annotations

import numpy as np
import pytest

from mores.envs.opinion.coevolution import Coevolution
from mores.experiments.calibration.moment_distance import MomentDistance
from mores.experiments.calibration.simulated_moments import MomentSimulator
from mores.sim.simulation import simulate
from tests.calibrate.conftest import EXPERIMENT, WALKERS


def test_figures_are_those_of_a_plain_play(described):
    simulator = MomentSimulator(described(WALKERS))
    found = simulator.moments_at(np.array([1.5, 0.4]))
    game = Coevolution(
        num_people=60, num_values=1, num_assistants=0, initial_std=1.5, noise_std=0.4
    )
    from mores.agents.people.normal import NormalPopulation

    normal = NormalPopulation(people=60, std=1.5)
    played = (
        simulate(game, {}, 32, 3, 0, ["spread"], population=normal)
        .metrics["spread"]
        .double()
        .numpy()
    )
    assert found.mean == pytest.approx(played[:, [0, 1, 3]].mean(0), abs=1e-12)
    assert found.study_covariance == pytest.approx(np.cov(played[:, [0, 1, 3]].T), rel=1e-9)
    assert found.simulation_covariance == pytest.approx(found.study_covariance / 32, rel=1e-9)


def test_the_same_draws_at_every_point_and_nothing_played_twice(described):
    simulator = MomentSimulator(described(WALKERS))
    ends = [simulator.moments_at(np.array([1.0, noise])).mean for noise in (0.3, 0.300001, 0.3)]
    assert simulator.num_evaluations == 2
    assert ends[0][0] == ends[1][0] == ends[2][0]  # round 0 knows nothing of the noise
    assert 0 < abs(ends[1][2] - ends[0][2]) < 1e-5


def test_arms_are_different_people_in_a_study_and_the_same_in_simulation(described):
    simulator = MomentSimulator(described(EXPERIMENT), replicates=400)
    found = simulator.moments_at(np.array([0.1]))
    # the centre of 60 people, after two rounds of noise, varies by this where nobody persuades;
    # a persuader who says the same to all takes off 19 % of the differences between centres
    single = (1.0 + 2 * 0.2**2) / 60
    assert found.study_covariance[0, 0] == pytest.approx((1 + 0.81**2) * single, rel=0.2)
    assert found.simulation_covariance[0, 0] * 400 < 0.1 * found.study_covariance[0, 0]
    assert found.study_covariance[1, 1] == pytest.approx(0.1**2)  # as stated
    assert found.study_covariance[0, 1] == 0.0  # another source: other people


def test_arms_that_only_other_targets_look_at_are_not_played(described, monkeypatch):
    import mores.experiments.calibration.simulated_moments as figures

    played = []

    def noted(cell, *rest):
        played.append(cell.arm)
        return original(cell, *rest)

    original = figures.run_cell
    monkeypatch.setattr(figures, "run_cell", noted)
    simulator = MomentSimulator(described(EXPERIMENT))
    found = simulator.moments_at(np.array([0.1]), [1])
    assert played == ["twin"]
    assert np.isnan(found.mean[0]) and np.isfinite(found.mean[1])


def test_the_unit_cube_and_back(described):
    distance = MomentDistance(MomentSimulator(described(WALKERS)), [0, 1, 2], np.ones(3))
    corners = np.array([distance.from_unit_cube(np.full(2, end)) for end in (0.0, 1.0)])
    assert corners.tolist() == [[0.2, 0.02], [3.0, 1.0]]  # exactly: limits may be closed
    for unit in np.random.default_rng(0).random((20, 2)):
        assert distance.to_unit_cube(distance.from_unit_cube(unit)) == pytest.approx(
            unit, abs=1e-12
        )
    assert distance.from_unit_cube(np.array([0.5, 0.5]))[1] == pytest.approx(
        np.sqrt(0.02)
    )  # logarithmic


def test_the_distance_is_the_quadratic_form_of_its_covariance(described):
    simulator = MomentSimulator(described(WALKERS))
    distance = MomentDistance(simulator, [0, 1, 2], np.array([1.0, 1.1, 1.2]))
    unit = np.array([0.4, 0.6])
    distance.set_weights(unit)
    found = simulator.moments_at(distance.from_unit_cube(unit))
    total = (
        (found.study_covariance + found.simulation_covariance) * 31 / (32 - 3 - 2)
    )  # Hartlap's correction
    off = found.mean - distance.target_values
    assert distance(unit) == pytest.approx(off @ np.linalg.solve(total, off), rel=1e-6)
