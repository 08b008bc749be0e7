"""Sobol and Morris indices against closed forms, and degenerate outputs."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from mores.analysis.sensitivity import compute_indices, sample_design
from tests.refusals import check_message, refused

pytest.importorskip("SALib")

PI = (-np.pi, np.pi)
ISHIGAMI = {"env.a": PI, "env.peers.b": PI, "policies.assistant.c": PI}


def ishigami(x: np.ndarray) -> np.ndarray:
    return np.sin(x[:, 0]) + 7 * np.sin(x[:, 1]) ** 2 + 0.1 * x[:, 2] ** 4 * np.sin(x[:, 0])


def test_sobol_indices_of_the_ishigami_function() -> None:
    """Ishigami and Homma 1990, a = 7, b = 0.1."""
    points = sample_design("sobol", ISHIGAMI, 4096, seed=1)
    assert points.shape == (4096 * 5, 3)
    indices = compute_indices("sobol", ISHIGAMI, points, ishigami(points))
    first, total = [0.3139, 0.4424, 0.0], [0.5576, 0.4424, 0.2437]
    assert list(indices.bands) == ["first_order", "total_order"]
    for band, expected in zip(indices.bands.values(), (first, total), strict=True):
        assert band.value == pytest.approx(expected, abs=0.02)
        assert (band.low <= expected).all() and (expected <= band.high).all()
        assert (band.high - band.low < 0.1).all()
    assert indices.ranked_names == ("env.a", "env.peers.b", "policies.assistant.c")
    assert indices.num_points == len(points)
    assert indices.noise_share is None


@pytest.mark.parametrize("seed", range(20))
def test_intervals_of_small_designs_cover(seed: int) -> None:
    """A sum of two parameters with variance shares .2 and .8: 20 designs of 64 base points."""
    ranges = {"x": (0.0, 1.0), "y": (-2.0, 2.0)}
    points = sample_design("sobol", ranges, 64, seed)
    indices = compute_indices("sobol", ranges, points, 2 * points[:, 0] + points[:, 1], seed=seed)
    for band in indices.bands.values():
        assert (band.low <= [0.2, 0.8]).all() and (band.high >= [0.2, 0.8]).all()


def test_morris_indices_of_a_linear_function() -> None:
    """mu* is |slope| times range, sigma is 0."""
    ranges = {"a.b": (0.0, 1.0), "c": (-3.0, 5.0), "d": (10.0, 12.0), "e": (0.0, 1e-6)}
    points = sample_design("morris", ranges, 6, seed=3)
    assert points.shape == (6 * 5, 4)
    for i, (low, high) in enumerate(ranges.values()):
        assert low <= points[:, i].min() and points[:, i].max() <= high
    indices = compute_indices("morris", ranges, points, points @ [2.0, -1.0, 0.25, 0.0] + 7)
    for column in indices.bands["mu_star"]:
        assert column == pytest.approx([2.0, 8.0, 0.5, 0.0], abs=1e-9)
    assert indices.bands["sigma"].value == pytest.approx(0.0, abs=1e-9)
    assert indices.ranked_names == ("c", "a.b", "d", "e")


def test_morris_indices_of_a_product() -> None:
    """The effect of x on x y is y: uniform on {0, 1/3, 2/3, 1}, mean .5, sd .3727."""
    ranges = {"x": (0.0, 1.0), "y": (0.0, 1.0)}
    points = sample_design("morris", ranges, 4000, seed=2)
    indices = compute_indices("morris", ranges, points, points[:, 0] * points[:, 1])
    for band, expected in zip(indices.bands.values(), (0.5, np.sqrt(5 / 36)), strict=True):
        assert (band.low <= expected).all() and (expected <= band.high).all()
        assert (band.low < band.value).all() and (band.value < band.high).all()
        assert (band.high - band.low < 0.03).all()


@pytest.mark.parametrize("method", ["sobol", "morris"])
def test_indices_of_a_single_parameter(method: str) -> None:
    ranges = {"only.one": (2.0, 4.0)}
    points = sample_design(method, ranges, 64, 0)
    indices = compute_indices(method, ranges, points, 5 * points[:, 0])
    expected = 1.0 if method == "sobol" else 10.0
    assert indices.ranking_index.value == pytest.approx([expected], abs=0.02)


@pytest.mark.parametrize("method", ["sobol", "morris"])
@pytest.mark.parametrize("value", [0.0, 3.0, -1e-30])
def test_equal_outputs(method: str, value: float, recwarn: pytest.WarningsRecorder) -> None:
    points = sample_design(method, ISHIGAMI, 4, 0)
    outputs = np.full(len(points), value)
    outputs[::2] *= 1 + 1e-7  # the last bit of a float32
    indices = compute_indices(method, ISHIGAMI, points, outputs)
    check_message(indices.description)
    assert (
        np.isnan(indices.ranking_index.value).all()
        if method == "sobol"
        else (indices.ranking_index.value == 0).all()
    )
    assert indices.ranked_names == tuple(ISHIGAMI)
    assert not len(recwarn)


@pytest.mark.parametrize("method", ["sobol", "morris"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_outputs(method: str, bad: float) -> None:
    points = sample_design(method, ISHIGAMI, 4, 0)
    outputs = ishigami(points)
    outputs[5] = bad
    indices = compute_indices(method, ISHIGAMI, points, outputs)
    check_message(indices.description)
    assert np.isnan(np.concatenate(indices.ranking_index)).all()


@pytest.mark.parametrize("method", ["sobol", "morris"])
def test_results_depend_only_on_the_seed(method: str) -> None:
    """Also for seed 0, and for any state of numpy's global generator, which does not change."""
    for seed in (0, 1):
        results = []
        for global_seed in (5, 6):
            np.random.seed(global_seed)
            global_state = np.random.get_state()[1].copy()  # type: ignore[index]
            points = sample_design(method, ISHIGAMI, 8, seed)
            indices = compute_indices(method, ISHIGAMI, points, ishigami(points), seed=seed)
            assert (np.random.get_state()[1] == global_state).all()  # type: ignore[index]
            results.append([points, *indices.ranking_index])
        assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))
    assert not np.array_equal(
        sample_design(method, ISHIGAMI, 8, 0), sample_design(method, ISHIGAMI, 8, 1)
    )


@pytest.mark.full
def test_effect_of_monte_carlo_noise() -> None:
    """Formulas of the module for noise as large as the signal: 0.5 first, (1 + total) / 2."""
    ranges = {"x": (0.0, 1.0), "nothing": (0.0, 1.0)}
    points = sample_design("sobol", ranges, 8192, seed=1)
    noise_std = np.sqrt(1 / 12)
    noisy = points[:, 0] + noise_std * np.random.default_rng(0).normal(size=len(points))
    indices = compute_indices(
        "sobol", ranges, points, noisy, standard_errors=np.full(len(points), noise_std)
    )
    assert indices.bands["first_order"].value == pytest.approx([0.5, 0.0], abs=0.04)
    assert indices.bands["total_order"].value == pytest.approx([1.0, 0.5], abs=0.04)
    assert indices.noise_share == pytest.approx(0.5, abs=0.02)
    paths = sample_design("morris", ranges, 4000, seed=1)
    noise = np.random.default_rng(1).normal(size=len(paths))
    mu_star = compute_indices("morris", ranges, paths, noise).bands["mu_star"]
    assert mu_star.value == pytest.approx(1.69, abs=0.08)  # 3/2 sqrt(2) sqrt(2 / pi)


@pytest.mark.parametrize(
    ("method", "ranges", "size", "code", "path"),
    [
        ("sobol", ISHIGAMI, 100, "invalid_value", "size"),
        ("sobol", ISHIGAMI, 1, "out_of_range", "size"),
        ("morris", ISHIGAMI, 1, "out_of_range", "size"),
        ("sobl", ISHIGAMI, 8, "unknown_name", "method"),
        ("morris", {}, 8, "missing", "ranges"),
        ("morris", {"env.x": (1.0, 1.0)}, 8, "invalid_value", "ranges.env.x"),
        ("sobol", {"env.x": (2.0, 1.0)}, 8, "invalid_value", "ranges.env.x"),
        ("sobol", {"env.x": (0.0, np.inf)}, 8, "invalid_value", "ranges.env.x"),
        ("sobol", {"env.x": (np.nan, 1.0)}, 8, "invalid_value", "ranges.env.x"),
    ],
)
def test_invalid_designs(method: str, ranges: dict, size: int, code: str, path: str) -> None:
    with refused(code, path):
        sample_design(method, ranges, size, 0)


def test_outputs_that_do_not_match_the_design() -> None:
    points = sample_design("sobol", ISHIGAMI, 8, 0)
    with refused("wrong_shape", "design"):
        compute_indices("sobol", ISHIGAMI, points, np.zeros(7))
    with refused("wrong_shape", "design"):
        compute_indices("morris", ISHIGAMI, points[:10], np.arange(10.0))


def test_without_salib(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "SALib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "SALib", None)
    with refused("not_installed"):
        sample_design("sobol", ISHIGAMI, 8, 0)
