"""Distances, polarization and diversity against closed forms, scipy and published values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import scipy.spatial
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mores.metrics import distances, polarization
from tests.refusals import refused

LINES = arrays(np.float64, st.integers(1, 12), elements=st.integers(-9, 9).map(float))
SHARES = arrays(np.float64, st.integers(1, 9), elements=st.floats(0.0, 1.0)).filter(
    lambda p: p.sum() > 0.01
)


def sample(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def of(function: Callable[..., torch.Tensor], *arrays: Any, **parameters: Any) -> np.ndarray:
    """A function of tensors, called with arrays."""
    return function(*map(torch.as_tensor, arrays), **parameters).numpy()


def bimodality(x: np.ndarray) -> np.ndarray:
    """Of `[world, person]`, or of one world's people."""
    values = torch.as_tensor(np.atleast_2d(x))[..., None]
    return polarization.bimodality_coefficient(values).numpy()[:, 0]


# --- distances between two clouds ---------------------------------------------------------------


@given(LINES, LINES)
def test_wasserstein_1d_equals_scipy(x: np.ndarray, y: np.ndarray) -> None:
    expected = scipy.stats.wasserstein_distance(x, y)
    assert of(distances.wasserstein_1d, x, y) == pytest.approx(expected, abs=1e-12)
    assert of(distances.wasserstein_1d, y, x) == pytest.approx(expected, abs=1e-12)
    assert of(distances.wasserstein_1d, x, x) == 0.0


def test_second_wasserstein_is_the_optimal_assignment() -> None:
    x, y = sample(1, 2, 9)
    cost = (x[:, None] - y) ** 2
    best = cost[scipy.optimize.linear_sum_assignment(cost)].mean()
    assert of(distances.wasserstein_1d, x, y, squared=True) == pytest.approx(best)


def test_wasserstein_of_each_value() -> None:
    x, y = sample(2, 3, 7, 2), sample(3, 3, 7, 2)
    result = of(distances.wasserstein_from_start, x, y)
    assert result.shape == (3, 2)
    expected = scipy.stats.wasserstein_distance(x[1, :, 1], y[1, :, 1])
    assert result[1, 1] == pytest.approx(expected)


def test_sliced_wasserstein() -> None:
    x, y = sample(4, 40), sample(5, 30)
    squared = of(distances.wasserstein_1d, x, y, squared=True)
    sliced = of(distances.sliced_wasserstein_distance, x[:, None], y[:, None])
    assert sliced == pytest.approx(np.sqrt(squared))
    # The projection of a shift s on a random direction has mean square s^2 / dimensions.
    cloud = sample(6, 50, 3)
    shift = np.array([2.0, -1.0, 2.0])
    result = of(distances.sliced_wasserstein_distance, cloud + shift, cloud, num_projections=4000)
    assert result == pytest.approx(np.sqrt(9.0 / 3.0), rel=0.02)


def test_gaussian_wasserstein() -> None:
    squared = of(distances.gaussian_wasserstein_squared, [1.0], [[0.25]], [3.0], [[4.0]])
    assert squared == pytest.approx(2.0**2 + (0.5 - 2.0) ** 2)
    # For commuting covariances it is the distance of their roots.
    rotation, _ = np.linalg.qr(sample(8, 3, 3))
    a, b = np.array([1.0, 4.0, 9.0]), np.array([4.0, 0.0, 1.0])
    mean = np.zeros(3)
    squared = of(
        distances.gaussian_wasserstein_squared,
        *(mean, (rotation * a) @ rotation.T, mean + 2.0, (rotation * b) @ rotation.T),
    )
    assert squared == pytest.approx(12.0 + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum())
    diverged = torch.full((1, 5, 2), torch.nan)
    assert of(distances.gaussian_wasserstein_from_start, diverged, diverged).tolist() == [
        pytest.approx(np.nan, nan_ok=True)
    ]


def test_gaussian_wasserstein_is_the_cost_of_the_optimal_map() -> None:
    """The optimal map x -> m + A x between two normals, applied to a sample."""
    factor_a, factor_b = sample(9, 2, 2, 2)
    a, b = factor_a @ factor_a.T, factor_b @ factor_b.T
    root_a = of(distances.matrix_square_root, a)
    inverse = np.linalg.inv(root_a)
    map_matrix = inverse @ of(distances.matrix_square_root, root_a @ b @ root_a) @ inverse
    x = sample(10, 200_000, 2) @ root_a
    cost = ((x - (x @ map_matrix.T + 1.0)) ** 2).sum(1)
    result = of(distances.gaussian_wasserstein_squared, np.zeros(2), a, np.ones(2), b)
    assert result == pytest.approx(cost.mean(), abs=5 * cost.std() / np.sqrt(len(cost)))
    clouds = x[None, :, :], (x @ map_matrix.T + 1.0)[None]
    sampled = of(distances.gaussian_wasserstein_from_start, *clouds)
    assert sampled == pytest.approx(np.sqrt(cost.mean()), rel=1e-6)


def test_energy_distance() -> None:
    x, y = sample(11, 30), sample(12, 20) + 1.0
    expected = scipy.stats.energy_distance(x, y)
    assert of(distances.energy_distance, x[:, None], y[:, None]) == pytest.approx(expected)
    a, b = sample(13, 15, 3), sample(14, 12, 3)
    pairs = scipy.spatial.distance.cdist
    squared = 2 * pairs(a, b).mean() - pairs(a, a).mean() - pairs(b, b).mean()
    assert of(distances.energy_distance, a, b) == pytest.approx(np.sqrt(squared))
    assert of(distances.energy_distance, a, a[::-1].copy()) == pytest.approx(0.0, abs=1e-7)


def test_distances_do_not_depend_on_the_size_of_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = sample(15, 2, 13, 3), sample(16, 2, 7, 3)
    whole = of(distances.energy_distance, x, y)
    monkeypatch.setattr(distances, "MAX_PAIRWISE_DISTANCES", 100)
    assert (of(distances.energy_distance, x, y) == whole).all()


# --- polarization -------------------------------------------------------------------------------


def test_bimodality_as_published() -> None:
    """Both examples of Pfister et al. 2013."""
    unimodal = np.repeat(np.arange(1.0, 12.0), [3, 5, 5, 10, 17, 20, 17, 10, 5, 5, 3])
    bimodal = np.repeat(np.arange(1.0, 12.0), [2, 26, 14, 6, 2, 0, 2, 6, 14, 26, 2])
    assert bimodality(unimodal) == pytest.approx(0.34, abs=0.005)
    assert bimodality(bimodal) == pytest.approx(0.79, abs=0.005)


def test_bimodality_of_known_distributions() -> None:
    points = (np.arange(100_000) + 0.5) / 100_000
    assert bimodality(points) == pytest.approx(5.0 / 9.0, abs=1e-4)
    assert bimodality(scipy.stats.norm.ppf(points)) == pytest.approx(1.0 / 3.0, abs=1e-3)
    assert bimodality(np.repeat([-1.0, 1.0], 50_000)) == pytest.approx(1.0, abs=1e-4)
    x = sample(17, 3, 20) ** 3
    g = scipy.stats.skew(x, axis=1, bias=False)
    k = scipy.stats.kurtosis(x, axis=1, bias=False)
    assert bimodality(x) == pytest.approx((g**2 + 1) / (k + 3 * 19**2 / (18 * 17)))
    assert np.isnan(bimodality(np.ones(9)))
    with refused("wrong_shape", "values"):
        bimodality(np.ones(3))


@pytest.mark.parametrize(("groups", "expected"), [(2, 0.16494), (3, 0.07663), (10, 0.00921)])
def test_polarization_decreases_with_groups(groups: int, expected: float) -> None:
    positions = np.linspace(0.0, 1.0, groups)
    result = of(polarization.esteban_ray, np.full(groups, 1.0 / groups), positions, alpha=1.6)
    assert result == pytest.approx(expected, abs=5e-6)


def test_polarization_of_people_in_bins() -> None:
    """Shares .3, .1, .6 at the centers of three of ten bins; empty bins have no effect."""
    counts, positions = [3, 1, 6], [-0.9, -0.1, 0.9]
    expected = sum(
        (p / 10) ** 1.8 * (q / 10) * abs(x - y)
        for p, x in zip(counts, positions, strict=True)
        for q, y in zip(counts, positions, strict=True)
    )
    values = torch.tensor(positions).repeat_interleave(torch.tensor(counts))[None, :, None]
    result = polarization.esteban_ray_polarization(values + 0.01, alpha=0.8)
    assert result.tolist() == [[pytest.approx(expected)]]
    with refused("invalid_value", "low"):
        polarization.esteban_ray_polarization(values, low=1.0)


# --- diversity ----------------------------------------------------------------------------------


@given(SHARES, st.sampled_from([0.0, 0.5, 1.0, 2.0, np.inf]))
def test_hill_number_lies_between_one_and_the_number_of_groups(p: np.ndarray, order: float) -> None:
    result = float(of(polarization.hill, p, order=order))
    assert 1.0 - 1e-9 <= result <= (p > 0.0).sum() + 1e-9
    doubled = np.concatenate([p, p])  # twice as many equal groups
    assert of(polarization.hill, doubled, order=order) == pytest.approx(2.0 * result)


def test_hill_numbers_of_known_shares() -> None:
    p = np.array([0.5, 0.25, 0.25, 0.0])
    orders = (0.0, 1.0, 2.0, np.inf)
    result = [float(of(polarization.hill, p, order=order)) for order in orders]
    assert result == pytest.approx([3.0, np.exp(scipy.stats.entropy(p)), 1.0 / 0.375, 2.0])
    nearby = [float(of(polarization.hill, p, order=1.0 + e)) for e in (-1e-6, 1e-6)]
    assert nearby == pytest.approx([result[1]] * 2, rel=1e-5)
    values = torch.tensor([0.1, 0.1, 0.7, -0.7])[None, :, None]
    assert polarization.hill_number(values, order=2.0).item() == pytest.approx(1 / 0.375)


def test_rao_quadratic_entropy() -> None:
    p, positions = np.array([0.2, 0.3, 0.5]), np.array([0.0, 1.0, 3.0])
    expected = 2 * (0.06 * 1 + 0.1 * 3 + 0.15 * 2)
    cloud = np.repeat(positions, [2, 3, 5])[None, :, None]
    assert of(polarization.rao_quadratic_entropy, cloud) == pytest.approx(expected)
    # With distance 1 between all groups: Simpson's index, 1 - 1 / (Hill number of order 2).
    corners = np.repeat(np.eye(3) / np.sqrt(2), [2, 3, 5], axis=0)[None]
    simpson = 1.0 - 1.0 / of(polarization.hill, p, order=2.0)
    assert of(polarization.rao_quadratic_entropy, corners) == pytest.approx(simpson)


def test_bin_shares_count_every_agent_once() -> None:
    x = [[-5.0, 0.0, 0.49, 0.5, 1.0, 7.0], [0.9, 0.9, 0.9, 0.1, 0.1, 0.5]]
    result = of(polarization.bin_shares, x, low=0.0, high=1.0, bins=2)
    assert result == pytest.approx(np.array([[0.5, 0.5], [1 / 3, 2 / 3]]))
