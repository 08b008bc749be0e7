"""Figures at a point, and how they vary."""

from __future__ import annotations

import numpy as np
import pytest

from mores.envs.opinion.coevolution import Coevolution
from mores.experiments.calibration.moment_distance import Distance
from mores.experiments.calibration.simulated_moments import Simulator
from mores.sim.simulation import play
from tests.calibrate.conftest import EXPERIMENT, WALKERS


def test_figures_are_those_of_a_plain_play(described):
    simulator = Simulator(described(WALKERS))
    found = simulator.at(np.array([1.5, 0.4]))
    game = Coevolution(people=60, values=1, assistants=0, spread=1.5, noise=0.4)
    from mores.agents.people.normal import Normal

    normal = Normal(people=60, spread=1.5)
    played = play(game, {}, 32, 3, 0, ["spread"], people=normal).measures["spread"].double().numpy()
    assert found.mean == pytest.approx(played[:, [0, 1, 3]].mean(0), abs=1e-12)
    assert found.study == pytest.approx(np.cov(played[:, [0, 1, 3]].T), rel=1e-9)
    assert found.chance == pytest.approx(found.study / 32, rel=1e-9)


def test_the_same_draws_at_every_point_and_nothing_played_twice(described):
    simulator = Simulator(described(WALKERS))
    ends = [simulator.at(np.array([1.0, noise])).mean for noise in (0.3, 0.300001, 0.3)]
    assert simulator.played == 2
    assert ends[0][0] == ends[1][0] == ends[2][0]  # round 0 knows nothing of the noise
    assert 0 < abs(ends[1][2] - ends[0][2]) < 1e-5


def test_arms_are_different_people_in_a_study_and_the_same_in_simulation(described):
    simulator = Simulator(described(EXPERIMENT), replicates=400)
    found = simulator.at(np.array([0.1]))
    # the centre of 60 people, after two rounds of noise, varies by this where nobody persuades;
    # a persuader who says the same to all takes off 19 % of the differences between centres
    single = (1.0 + 2 * 0.2**2) / 60
    assert found.study[0, 0] == pytest.approx((1 + 0.81**2) * single, rel=0.2)
    assert found.chance[0, 0] * 400 < 0.1 * found.study[0, 0]
    assert found.study[1, 1] == pytest.approx(0.1**2)  # as stated
    assert found.study[0, 1] == 0.0  # another source: other people


def test_arms_that_only_other_targets_look_at_are_not_played(described, monkeypatch):
    import mores.experiments.calibration.simulated_moments as figures

    played = []

    def noted(cell, *rest):
        played.append(cell.arm)
        return original(cell, *rest)

    original = figures.play_cell
    monkeypatch.setattr(figures, "play_cell", noted)
    simulator = Simulator(described(EXPERIMENT))
    found = simulator.at(np.array([0.1]), [1])
    assert played == ["twin"]
    assert np.isnan(found.mean[0]) and np.isfinite(found.mean[1])


def test_the_unit_cube_and_back(described):
    distance = Distance(Simulator(described(WALKERS)), [0, 1, 2], np.ones(3))
    corners = np.array([distance.values(np.full(2, end)) for end in (0.0, 1.0)])
    assert corners.tolist() == [[0.2, 0.02], [3.0, 1.0]]  # exactly: limits may be closed
    for unit in np.random.default_rng(0).random((20, 2)):
        assert distance.unit(distance.values(unit)) == pytest.approx(unit, abs=1e-12)
    assert distance.values(np.array([0.5, 0.5]))[1] == pytest.approx(np.sqrt(0.02))  # logarithmic


def test_the_distance_is_the_quadratic_form_of_its_covariance(described):
    simulator = Simulator(described(WALKERS))
    distance = Distance(simulator, [0, 1, 2], np.array([1.0, 1.1, 1.2]))
    unit = np.array([0.4, 0.6])
    distance.weigh(unit)
    found = simulator.at(distance.values(unit))
    total = (found.study + found.chance) * 31 / (32 - 3 - 2)  # Hartlap's correction
    off = found.mean - distance.wanted
    assert distance(unit) == pytest.approx(off @ np.linalg.solve(total, off), rel=1e-6)
