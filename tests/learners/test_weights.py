"""Merging against PEFT, numpy, scipy and closed forms; stacked models against single ones."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import scipy.cluster.hierarchy
import scipy.spatial.distance
import torch
from torch import Tensor

from mores.agents.learning.weights import merging, stacked_weights
from mores.agents.learning.weights.cluster_merging import (
    complete_linkage_clusters,
    merge_by_cluster,
)
from tests.refusals import refused

SHAPES = {"in": (4, 6), "bias": (1, 6), "out": (6, 3), "temperature": ()}
MODELS = 4
Weights = dict[str, Tensor]


def weights(seed: int, models: int = MODELS) -> Weights:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(models, *shape, generator=generator) for name, shape in SHAPES.items()
    }


BASE = weights(0)
SETS = [weights(seed) for seed in (1, 2, 3)]


def flat(weights: Weights, model: int) -> np.ndarray:
    return np.concatenate([w[model].double().numpy().reshape(-1) for w in weights.values()])


def single_model(weights: Weights, model: int) -> Weights:
    return {name: w[model : model + 1] for name, w in weights.items()}


# --- merges -----------------------------------------------------------------------------------


def test_linear_merge_is_a_weighted_mean() -> None:
    shares = torch.tensor([[1.0, 2.0, 5.0]]) * torch.tensor([[1.0], [0.1], [3.0], [1.0]])
    shares[3] = torch.tensor([0.0, 1.0, -0.5])
    merged = merging.linear_merge(SETS, shares)
    for p in range(MODELS):
        expected = np.average([flat(s, p) for s in SETS], axis=0, weights=shares[p].numpy())
        np.testing.assert_allclose(flat(merged, p), expected, rtol=1e-5, atol=1e-6)
    same = merging.linear_merge(SETS, [0.2, 0.2, 0.2])
    torch.testing.assert_close(same["in"], torch.stack([s["in"] for s in SETS]).mean(0))


def test_task_arithmetic_equals_peft() -> None:
    peft = pytest.importorskip("peft.utils.merge_utils")
    scales = torch.tensor([[0.3, 0.5, -1.0]] * MODELS) * torch.arange(MODELS)[:, None]
    merged = merging.task_arithmetic(BASE, SETS, scales)
    for name, p in itertools.product(SHAPES, range(MODELS)):
        vectors = [s[name][p] - BASE[name][p] for s in SETS]
        expected = BASE[name][p] + peft.task_arithmetic(vectors, scales[p])
        torch.testing.assert_close(merged[name][p], expected)
    # one task vector with scale 1 gives its set
    merged = merging.task_arithmetic(BASE, SETS[:1], 1.0)
    torch.testing.assert_close(merged["out"], SETS[0]["out"])
    torch.testing.assert_close(merging.linear_merge([BASE])["in"], BASE["in"])


@pytest.mark.parametrize("density", [0.0, 0.2, 0.5, 0.99])
@pytest.mark.parametrize("trim_scope", ["model", "tensor"])
def test_ties_equals_peft(density: float, trim_scope: merging.Scope) -> None:
    peft = pytest.importorskip("peft.utils.merge_utils")
    scale = torch.tensor([1.0, 0.5, 2.0, 0.0])
    merged = merging.ties_merge(BASE, SETS, density, scale, trim_scope)
    for p in range(MODELS):
        factors = scale[p].expand(len(SETS))
        if trim_scope == "model":
            vectors = [torch.tensor(flat(s, p) - flat(BASE, p)).float() for s in SETS]
            expected = flat(BASE, p) + peft.ties(vectors, factors, density).double().numpy()
            np.testing.assert_allclose(flat(merged, p), expected, rtol=1e-5, atol=1e-6)
            continue
        for name in ("in", "bias", "out"):
            vectors = [s[name][p] - BASE[name][p] for s in SETS]
            expected = BASE[name][p] + peft.ties(vectors, factors, density)
            torch.testing.assert_close(merged[name][p], expected)


def test_ties_by_hand() -> None:
    """Trim to the larger half, elect signs by sums, average the entries of that sign."""
    base = {"w": torch.zeros(1, 4)}
    sets = [
        {"w": torch.tensor([row])}
        for row in ([3.0, -0.1, 2.0, 0.2], [1.0, 0.3, -5.0, 0.2], [-0.2, 0.1, 4.0, -4.0])
    ]
    # trimmed: (3, 0, 2, 0), (1, 0, -5, 0), (0, 0, 4, -4); signs: +, 0, +, -
    merged = merging.ties_merge(base, sets, density=0.5)
    assert merged["w"].tolist() == [[2.0, 0.0, 3.0, -4.0]]
    # where task vectors cancel there is no sign, and the weight stays at the base
    opposed = [{"w": torch.tensor([[1.0, 2.0]])}, {"w": torch.tensor([[-1.0, 2.0]])}]
    merged = merging.ties_merge({"w": torch.zeros(1, 2)}, opposed, density=1.0)
    assert merged["w"].tolist() == [[0.0, 2.0]]


def test_model_stock_is_a_least_squares_solution() -> None:
    """The geometry of its derivation: orthogonal deviations of the sets from a common center.

    Then the result is the projection of the center onto the hyperplane through the base and the
    sets, which numpy computes by least squares.
    """
    generator = np.random.default_rng(0)
    for count in (2, 3, 6):
        frame, _ = np.linalg.qr(generator.normal(size=(30, count + 1)))
        base = generator.normal(size=30)
        center = base + 2.0 * frame[:, 0]
        points = [center + 1.5 * frame[:, i + 1] for i in range(count)]
        vectors = np.stack([p - base for p in points], 1)
        projection = base + vectors @ np.linalg.lstsq(vectors, center - base, rcond=None)[0]
        stack = [{"w": torch.tensor(p)[None]} for p in (base, *points)]
        merged = merging.model_stock(stack[0], stack[1:])
        np.testing.assert_allclose(merged["w"][0], projection, rtol=1e-6)


def test_model_stock_ratio() -> None:
    def ratio(*rows: Sequence[float]) -> float:
        sets = [{"w": torch.tensor([row])} for row in rows]
        return float(merging.model_stock_ratio({"w": torch.zeros(1, 2)}, sets)["w"])

    half = 3**0.5 / 2
    assert ratio((1.0, 0.0), (0.5, half)) == pytest.approx(2 * 0.5 / 1.5)  # 60 degrees
    assert ratio((1.0, 0.0), (3.0, 0.0)) == pytest.approx(1.0)
    assert ratio((1.0, 0.0), (0.0, 2.0)) == 0.0
    assert ratio((1.0, 0.0), (-1.0, 0.1)) == 0.0  # limited to [0, 1]
    assert ratio((1.0, 0.0), (0.0, 0.0)) == 0.0  # one is unchanged
    # cosines 0.5, 0.5 and -0.5, mean 1/6
    third = 3 / 6 / (1 + 2 / 6)
    assert ratio((0.5, half), (1.0, 0.0), (0.5, -half)) == pytest.approx(third)


MERGES = {
    "linear": lambda base, sets: merging.linear_merge(sets),
    "task_arithmetic": lambda base, sets: merging.task_arithmetic(base, sets, 0.4),
    "ties": lambda base, sets: merging.ties_merge(base, sets),
    "model_stock": lambda base, sets: merging.model_stock(base, sets),
}


@pytest.mark.parametrize("merge", MERGES)
def test_models_are_independent(merge: str) -> None:
    """Stacked models equal single ones; NaN in one model changes its own merge only."""
    with_nan = [dict(weights) for weights in SETS]
    with_nan[1]["in"] = SETS[1]["in"].clone()
    with_nan[1]["in"][2, 1, 1] = torch.nan
    merged = MERGES[merge](BASE, with_nan)
    for p in (0, 1, 3):
        alone = MERGES[merge](single_model(BASE, p), [single_model(w, p) for w in SETS])
        for name in SHAPES:
            torch.testing.assert_close(merged[name][p], alone[name][0])
    assert merged["in"][2].isnan().any()


def test_a_set_with_weight_zero_is_ignored() -> None:
    nan = {name: torch.full_like(w, torch.nan) for name, w in BASE.items()}
    merged = merging.linear_merge([SETS[0], nan], [1.0, 0.0])
    assert all(torch.equal(merged[name], SETS[0][name]) for name in SHAPES)


# --- clusters ---------------------------------------------------------------------------------


def test_clusters_equal_complete_linkage_of_scipy() -> None:
    for seed in range(20):
        generator = np.random.default_rng(seed)
        sets = int(generator.integers(2, 9))
        transfer = generator.normal(size=(sets, sets))
        threshold = float(generator.normal(scale=0.5))
        distance = 10 - np.minimum(transfer, transfer.T)
        np.fill_diagonal(distance, 0)
        tree = scipy.cluster.hierarchy.linkage(
            scipy.spatial.distance.squareform(distance), "complete"
        )
        expected = scipy.cluster.hierarchy.fcluster(tree, 10 - threshold, "distance")
        cluster = complete_linkage_clusters(torch.tensor(transfer).float(), threshold).numpy()
        same = cluster[:, None] == cluster
        np.testing.assert_array_equal(same, expected[:, None] == expected)
        compatibility = np.minimum(transfer, transfer.T)[same & ~np.eye(sets, dtype=bool)]
        assert (compatibility >= threshold).all()
        first = [int(np.flatnonzero(cluster == label)[0]) for label in range(cluster.max() + 1)]
        assert first == sorted(first)


def test_merging_within_clusters() -> None:
    """Training for 0 helps 2 and vice versa; training for 1 helps 0, but that for 0 harms 1."""
    transfer = torch.tensor([[1.0, -0.2, 0.5], [0.9, 1.0, 0.1], [0.3, -0.1, 1.0]])
    transfers = torch.stack([transfer, transfer.abs(), transfer, -transfer])
    result = merge_by_cluster(BASE, SETS, transfers)
    assert result.cluster.tolist() == [[0, 1, 0], [0, 0, 0], [0, 1, 0], [0, 1, 2]]
    pair, all_three = merging.ties_merge(BASE, [SETS[0], SETS[2]]), merging.ties_merge(BASE, SETS)
    for name in SHAPES:
        for model, expected in enumerate(
            [
                (pair, SETS[1], pair),
                (all_three, all_three, all_three),
                (pair, SETS[1], pair),
                tuple(SETS),
            ]
        ):
            for merged, weight in zip(expected, result.weights, strict=True):
                assert torch.equal(weight[name][model], merged[name][model])
    by_stock = merge_by_cluster(BASE, SETS, transfer, merge=merging.model_stock)
    stock = merging.model_stock(BASE, [SETS[0], SETS[2]])
    assert torch.equal(by_stock.weights[2]["in"], stock["in"])
    unknown = transfer.clone()
    unknown[0, 2] = torch.nan
    assert complete_linkage_clusters(unknown).tolist() == [0, 1, 2]


# --- state dicts ------------------------------------------------------------------------------


def module(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Embedding(5, 4), torch.nn.BatchNorm1d(3), torch.nn.Linear(4, 2)
    )


def test_state_dicts_of_models() -> None:
    """One model is a stack of one; counters are unchanged; half precision is rounded once."""
    base, *trained = (module(seed).half().state_dict() for seed in range(3))
    merged = stacked_weights.squeeze(
        merging.ties_merge(
            stacked_weights.unsqueeze(base),
            [stacked_weights.unsqueeze(state) for state in trained],
            0.3,
        )
    )
    assert merged["1.num_batches_tracked"].dtype == torch.int64
    module(7).half().load_state_dict(merged)
    single = [{n: w.float() for n, w in state.items()} for state in (base, *trained)]
    exact = merging.ties_merge(
        stacked_weights.unsqueeze(single[0]),
        [stacked_weights.unsqueeze(state) for state in single[1:]],
        0.3,
    )
    for name, weight in merged.items():
        assert weight.dtype == base[name].dtype and weight.shape == base[name].shape
        assert torch.equal(weight, exact[name][0].to(weight.dtype))

    stacked = stacked_weights.stack_state_dicts([base, *trained])
    assert stacked["0.weight"].shape == (3, 5, 4)
    assert all(
        torch.equal(stacked_weights.squeeze(stacked, 1)[n], w) for n, w in trained[0].items()
    )
    view = stacked_weights.unsqueeze(base)["0.weight"]
    assert view.data_ptr() == base["0.weight"].data_ptr()


def test_invalid_arguments() -> None:
    one, other = module(0).state_dict(), module(1).state_dict()
    with refused("wrong_shape", path="1.weight"):
        merging.linear_merge([one, other])
    with refused("missing", path="weight_sets"):
        merging.linear_merge([])
    with refused("invalid_value", path="set_weights"):
        merging.linear_merge(SETS, [1.0, -1.0, 0.0])
    with refused("wrong_shape", path="set_weights"):
        merging.linear_merge(SETS, [1.0, 1.0])
    with refused("unknown_name", path="inn"):
        merging.linear_merge([BASE, {("inn" if n == "in" else n): w for n, w in BASE.items()}])
    with refused("wrong_shape", path="in"):
        merging.ties_merge({**BASE, "in": BASE["in"].mT}, [{**BASE, "in": BASE["in"].mT}, BASE])
    with refused("out_of_range", path="density"):
        merging.ties_merge(BASE, SETS, density=20.0)
    with refused("wrong_shape", path="weight_sets"):
        merging.model_stock(BASE, SETS[:1])
    with refused("wrong_shape", path="transfer"):
        merge_by_cluster(BASE, SETS, torch.eye(2))
    with refused("missing", path="state_dicts"):
        stacked_weights.stack_state_dicts([])
