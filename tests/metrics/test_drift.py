"""Drift metrics of paths with known length, straightness and half-life."""

from __future__ import annotations

import networkx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mores.metrics.drift import (
    effect_vs_control,
    half_life,
    mode_half_life,
    net_displacement,
    path_length,
    straightness_index,
)

# Three steps along the sides of a square with side 5.
SQUARE = np.array([[0.0, 0.0], [3.0, 4.0], [-1.0, 7.0], [-4.0, 3.0]])

PATHS = arrays(np.float64, (2, 6, 3), elements=st.integers(-8, 8).map(float))


def test_path_along_a_square() -> None:
    assert path_length(SQUARE) == pytest.approx([0.0, 5.0, 10.0, 15.0])
    assert net_displacement(SQUARE) == pytest.approx([0.0, 5.0, np.sqrt(50.0), 5.0])
    assert straightness_index(SQUARE)[1:] == pytest.approx([1.0, np.sqrt(0.5), 1.0 / 3.0])
    assert np.isnan(straightness_index(SQUARE)[0])


def test_effect_vs_control_is_a_distance() -> None:
    path = np.stack([SQUARE, 2 * SQUARE])
    moved = path + np.array([[[0.0, 0.0]], [[6.0, 8.0]]])
    assert effect_vs_control(moved, path).tolist() == [[0.0] * 4, [10.0] * 4]


def test_small_effect_in_single_precision() -> None:
    path = np.full((1, 2, 400), 1000.0, dtype=np.float32)
    other = path.copy()
    other[..., 0] = np.nextafter(np.float32(1000.0), np.float32(2000.0))
    assert effect_vs_control(other, path) == pytest.approx(2.0**-14)


@given(PATHS)
def test_no_path_is_shorter_than_its_displacement(path: np.ndarray) -> None:
    assert (path_length(path) >= net_displacement(path) - 1e-12).all()
    assert path_length(path[:, ::-1])[:, -1] == pytest.approx(path_length(path)[:, -1])
    assert path_length(path) == pytest.approx(path_length(path + 5.0))
    straight = path[:, :1] + np.arange(6.0)[:, None] * path[:, 1:2]
    has_moved = np.any(path[:, 1] != 0.0, axis=-1)
    assert straightness_index(straight)[has_moved, -1] == pytest.approx(1.0)
    assert np.isnan(straightness_index(straight)[~has_moved]).all()


@pytest.mark.parametrize("eigenvalue", [0.2, 0.5, 0.9, 0.99])
def test_half_life_of_a_geometric_decay(eigenvalue: float) -> None:
    distance = 3.0 * eigenvalue ** np.arange(200.0)
    assert half_life(distance) == pytest.approx(mode_half_life(eigenvalue))
    assert mode_half_life(-eigenvalue) == mode_half_life(eigenvalue)


def test_half_life_of_special_cases() -> None:
    records = np.array([[4.0, 3.0, 2.5], [0.0, 1.0, 0.0], [4.0, 8.0, 0.0], [4.0, 2.0, 3.0]])
    assert half_life(records) == pytest.approx([np.inf, np.nan, 2.0, 1.0], nan_ok=True)
    assert mode_half_life(1.0) == np.inf
    assert mode_half_life(0.0) == 0.0


def test_half_life_of_the_karate_club() -> None:
    """Averaging over neighbors and the own value: second eigenvalue .896142, half-life 6.3211."""
    graph = (networkx.to_numpy_array(networkx.karate_club_graph()) > 0) + np.eye(34)
    influence = graph / graph.sum(1, keepdims=True)
    eigenvalue = np.sort(np.abs(np.linalg.eigvals(influence)))[-2]
    assert eigenvalue == pytest.approx(0.896142, abs=1e-6)
    assert mode_half_life(float(eigenvalue)) == pytest.approx(6.3211, abs=1e-4)
    values = np.random.default_rng(1).standard_normal(34)
    path = [values]
    for _ in range(300):
        path.append(influence @ path[-1])
    consensus = graph.sum(1) @ values / graph.sum()
    distance = np.linalg.norm(np.array(path) - consensus, axis=1)
    assert half_life(distance[60:]) == pytest.approx(6.3211, abs=1e-3)
