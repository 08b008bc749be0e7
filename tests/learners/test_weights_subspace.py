"""Projections and overlap of weight changes, against numpy, scipy's principal angles and chance."""

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


def fading(seed: int, policies: int, rows: int, columns: int) -> Tensor:
    """Matrices whose singular values fall, as those of learned changes do."""
    scale = 0.6 ** torch.arange(columns)
    return matrices(seed, policies, rows, columns) * scale


@pytest.mark.parametrize("share", [0.01, 0.4, 1.0])
def test_split_is_numpys(share: float) -> None:
    update = {"w": fading(0, 3, 6, 5), "b": matrices(1, 3, 1, 5), "v": matrices(2, 3, 4)}
    change = {"w": fading(3, 3, 6, 5), "b": matrices(4, 3, 1, 5), "v": matrices(5, 3, 4)}
    found = subspace.split_by_subspace(update, change, share)
    for p in range(3):
        kept = whole = inner = other = 0.0
        for name, moved in update.items():
            u, d = moved[p].double().numpy(), change[name][p].double().numpy()
            if name == "w":
                left = np.linalg.svd(d)[0][:, : max(1, round(share * 5))]
                onto = left @ left.T @ u
            else:
                onto = (u.ravel() @ d.ravel()) / (d.ravel() @ d.ravel()) * d
            np.testing.assert_allclose(found.projection[name][p], onto, atol=1e-5)
            np.testing.assert_allclose(found.residual[name][p], u - onto, atol=1e-5)
            kept, whole = kept + (onto**2).sum(), whole + (u**2).sum()
            inner, other = inner + (u * d).sum(), other + (d**2).sum()
        assert float(found.energy_fraction[p]) == pytest.approx(kept / whole, rel=1e-4)
        # the cosine that the published script meant: lengths of both, not of one
        assert float(found.cosine[p]) == pytest.approx(inner / np.sqrt(whole * other), rel=1e-4)


def test_sides() -> None:
    """What stacked policies write are columns: the rows of torch's linear layers."""
    update, change = fading(0, 2, 6, 5), fading(1, 2, 6, 5)
    stacked = subspace.split_by_subspace({"w": update}, {"w": change}, 0.4, side="columns")
    torchs = subspace.split_by_subspace({"w": update.mT}, {"w": change.mT}, 0.4, side="rows")
    torch.testing.assert_close(stacked.projection["w"], torchs.projection["w"].mT)
    one = subspace.mode_subspace_overlap(update, change, 0.9, "columns")
    other = subspace.mode_subspace_overlap(update.mT, change.mT, 0.9, "rows")
    torch.testing.assert_close(one.overlap, other.overlap)
    # a kernel is a matrix of its first dimension and the rest
    kernel = subspace.split_by_subspace(
        {"k": update.view(2, 6, 1, 5)}, {"k": change.view(2, 6, 1, 5)}, 0.4
    )
    plain = subspace.split_by_subspace({"k": update}, {"k": change}, 0.4)
    torch.testing.assert_close(kernel.projection["k"].view(2, 6, 5), plain.projection["k"])


def test_an_update_within_the_change_is_kept_whole() -> None:
    change = matrices(0, 2, 6, 1) @ matrices(1, 2, 1, 5)
    inside = change @ matrices(2, 2, 5, 5)
    # asked for three directions, but the change has one: rounding errors are not directions
    found = subspace.split_by_subspace({"w": inside}, {"w": change}, 0.6)
    torch.testing.assert_close(found.energy_fraction, torch.ones(2))
    assert subspace.top_singular_directions(change, rank_fraction=0.6).rank.tolist() == [1, 1]
    outside = subspace.split_by_subspace(
        {"w": found.residual["w"] + matrices(3, 2, 6, 5)}, {"w": change}, 0.6
    )
    basis = subspace.top_singular_directions(change, rank_fraction=0.6).basis
    torch.testing.assert_close(
        (basis.mT @ outside.residual["w"]), torch.zeros(2, 5, 5), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("energy", [0.3, 0.9, 0.99, 1.0])
def test_overlap_is_that_of_principal_angles(energy: float) -> None:
    """‖Q_Vᵀ Q_W‖² is the sum of squared cosines of the angles that scipy finds."""
    one, other = fading(0, 4, 8, 6), fading(1, 4, 8, 6)
    found = subspace.mode_subspace_overlap(one, other, energy)
    for p in range(4):
        bases = []
        for matrix in (one[p], other[p]):
            left, strength, _ = np.linalg.svd(matrix.double().numpy(), full_matrices=False)
            held = np.cumsum(strength**2) / (strength**2).sum()
            bases.append(left[:, : int(np.argmax(held >= energy - 1e-9)) + 1])
        ranks = [basis.shape[1] for basis in bases]
        cosines = np.cos(scipy.linalg.subspace_angles(*bases))
        assert found.ranks[p].tolist() == ranks
        assert float(found.overlap[p]) == pytest.approx((cosines**2).sum() / min(ranks), rel=1e-4)
        assert float(found.expected_overlap[p]) == pytest.approx(max(ranks) / 8)


def test_overlap_at_its_ends_and_by_chance() -> None:
    change = fading(2, 2, 8, 6)
    same = subspace.mode_subspace_overlap(change, 3 * change, 0.9)
    torch.testing.assert_close(same.overlap, torch.ones(2))
    upper, lower = torch.zeros(1, 8, 6), torch.zeros(1, 8, 6)
    upper[:, :4], lower[:, 4:] = fading(3, 1, 4, 6), fading(4, 1, 4, 6)
    assert float(subspace.mode_subspace_overlap(upper, lower, 0.9).overlap) < 1e-10
    # By chance: 4000 pairs, standard error of the mean below 0.002; 4 of them are 0.008.
    one, other = matrices(5, 4000, 10, 3), matrices(6, 4000, 10, 2)
    random = subspace.mode_subspace_overlap(one, other, 1.0)
    assert random.ranks[0].tolist() == [3, 2]
    spread = float(random.overlap.std()) / 4000**0.5
    assert spread < 0.004
    assert float(random.overlap.mean()) == pytest.approx(0.3, abs=4 * spread)
    assert float(random.expected_overlap[0]) == pytest.approx(0.3)


def test_policies_do_not_meet() -> None:
    update, change = fading(7, 3, 6, 5), fading(8, 3, 6, 5)
    well, over = (
        subspace.split_by_subspace({"w": update}, {"w": change}, 0.4),
        subspace.mode_subspace_overlap(update, change, 0.9),
    )
    sick = change.clone()
    sick[1, 0, 0] = torch.nan
    found = subspace.split_by_subspace({"w": update}, {"w": sick}, 0.4)
    for p in (0, 2):
        torch.testing.assert_close(found.projection["w"][p], well.projection["w"][p])
        torch.testing.assert_close(
            subspace.mode_subspace_overlap(update, sick, 0.9).overlap[p], over.overlap[p]
        )
        alone = subspace.split_by_subspace({"w": update[p : p + 1]}, {"w": change[p : p + 1]}, 0.4)
        torch.testing.assert_close(found.projection["w"][p], alone.projection["w"][0])
    assert found.projection["w"][1].isnan().all() and found.energy_fraction[1].isnan()
    still = change.clone()
    still[1] = 0.0
    assert subspace.mode_subspace_overlap(update, still, 0.9).overlap.isnan().tolist() == [
        False,
        True,
        False,
    ]
    assert (
        subspace.split_by_subspace({"w": update}, {"w": still}, 0.4).projection["w"][1] == 0
    ).all()


def test_bad_input() -> None:
    change = matrices(0, 2, 4, 3)
    with refused("missing", path="share"):
        subspace.top_singular_directions(change)
    with refused("conflict", path="share"):
        subspace.top_singular_directions(change, rank_fraction=0.5, energy_fraction=0.5)
    with refused("out_of_range", path="energy"):
        subspace.mode_subspace_overlap(change, change, 90.0)
    with refused("wrong_shape", path="other"):
        subspace.mode_subspace_overlap(change, change.mT, 0.9)
    with refused("wrong_shape", path="w"):
        subspace.split_by_subspace({"w": change}, {"w": change.mT}, 0.5)
