"""Merging against PEFT, numpy, scipy and closed forms; stacks of policies against single ones."""

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
POLICIES = 4
Weights = dict[str, Tensor]


def weights(seed: int, policies: int = POLICIES) -> Weights:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(policies, *shape, generator=generator) for name, shape in SHAPES.items()
    }


BASE = weights(0)
SETS = [weights(seed) for seed in (1, 2, 3)]


def line(one: Weights, policy: int) -> np.ndarray:
    return np.concatenate([w[policy].double().numpy().reshape(-1) for w in one.values()])


def only(one: Weights, policy: int) -> Weights:
    return {name: w[policy : policy + 1] for name, w in one.items()}


# --- merges -----------------------------------------------------------------------------------


def test_linear_is_a_weighted_mean() -> None:
    shares = torch.tensor([[1.0, 2.0, 5.0]]) * torch.tensor([[1.0], [0.1], [3.0], [1.0]])
    shares[3] = torch.tensor([0.0, 1.0, -0.5])
    merged = merging.linear_merge(SETS, shares)
    for p in range(POLICIES):
        expected = np.average([line(s, p) for s in SETS], axis=0, weights=shares[p].numpy())
        np.testing.assert_allclose(line(merged, p), expected, rtol=1e-5, atol=1e-6)
    same = merging.linear_merge(SETS, [0.2, 0.2, 0.2])
    torch.testing.assert_close(same["in"], torch.stack([s["in"] for s in SETS]).mean(0))


def test_task_vectors_add_up_as_in_peft() -> None:
    peft = pytest.importorskip("peft.utils.merge_utils")
    scales = torch.tensor([[0.3, 0.5, -1.0]] * POLICIES) * torch.arange(POLICIES)[:, None]
    merged = merging.task_arithmetic(BASE, SETS, scales)
    for name, p in itertools.product(SHAPES, range(POLICIES)):
        vectors = [s[name][p] - BASE[name][p] for s in SETS]
        theirs = BASE[name][p] + peft.task_arithmetic(vectors, scales[p])
        torch.testing.assert_close(merged[name][p], theirs)
    # learned and unlearned again
    there = merging.task_arithmetic(BASE, SETS[:1], 1.0)
    torch.testing.assert_close(there["out"], SETS[0]["out"])
    torch.testing.assert_close(merging.linear_merge([BASE])["in"], BASE["in"])


@pytest.mark.parametrize("kept", [0.0, 0.2, 0.5, 0.99])
@pytest.mark.parametrize("over", ["model", "tensor"])
def test_ties_is_pefts(kept: float, over: merging.Scope) -> None:
    peft = pytest.importorskip("peft.utils.merge_utils")
    scale = torch.tensor([1.0, 0.5, 2.0, 0.0])
    merged = merging.ties_merge(BASE, SETS, kept, scale, over)
    for p in range(POLICIES):
        factors = scale[p].expand(len(SETS))
        if over == "model":
            vectors = [torch.tensor(line(s, p) - line(BASE, p)).float() for s in SETS]
            theirs = line(BASE, p) + peft.ties(vectors, factors, kept).double().numpy()
            np.testing.assert_allclose(line(merged, p), theirs, rtol=1e-5, atol=1e-6)
            continue
        for name in ("in", "bias", "out"):
            vectors = [s[name][p] - BASE[name][p] for s in SETS]
            theirs = BASE[name][p] + peft.ties(vectors, factors, kept)
            torch.testing.assert_close(merged[name][p], theirs)


def test_ties_by_hand() -> None:
    """Trimmed to the larger half, outvoted by mass, averaged over those that agree."""
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


def test_model_stock_finds_the_foot_below_the_centre() -> None:
    """The geometry it is derived from: sets scattered at right angles around a centre.

    Then the point of the sets' hyperplane through the base that is nearest to the centre is a least
    squares solution, which numpy finds from the sets alone.
    """
    generator = np.random.default_rng(0)
    for count in (2, 3, 6):
        frame, _ = np.linalg.qr(generator.normal(size=(30, count + 1)))
        base = generator.normal(size=30)
        centre = base + 2.0 * frame[:, 0]
        points = [centre + 1.5 * frame[:, i + 1] for i in range(count)]
        vectors = np.stack([p - base for p in points], 1)
        foot = base + vectors @ np.linalg.lstsq(vectors, centre - base, rcond=None)[0]
        stack = [{"w": torch.tensor(p)[None]} for p in (base, *points)]
        merged = merging.model_stock(stack[0], stack[1:])
        np.testing.assert_allclose(merged["w"][0], foot, rtol=1e-6)


def test_model_stock_ratio() -> None:
    def ratio(*rows: Sequence[float]) -> float:
        sets = [{"w": torch.tensor([row])} for row in rows]
        return float(merging.model_stock_ratio({"w": torch.zeros(1, 2)}, sets)["w"])

    half = 3**0.5 / 2
    assert ratio((1.0, 0.0), (0.5, half)) == pytest.approx(2 * 0.5 / 1.5)  # 60 degrees
    assert ratio((1.0, 0.0), (3.0, 0.0)) == pytest.approx(1.0)
    assert ratio((1.0, 0.0), (0.0, 2.0)) == 0.0
    assert ratio((1.0, 0.0), (-1.0, 0.1)) == 0.0  # held within [0, 1]
    assert ratio((1.0, 0.0), (0.0, 0.0)) == 0.0  # one did not move
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
def test_policies_do_not_meet(merge: str) -> None:
    """Together as alone; a broken policy breaks its own merge, visibly, and no other."""
    sick = [dict(one) for one in SETS]
    sick[1]["in"] = SETS[1]["in"].clone()
    sick[1]["in"][2, 1, 1] = torch.nan
    merged = MERGES[merge](BASE, sick)
    for p in (0, 1, 3):
        alone = MERGES[merge](only(BASE, p), [only(one, p) for one in SETS])
        for name in SHAPES:
            torch.testing.assert_close(merged[name][p], alone[name][0])
    assert merged["in"][2].isnan().any()


def test_a_set_that_does_not_count_is_not_looked_at() -> None:
    broken = {name: torch.full_like(w, torch.nan) for name, w in BASE.items()}
    merged = merging.linear_merge([SETS[0], broken], [1.0, 0.0])
    assert all(torch.equal(merged[name], SETS[0][name]) for name in SHAPES)


# --- groups -----------------------------------------------------------------------------------


def test_clusters_are_scipys_complete_linkage() -> None:
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
        theirs = scipy.cluster.hierarchy.fcluster(tree, 10 - threshold, "distance")
        ours = complete_linkage_clusters(torch.tensor(transfer).float(), threshold).numpy()
        together = ours[:, None] == ours
        np.testing.assert_array_equal(together, theirs[:, None] == theirs)
        bonds = np.minimum(transfer, transfer.T)[together & ~np.eye(sets, dtype=bool)]
        assert (bonds >= threshold).all()
        first = [int(np.flatnonzero(ours == label)[0]) for label in range(ours.max() + 1)]
        assert first == sorted(first)


def test_groups_are_merged_within_clusters() -> None:
    """Training for 0 helps 2 and the other way round; 1 helps 0 and is harmed by it: asymmetric."""
    transfer = torch.tensor([[1.0, -0.2, 0.5], [0.9, 1.0, 0.1], [0.3, -0.1, 1.0]])
    friends = torch.stack([transfer, transfer.abs(), transfer, -transfer])
    found = merge_by_cluster(BASE, SETS, friends)
    assert found.cluster.tolist() == [[0, 1, 0], [0, 0, 0], [0, 1, 0], [0, 1, 2]]
    pair, all_three = merging.ties_merge(BASE, [SETS[0], SETS[2]]), merging.ties_merge(BASE, SETS)
    for name in SHAPES:
        for policy, expected in enumerate(
            [
                (pair, SETS[1], pair),
                (all_three, all_three, all_three),
                (pair, SETS[1], pair),
                tuple(SETS),
            ]
        ):
            for own, weight in zip(expected, found.weights, strict=True):
                assert torch.equal(weight[name][policy], own[name][policy])
    shared = merge_by_cluster(BASE, SETS, transfer, merge=merging.model_stock)
    mixed = merging.model_stock(BASE, [SETS[0], SETS[2]])
    assert torch.equal(shared.weights[2]["in"], mixed["in"])
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
    """One model is a stack of one; counters are handed on; half precision is rounded once."""
    base, *trained = (module(seed).half().state_dict() for seed in range(3))
    merged = stacked_weights.squeeze(
        merging.ties_merge(
            stacked_weights.unsqueeze(base),
            [stacked_weights.unsqueeze(one) for one in trained],
            0.3,
        )
    )
    assert merged["1.num_batches_tracked"].dtype == torch.int64
    module(7).half().load_state_dict(merged)
    wide = [{n: w.float() for n, w in one.items()} for one in (base, *trained)]
    exact = merging.ties_merge(
        stacked_weights.unsqueeze(wide[0]),
        [stacked_weights.unsqueeze(one) for one in wide[1:]],
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


def test_bad_input() -> None:
    one, other = module(0).state_dict(), module(1).state_dict()
    with refused("wrong_shape", path="1.weight"):
        merging.linear_merge([one, other])
    with refused("missing", path="several"):
        merging.linear_merge([])
    with refused("invalid_value", path="shares"):
        merging.linear_merge(SETS, [1.0, -1.0, 0.0])
    with refused("wrong_shape", path="shares"):
        merging.linear_merge(SETS, [1.0, 1.0])
    with refused("unknown_name", path="inn"):
        merging.linear_merge([BASE, {("inn" if n == "in" else n): w for n, w in BASE.items()}])
    with refused("wrong_shape", path="in"):
        merging.ties_merge({**BASE, "in": BASE["in"].mT}, [{**BASE, "in": BASE["in"].mT}, BASE])
    with refused("out_of_range", path="kept"):
        merging.ties_merge(BASE, SETS, density=20.0)
    with refused("wrong_shape", path="several"):
        merging.model_stock(BASE, SETS[:1])
    with refused("wrong_shape", path="transfer"):
        merge_by_cluster(BASE, SETS, torch.eye(2))
    with refused("missing", path="several"):
        stacked_weights.stack_state_dicts([])
