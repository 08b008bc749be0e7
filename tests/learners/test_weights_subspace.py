"""Projections and overlaps of weight changes: numpy, principal angles of scipy, random matrices."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from mores.agents.learning.weights import subspace
from tests.refusals import refused


def matrices(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def decaying(seed: int, models: int, rows: int, columns: int) -> Tensor:
    """Matrices with decreasing singular values, as those of learned changes."""
    scale = 0.6 ** torch.arange(columns)
    return matrices(seed, models, rows, columns) * scale


@pytest.mark.parametrize("rank_fraction", [0.01, 0.4, 1.0])
def test_split_equals_numpy(rank_fraction: float) -> None:
    update = {"w": decaying(0, 3, 6, 5), "b": matrices(1, 3, 1, 5), "v": matrices(2, 3, 4)}
    change = {"w": decaying(3, 3, 6, 5), "b": matrices(4, 3, 1, 5), "v": matrices(5, 3, 4)}
    split = subspace.split_by_subspace(update, change, rank_fraction)
    for p in range(3):
        uu = vv = uv = projected = 0.0
        for name, tensor in update.items():
            u, v = tensor[p].double().numpy(), change[name][p].double().numpy()
            if name == "w":
                left = np.linalg.svd(v)[0][:, : max(1, round(rank_fraction * 5))]
                projection = left @ left.T @ u
            else:
                projection = (u.ravel() @ v.ravel()) / (v.ravel() @ v.ravel()) * v
            np.testing.assert_allclose(split.projection[name][p], projection, atol=1e-5)
            np.testing.assert_allclose(split.residual[name][p], u - projection, atol=1e-5)
            projected, uu = projected + (projection**2).sum(), uu + (u**2).sum()
            uv, vv = uv + (u * v).sum(), vv + (v**2).sum()
        assert float(split.energy_fraction[p]) == pytest.approx(projected / uu, rel=1e-4)
        # the cosine intended by the published script: lengths of both, not of one
        assert float(split.cosine[p]) == pytest.approx(uv / np.sqrt(uu * vv), rel=1e-4)


def test_sides() -> None:
    """Outputs of stacked models are columns, those of torch's linear layers rows."""
    update, change = decaying(0, 2, 6, 5), decaying(1, 2, 6, 5)
    stacked = subspace.split_by_subspace({"w": update}, {"w": change}, 0.4, side="columns")
    linear = subspace.split_by_subspace({"w": update.mT}, {"w": change.mT}, 0.4, side="rows")
    torch.testing.assert_close(stacked.projection["w"], linear.projection["w"].mT)
    one = subspace.mode_subspace_overlap(update, change, 0.9, "columns")
    other = subspace.mode_subspace_overlap(update.mT, change.mT, 0.9, "rows")
    torch.testing.assert_close(one.overlap, other.overlap)
    # a kernel is a matrix of its first dimension and the rest
    kernel = subspace.split_by_subspace(
        {"k": update.view(2, 6, 1, 5)}, {"k": change.view(2, 6, 1, 5)}, 0.4
    )
    plain = subspace.split_by_subspace({"k": update}, {"k": change}, 0.4)
    torch.testing.assert_close(kernel.projection["k"].view(2, 6, 5), plain.projection["k"])


def test_an_update_within_the_subspace_has_no_residual() -> None:
    change = matrices(0, 2, 6, 1) @ matrices(1, 2, 1, 5)
    inside = change @ matrices(2, 2, 5, 5)
    # three directions requested, but the change has one: rounding errors are not directions
    split = subspace.split_by_subspace({"w": inside}, {"w": change}, 0.6)
    torch.testing.assert_close(split.energy_fraction, torch.ones(2))
    assert subspace.top_singular_directions(change, rank_fraction=0.6).rank.tolist() == [1, 1]
    outside = subspace.split_by_subspace(
        {"w": split.residual["w"] + matrices(3, 2, 6, 5)}, {"w": change}, 0.6
    )
    basis = subspace.top_singular_directions(change, rank_fraction=0.6).basis
    torch.testing.assert_close(
        (basis.mT @ outside.residual["w"]), torch.zeros(2, 5, 5), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("energy", [0.3, 0.9, 0.99, 1.0])
def test_overlap_equals_that_of_principal_angles(energy: float) -> None:
    """‖Q_Vᵀ Q_W‖² is the sum of squared cosines of scipy's principal angles."""
    one, other = decaying(0, 4, 8, 6), decaying(1, 4, 8, 6)
    result = subspace.mode_subspace_overlap(one, other, energy)
    for p in range(4):
        bases = []
        for matrix in (one[p], other[p]):
            left, singular, _ = np.linalg.svd(matrix.double().numpy(), full_matrices=False)
            cumulative = np.cumsum(singular**2) / (singular**2).sum()
            bases.append(left[:, : int(np.argmax(cumulative >= energy - 1e-9)) + 1])
        ranks = [basis.shape[1] for basis in bases]
        cosines = np.cos(scipy.linalg.subspace_angles(*bases))
        assert result.ranks[p].tolist() == ranks
        assert float(result.overlap[p]) == pytest.approx((cosines**2).sum() / min(ranks), rel=1e-4)
        assert float(result.expected_overlap[p]) == pytest.approx(max(ranks) / 8)


def test_overlap_of_equal_orthogonal_and_random_subspaces() -> None:
    change = decaying(2, 2, 8, 6)
    same = subspace.mode_subspace_overlap(change, 3 * change, 0.9)
    torch.testing.assert_close(same.overlap, torch.ones(2))
    upper, lower = torch.zeros(1, 8, 6), torch.zeros(1, 8, 6)
    upper[:, :4], lower[:, 4:] = decaying(3, 1, 4, 6), decaying(4, 1, 4, 6)
    assert float(subspace.mode_subspace_overlap(upper, lower, 0.9).overlap) < 1e-10
    # Random: 4000 pairs, standard error of the mean below 0.002; 4 of them are 0.008.
    one, other = matrices(5, 4000, 10, 3), matrices(6, 4000, 10, 2)
    random = subspace.mode_subspace_overlap(one, other, 1.0)
    assert random.ranks[0].tolist() == [3, 2]
    standard_error = float(random.overlap.std()) / 4000**0.5
    assert standard_error < 0.004
    assert float(random.overlap.mean()) == pytest.approx(0.3, abs=4 * standard_error)
    assert float(random.expected_overlap[0]) == pytest.approx(0.3)


def test_models_are_independent() -> None:
    update, change = decaying(7, 3, 6, 5), decaying(8, 3, 6, 5)
    split = subspace.split_by_subspace({"w": update}, {"w": change}, 0.4)
    overlap = subspace.mode_subspace_overlap(update, change, 0.9).overlap
    with_nan = change.clone()
    with_nan[1, 0, 0] = torch.nan
    nan_split = subspace.split_by_subspace({"w": update}, {"w": with_nan}, 0.4)
    nan_overlap = subspace.mode_subspace_overlap(update, with_nan, 0.9).overlap
    for p in (0, 2):
        torch.testing.assert_close(nan_split.projection["w"][p], split.projection["w"][p])
        torch.testing.assert_close(nan_overlap[p], overlap[p])
        alone = subspace.split_by_subspace({"w": update[p : p + 1]}, {"w": change[p : p + 1]}, 0.4)
        torch.testing.assert_close(nan_split.projection["w"][p], alone.projection["w"][0])
    assert nan_split.projection["w"][1].isnan().all() and nan_split.energy_fraction[1].isnan()
    with_zero = change.clone()
    with_zero[1] = 0.0
    zero_overlap = subspace.mode_subspace_overlap(update, with_zero, 0.9).overlap
    assert zero_overlap.isnan().tolist() == [False, True, False]
    zero_split = subspace.split_by_subspace({"w": update}, {"w": with_zero}, 0.4)
    assert (zero_split.projection["w"][1] == 0).all()


def test_invalid_arguments() -> None:
    change = matrices(0, 2, 4, 3)
    with refused("missing", path="rank_fraction"):
        subspace.top_singular_directions(change)
    with refused("conflict", path="rank_fraction"):
        subspace.top_singular_directions(change, rank_fraction=0.5, energy_fraction=0.5)
    with refused("out_of_range", path="energy_fraction"):
        subspace.mode_subspace_overlap(change, change, 90.0)
    with refused("wrong_shape", path="other"):
        subspace.mode_subspace_overlap(change, change.mT, 0.9)
    with refused("wrong_shape", path="w"):
        subspace.split_by_subspace({"w": change}, {"w": change.mT}, 0.5)
