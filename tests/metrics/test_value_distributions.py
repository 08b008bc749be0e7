"""Metrics of value distributions against closed forms, scipy and published values."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import scipy.spatial
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mores.metrics import value_distributions as d
from tests.refusals import refused

LINES = arrays(np.float64, st.integers(1, 12), elements=st.integers(-9, 9).map(float))
SHARES = arrays(np.float64, st.integers(1, 9), elements=st.floats(0.0, 1.0)).filter(
    lambda p: p.sum() > 0.01
)


def sample(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


# --- distances between two clouds ---------------------------------------------------------------


@given(LINES, LINES)
def test_wasserstein_1d_equals_scipy(x: np.ndarray, y: np.ndarray) -> None:
    expected = scipy.stats.wasserstein_distance(x, y)
    assert d.wasserstein_1d(x, y) == pytest.approx(expected, abs=1e-12)
    assert d.wasserstein_1d(y, x) == pytest.approx(expected, abs=1e-12)
    assert d.wasserstein_1d(x, x) == 0.0


def test_second_wasserstein_is_the_optimal_assignment() -> None:
    x, y = sample(1, 2, 9)
    cost = (x[:, None] - y) ** 2
    best = cost[scipy.optimize.linear_sum_assignment(cost)].mean()
    assert d.wasserstein_1d(x, y, 2.0) == pytest.approx(np.sqrt(best))


def test_wasserstein_keeps_leading_dimensions() -> None:
    x, y = sample(2, 2, 3, 7), sample(3, 2, 3, 4)
    result = d.wasserstein_1d(x, y)
    assert result.shape == (2, 3)
    assert result[1, 2] == pytest.approx(scipy.stats.wasserstein_distance(x[1, 2], y[1, 2]))


def test_sliced_wasserstein() -> None:
    x, y = sample(4, 40), sample(5, 30)
    assert d.sliced_wasserstein_distance(x[:, None], y[:, None]) == pytest.approx(
        d.wasserstein_1d(x, y, 2.0)
    )
    # The projection of a shift s on a random direction has mean square s^2 / dimensions.
    cloud = sample(6, 50, 3)
    shift = np.array([2.0, -1.0, 2.0])
    result = d.sliced_wasserstein_distance(cloud + shift, cloud, num_projections=4000)
    assert result == pytest.approx(np.sqrt(9.0 / 3.0), rel=0.02)
    first, second = sample(7, 2, 5, 20, 2)
    pair = d.sliced_wasserstein_distance(first, second)
    assert pair.shape == (5,)
    assert pair[3] == pytest.approx(d.sliced_wasserstein_distance(first[3], second[3]))


def test_gaussian_wasserstein() -> None:
    narrow, wide = np.array([[0.25]]), np.array([[4.0]])
    squared = d.gaussian_wasserstein_squared(np.array([1.0]), narrow, np.array([3.0]), wide)
    assert squared == pytest.approx(2.0**2 + (0.5 - 2.0) ** 2)
    # For commuting covariances it is the distance of their roots.
    rotation, _ = np.linalg.qr(sample(8, 3, 3))
    a, b = np.array([1.0, 4.0, 9.0]), np.array([4.0, 0.0, 1.0])
    mean = np.zeros(3)
    squared = d.gaussian_wasserstein_squared(
        mean, (rotation * a) @ rotation.T, mean + 2.0, (rotation * b) @ rotation.T
    )
    assert squared == pytest.approx(12.0 + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum())


def test_gaussian_wasserstein_is_the_cost_of_the_optimal_map() -> None:
    """The optimal map x -> m + A x between two normals, applied to a sample."""
    factor_a, factor_b = sample(9, 2, 2, 2)
    a, b = factor_a @ factor_a.T, factor_b @ factor_b.T
    root_a = d._matrix_square_root(a)
    inverse = np.linalg.inv(root_a)
    map_matrix = inverse @ d._matrix_square_root(root_a @ b @ root_a) @ inverse
    x = sample(10, 200_000, 2) @ root_a
    cost = ((x - (x @ map_matrix.T + 1.0)) ** 2).sum(1)
    result = d.gaussian_wasserstein_squared(np.zeros(2), a, np.ones(2), b)
    assert result == pytest.approx(cost.mean(), abs=5 * cost.std() / np.sqrt(len(cost)))


def test_energy_distance() -> None:
    x, y = sample(11, 30), sample(12, 20) + 1.0
    expected = scipy.stats.energy_distance(x, y)
    assert d.energy_distance(x[:, None], y[:, None]) == pytest.approx(expected)
    a, b = sample(13, 15, 3), sample(14, 12, 3)
    pairs = scipy.spatial.distance.cdist
    squared = 2 * pairs(a, b).mean() - pairs(a, a).mean() - pairs(b, b).mean()
    assert d.energy_distance(a, b) == pytest.approx(np.sqrt(squared))
    assert d.energy_distance(a, a[::-1]) == pytest.approx(0.0, abs=1e-7)


def test_batched_distances_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = sample(15, 2, 13, 3), sample(16, 2, 7, 3)
    whole = d.energy_distance(x, y)
    monkeypatch.setattr(d, "MAX_PAIRWISE_DISTANCES", 100)
    assert d.energy_distance(x, y) == pytest.approx(whole)


# --- polarization -------------------------------------------------------------------------------


def test_bimodality_as_published() -> None:
    """Both examples of Pfister et al. 2013."""
    unimodal = np.repeat(np.arange(1.0, 12.0), [3, 5, 5, 10, 17, 20, 17, 10, 5, 5, 3])
    bimodal = np.repeat(np.arange(1.0, 12.0), [2, 26, 14, 6, 2, 0, 2, 6, 14, 26, 2])
    assert d.bimodality_coefficient(unimodal) == pytest.approx(0.34, abs=0.005)
    assert d.bimodality_coefficient(bimodal) == pytest.approx(0.79, abs=0.005)


def test_bimodality_of_known_distributions() -> None:
    points = (np.arange(100_000) + 0.5) / 100_000
    assert d.bimodality_coefficient(points) == pytest.approx(5.0 / 9.0, abs=1e-4)
    assert d.bimodality_coefficient(scipy.stats.norm.ppf(points)) == pytest.approx(
        1.0 / 3.0, abs=1e-3
    )
    assert d.bimodality_coefficient(np.repeat([-1.0, 1.0], 50_000)) == pytest.approx(1.0, abs=1e-4)
    x = sample(17, 3, 20) ** 3
    g = scipy.stats.skew(x, axis=1, bias=False)
    k = scipy.stats.kurtosis(x, axis=1, bias=False)
    assert d.bimodality_coefficient(x) == pytest.approx((g**2 + 1) / (k + 3 * 19**2 / (18 * 17)))
    assert np.isnan(d.bimodality_coefficient(np.ones(9)))
    with refused("wrong_shape", "x"):
        d.bimodality_coefficient(np.ones(3))


@pytest.mark.parametrize(("groups", "expected"), [(2, 0.16494), (3, 0.07663), (10, 0.00921)])
def test_polarization_decreases_with_groups(groups: int, expected: float) -> None:
    positions = np.linspace(0.0, 1.0, groups)
    result = d.esteban_ray_polarization(np.full(groups, 1.0 / groups), positions)
    assert result == pytest.approx(expected, abs=5e-6)


def test_polarization_is_independent_of_the_unit_of_counts() -> None:
    counts, positions = np.array([[30.0, 10.0, 60.0]]), np.array([[0.0, 1.0, 3.0]])
    expected = sum(
        (p / 100) ** 1.8 * (q / 100) * abs(x - y)
        for p, x in zip(counts[0], positions[0], strict=True)
        for q, y in zip(counts[0], positions[0], strict=True)
    )
    assert d.esteban_ray_polarization(counts, positions, 0.8) == pytest.approx([expected])
    with refused("out_of_range", "alpha"):
        d.esteban_ray_polarization(counts, positions, 1.7)


# --- diversity ----------------------------------------------------------------------------------


@given(SHARES, st.sampled_from([0.0, 0.5, 1.0, 2.0, np.inf]))
def test_hill_number_lies_between_one_and_the_number_of_groups(p: np.ndarray, order: float) -> None:
    result = float(d.hill_number(p, order))
    assert 1.0 - 1e-9 <= result <= (p > 0.0).sum() + 1e-9
    doubled = np.concatenate([p, p])  # twice as many equal groups
    assert d.hill_number(doubled, order) == pytest.approx(2.0 * result)


def test_hill_numbers_of_known_shares() -> None:
    p = np.array([0.5, 0.25, 0.25, 0.0])
    orders = (0.0, 1.0, 2.0, np.inf)
    result = [float(d.hill_number(p, order)) for order in orders]
    assert result == pytest.approx([3.0, np.exp(scipy.stats.entropy(p)), 1.0 / 0.375, 2.0])
    nearby = [float(d.hill_number(p, 1.0 + e)) for e in (-1e-6, 1e-6)]
    assert nearby == pytest.approx([result[1]] * 2, rel=1e-5)
    with refused("out_of_range", "order"):
        d.hill_number(p, -1.0)


def test_rao_quadratic_entropy() -> None:
    p, positions = np.array([0.2, 0.3, 0.5]), np.array([0.0, 1.0, 3.0])
    distances = np.abs(positions[:, None] - positions)
    expected = 2 * (0.06 * 1 + 0.1 * 3 + 0.15 * 2)
    assert d.rao_quadratic_entropy(p, distances) == pytest.approx(expected)
    # With distance 1 between all groups: Simpson's index, 1 - 1 / (Hill number of order 2).
    assert d.rao_quadratic_entropy(p, 1.0 - np.eye(3)) == pytest.approx(
        1.0 - 1.0 / d.hill_number(p, 2.0)
    )
    cloud = np.repeat(positions, [2, 3, 5])[:, None]
    assert d.rao_quadratic_entropy_of_points(cloud) == pytest.approx(
        d.rao_quadratic_entropy(p, distances)
    )


def test_bin_shares_count_every_agent_once() -> None:
    x = np.array([[-5.0, 0.0, 0.49, 0.5, 1.0, 7.0], [0.9, 0.9, 0.9, 0.1, 0.1, 0.5]])
    result = d.bin_shares(x, np.array([0.0, 0.5, 1.0]))
    assert result == pytest.approx(np.array([[0.5, 0.5], [1 / 3, 2 / 3]]))
