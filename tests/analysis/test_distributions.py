"""Measures of clouds against closed forms, scipy, and published figures."""

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


def draw(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


# --- between two clouds -------------------------------------------------------------------------


@given(LINES, LINES)
def test_wasserstein_on_a_line_is_scipys(x: np.ndarray, y: np.ndarray) -> None:
    theirs = scipy.stats.wasserstein_distance(x, y)
    assert d.wasserstein_1d(x, y) == pytest.approx(theirs, abs=1e-12)
    assert d.wasserstein_1d(y, x) == pytest.approx(theirs, abs=1e-12)
    assert d.wasserstein_1d(x, x) == 0.0


def test_second_wasserstein_on_a_line_is_the_best_assignment() -> None:
    x, y = draw(1, 2, 9)
    cost = (x[:, None] - y) ** 2
    best = cost[scipy.optimize.linear_sum_assignment(cost)].mean()
    assert d.wasserstein_1d(x, y, 2.0) == pytest.approx(np.sqrt(best))


def test_wasserstein_keeps_leading_dimensions() -> None:
    x, y = draw(2, 2, 3, 7), draw(3, 2, 3, 4)
    found = d.wasserstein_1d(x, y)
    assert found.shape == (2, 3)
    assert found[1, 2] == pytest.approx(scipy.stats.wasserstein_distance(x[1, 2], y[1, 2]))


def test_sliced_wasserstein() -> None:
    x, y = draw(4, 40), draw(5, 30)
    assert d.sliced_wasserstein_distance(x[:, None], y[:, None]) == pytest.approx(
        d.wasserstein_1d(x, y, 2.0)
    )
    # A shift by s has a shadow of s cos on a random line: mean square s^2 / dimensions.
    cloud = draw(6, 50, 3)
    shift = np.array([2.0, -1.0, 2.0])
    found = d.sliced_wasserstein_distance(cloud + shift, cloud, num_projections=4000)
    assert found == pytest.approx(np.sqrt(9.0 / 3.0), rel=0.02)
    one, other = draw(7, 2, 5, 20, 2)
    pair = d.sliced_wasserstein_distance(one, other)
    assert pair.shape == (5,)
    assert pair[3] == pytest.approx(d.sliced_wasserstein_distance(one[3], other[3]))


def test_gaussian_wasserstein() -> None:
    narrow, wide = np.array([[0.25]]), np.array([[4.0]])
    found = d.gaussian_wasserstein_squared(np.array([1.0]), narrow, np.array([3.0]), wide)
    assert found == pytest.approx(2.0**2 + (0.5 - 2.0) ** 2)
    # Where covariances commute it is the distance of their roots.
    turn, _ = np.linalg.qr(draw(8, 3, 3))
    a, b = np.array([1.0, 4.0, 9.0]), np.array([4.0, 0.0, 1.0])
    mean = np.zeros(3)
    found = d.gaussian_wasserstein_squared(
        mean, (turn * a) @ turn.T, mean + 2.0, (turn * b) @ turn.T
    )
    assert found == pytest.approx(12.0 + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum())


def test_gaussian_wasserstein_is_reached_by_samples() -> None:
    """The optimal map x -> m + A x between two normals, applied to a sample."""
    root, other = draw(9, 2, 2, 2)
    a, b = root @ root.T, other @ other.T
    half = d._matrix_square_root(a)
    inverse = np.linalg.inv(half)
    push = inverse @ d._matrix_square_root(half @ b @ half) @ inverse
    x = draw(10, 200_000, 2) @ half
    cost = ((x - (x @ push.T + 1.0)) ** 2).sum(1)
    found = d.gaussian_wasserstein_squared(np.zeros(2), a, np.ones(2), b)
    assert found == pytest.approx(cost.mean(), abs=5 * cost.std() / np.sqrt(len(cost)))


def test_energy_distance() -> None:
    x, y = draw(11, 30), draw(12, 20) + 1.0
    theirs = scipy.stats.energy_distance(x, y)
    assert d.energy_distance(x[:, None], y[:, None]) == pytest.approx(theirs)
    one, other = draw(13, 15, 3), draw(14, 12, 3)
    pairs = scipy.spatial.distance.cdist
    squared = 2 * pairs(one, other).mean() - pairs(one, one).mean() - pairs(other, other).mean()
    assert d.energy_distance(one, other) == pytest.approx(np.sqrt(squared))
    assert d.energy_distance(one, one[::-1]) == pytest.approx(0.0, abs=1e-7)


def test_few_distances_at_a_time_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = draw(15, 2, 13, 3), draw(16, 2, 7, 3)
    whole = d.energy_distance(x, y)
    monkeypatch.setattr(d, "MAX_PAIRWISE_DISTANCES", 100)
    assert d.energy_distance(x, y) == pytest.approx(whole)


# --- polarisation -------------------------------------------------------------------------------


def test_bimodality_as_published() -> None:
    """Both examples of Pfister et al. 2013."""
    one = np.repeat(np.arange(1.0, 12.0), [3, 5, 5, 10, 17, 20, 17, 10, 5, 5, 3])
    two = np.repeat(np.arange(1.0, 12.0), [2, 26, 14, 6, 2, 0, 2, 6, 14, 26, 2])
    assert d.bimodality_coefficient(one) == pytest.approx(0.34, abs=0.005)
    assert d.bimodality_coefficient(two) == pytest.approx(0.79, abs=0.005)


def test_bimodality_of_known_distributions() -> None:
    points = (np.arange(100_000) + 0.5) / 100_000
    assert d.bimodality_coefficient(points) == pytest.approx(5.0 / 9.0, abs=1e-4)
    assert d.bimodality_coefficient(scipy.stats.norm.ppf(points)) == pytest.approx(
        1.0 / 3.0, abs=1e-3
    )
    assert d.bimodality_coefficient(np.repeat([-1.0, 1.0], 50_000)) == pytest.approx(1.0, abs=1e-4)
    x = draw(17, 3, 20) ** 3
    g = scipy.stats.skew(x, axis=1, bias=False)
    k = scipy.stats.kurtosis(x, axis=1, bias=False)
    assert d.bimodality_coefficient(x) == pytest.approx((g**2 + 1) / (k + 3 * 19**2 / (18 * 17)))
    assert np.isnan(d.bimodality_coefficient(np.ones(9)))
    with refused("wrong_shape", "x"):
        d.bimodality_coefficient(np.ones(3))


@pytest.mark.parametrize(("groups", "figure"), [(2, 0.16494), (3, 0.07663), (10, 0.00921)])
def test_polarisation_falls_with_the_number_of_groups(groups: int, figure: float) -> None:
    places = np.linspace(0.0, 1.0, groups)
    assert d.esteban_ray_polarization(np.full(groups, 1.0 / groups), places) == pytest.approx(
        figure, abs=5e-6
    )


def test_polarisation_does_not_ask_in_what_units_people_are_counted() -> None:
    counts, places = np.array([[30.0, 10.0, 60.0]]), np.array([[0.0, 1.0, 3.0]])
    by_hand = sum(
        (p / 100) ** 1.8 * (q / 100) * abs(x - y)
        for p, x in zip(counts[0], places[0], strict=True)
        for q, y in zip(counts[0], places[0], strict=True)
    )
    assert d.esteban_ray_polarization(counts, places, 0.8) == pytest.approx([by_hand])
    with refused("out_of_range", "alpha"):
        d.esteban_ray_polarization(counts, places, 1.7)


# --- diversity ----------------------------------------------------------------------------------


@given(SHARES, st.sampled_from([0.0, 0.5, 1.0, 2.0, np.inf]))
def test_effective_number_lies_between_one_and_all(p: np.ndarray, order: float) -> None:
    found = float(d.hill_number(p, order))
    assert 1.0 - 1e-9 <= found <= (p > 0.0).sum() + 1e-9
    doubled = np.concatenate([p, p])  # twice as many groups, alike: twice the number
    assert d.hill_number(doubled, order) == pytest.approx(2.0 * found)


def test_effective_number_of_known_shares() -> None:
    p = np.array([0.5, 0.25, 0.25, 0.0])
    orders = (0.0, 1.0, 2.0, np.inf)
    found = [float(d.hill_number(p, order)) for order in orders]
    assert found == pytest.approx([3.0, np.exp(scipy.stats.entropy(p)), 1.0 / 0.375, 2.0])
    near = [float(d.hill_number(p, 1.0 + e)) for e in (-1e-6, 1e-6)]
    assert near == pytest.approx([found[1]] * 2, rel=1e-5)
    with refused("out_of_range", "order"):
        d.hill_number(p, -1.0)


def test_rao() -> None:
    p, places = np.array([0.2, 0.3, 0.5]), np.array([0.0, 1.0, 3.0])
    apart = np.abs(places[:, None] - places)
    assert d.rao_quadratic_entropy(p, apart) == pytest.approx(2 * (0.06 * 1 + 0.1 * 3 + 0.15 * 2))
    # Distance 1 between any two groups: Simpson's index, one less one over Hill's of order 2.
    assert d.rao_quadratic_entropy(p, 1.0 - np.eye(3)) == pytest.approx(
        1.0 - 1.0 / d.hill_number(p, 2.0)
    )
    cloud = np.repeat(places, [2, 3, 5])[:, None]
    assert d.rao_quadratic_entropy_of_points(cloud) == pytest.approx(
        d.rao_quadratic_entropy(p, apart)
    )


def test_shares_count_everybody_once() -> None:
    x = np.array([[-5.0, 0.0, 0.49, 0.5, 1.0, 7.0], [0.9, 0.9, 0.9, 0.1, 0.1, 0.5]])
    found = d.bin_shares(x, np.array([0.0, 0.5, 1.0]))
    assert found == pytest.approx(np.array([[0.5, 0.5], [1 / 3, 2 / 3]]))
