"""Drift metrics of paths with known length, straightness and half-life."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import networkx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from mores.metrics import drift
from tests.refusals import refused

# Three steps along the sides of a square with side 5.
SQUARE = np.array([[0.0, 0.0], [3.0, 4.0], [-1.0, 7.0], [-4.0, 3.0]])

PATHS = arrays(np.float64, (2, 6, 3), elements=st.integers(-8, 8).map(float))


def along(metric: Callable[..., Any], path: Any, **inputs: Any) -> Tensor:
    """A metric of a trajectory of `[world, round, value]`, each world one person, by round."""
    rounds = torch.as_tensor(path, dtype=torch.float64)[:, :, None].unbind(1)
    memory, results = None, []
    for values in rounds:
        value, memory = metric(values, memory=memory, **inputs)
        results.append(value)
    return torch.stack(results, 1)


def half_life(distance: Any) -> Tensor:
    """Of a disagreement with these rms distances, by round: two people, each at one distance."""
    x = torch.as_tensor(np.atleast_2d(distance), dtype=torch.float64)
    return along_pairs(torch.stack([x, -x], -1))


def along_pairs(values: Tensor) -> Tensor:
    """Half-life of people at `[world, round, person]`."""
    memory, results = None, []
    for people in values.unbind(1):
        value, memory = drift.disagreement_half_life(people[..., None], memory)
        results.append(value)
    return torch.stack(results, 1)


def test_path_along_a_square() -> None:
    assert along(drift.path_length, SQUARE[None])[0].tolist() == [0.0, 5.0, 10.0, 15.0]
    start, end = (torch.as_tensor(SQUARE[[i]])[None] for i in (0, 2))
    assert drift.drift(end, start).item() == pytest.approx(np.sqrt(50.0))
    index = along(drift.straightness_index, SQUARE[None], initial_values=start)[0]
    assert index[1:].tolist() == pytest.approx([1.0, np.sqrt(0.5), 1.0 / 3.0])
    assert index[0].isnan()


def test_displacement_along_a_direction() -> None:
    start, end = (torch.as_tensor(SQUARE[[i]])[None] for i in (0, 3))
    assert drift.displacement(end, start, direction=(2.0, 0.0)).item() == pytest.approx(-4.0)
    diagonal = drift.displacement(end, start, direction=(1.0, 1.0))
    assert diagonal.item() == pytest.approx(-1.0 / np.sqrt(2.0))
    for direction in ((1.0,), (0.0, 0.0)):
        with refused("wrong_shape", "direction"):
            drift.displacement(end, start, direction=direction)


def test_distance_from_the_control() -> None:
    path = np.stack([SQUARE, 2 * SQUARE])
    moved = path + np.array([[[0.0, 0.0]], [[6.0, 8.0]]])
    assert drift.distance_from_control(moved, path).tolist() == [[0.0] * 4, [10.0] * 4]


def test_small_distance_in_single_precision() -> None:
    path = np.full((1, 2, 400), 1000.0, dtype=np.float32)
    other = path.copy()
    other[..., 0] = np.nextafter(np.float32(1000.0), np.float32(2000.0))
    assert drift.distance_from_control(other, path) == pytest.approx(2.0**-14)


@given(PATHS)
def test_no_path_is_shorter_than_its_displacement(path: np.ndarray) -> None:
    length = along(drift.path_length, path)
    start, end = (torch.as_tensor(path[:, [i]]) for i in (0, -1))
    assert (length[:, -1] >= drift.drift(end, start) - 1e-12).all()
    backwards = along(drift.path_length, path[:, ::-1].copy())
    assert torch.allclose(backwards[:, -1], length[:, -1])
    straight = path[:, :1] + np.arange(6.0)[:, None] * path[:, 1:2]
    index = along(drift.straightness_index, straight, initial_values=start)[:, -1].numpy()
    has_moved = np.any(path[:, 1] != 0.0, axis=-1)
    assert index[has_moved] == pytest.approx(1.0)
    assert np.isnan(index[~has_moved]).all()


@pytest.mark.parametrize("eigenvalue", [0.2, 0.5, 0.9, 0.99])
def test_half_life_of_a_geometric_decay(eigenvalue: float) -> None:
    result = half_life(3.0 * eigenvalue ** np.arange(200.0))[0, -1].item()
    assert result == pytest.approx(np.log(0.5) / np.log(eigenvalue))


def test_half_life_of_special_cases() -> None:
    distances = np.array([[4.0, 3.0, 2.5], [0.0, 1.0, 0.0], [4.0, 8.0, 0.0], [4.0, 2.0, 3.0]])
    result = half_life(distances)[:, -1].tolist()
    assert result == pytest.approx([np.inf, np.nan, 2.0, 1.0], nan_ok=True)


def test_half_life_of_the_karate_club() -> None:
    """Averaging over neighbors and the own value: second eigenvalue .896142, half-life 6.3211."""
    graph = (networkx.to_numpy_array(networkx.karate_club_graph()) > 0) + np.eye(34)
    influence = graph / graph.sum(1, keepdims=True)
    eigenvalues, modes = np.linalg.eig(influence)
    second = np.argsort(np.abs(eigenvalues))[-2]
    assert eigenvalues[second].real == pytest.approx(0.896142, abs=1e-6)
    path = [modes[:, second].real + 0.3]  # the slowest mode decays alone, its deviation as well
    for _ in range(20):
        path.append(influence @ path[-1])
    result = along_pairs(torch.as_tensor(np.array(path))[None])[0, -1].item()
    assert result == pytest.approx(6.3211, abs=1e-4)
