"""Subspaces of weight differences: what lies in the top directions of one change, and how much two
changes share.

With a change Δ = W_aligned - W_base of a matrix and its singular value decomposition Δ = U S Vᵀ,
Q is the first k columns of U, and the update U_t of a later task splits into

    onto = Q Qᵀ U_t      off = U_t - Q Qᵀ U_t      energy kept ‖onto‖² / ‖U_t‖²

For two changes V, W with bases that hold a share η of their energies (squared singular values), the
mode subspace overlap is

    MSO = ‖Q_Vᵀ Q_W‖²_F / min(k_V, k_W)      by chance max(k_V, k_W) / d

Source: Ponkshe et al. 2025, "Safety Subspaces are Not Linearly Distinct" (arXiv 2505.14185). The
cosine of a task's update with the change divides by √(U·U) √(V·V); the authors' script
(github.com/CERT-Lab/safety-subspaces, scripts/projection_helper.py) divides by √(U·V) √(V·V), which
is no cosine. Directions of singular values that are nothing but rounding do not count here.

`side` says of which dimension the directions are. The paper takes those of what a layer writes:
rows of `torch.nn.Linear.weight`, `[output, input]`. Stacked policies `[policy, input, output]`
write columns. Vectors, and matrices with one row or column, are vectors: their change is one
direction. Tensors of more dimensions are matrices of their first dimension and the rest.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mores.agents.learning.weights.stacked_weights import (
    StackedWeights,
    check_fraction,
    check_layout,
    floating_point_names,
    upcast,
)
from mores.core.errors import UserError

Side = Literal["rows", "columns"]


class SubspaceBasis(NamedTuple):
    """Orthonormal directions of a change, the strongest first.

    Attributes:
        basis: one a column; zero beyond the rank.
        rank: how many there are.
    """

    basis: Float[Tensor, "policy size direction"]
    rank: Int[Tensor, " policy"]


class SubspaceSplit(NamedTuple):
    """An update in two parts that add up to it, and how it lies to the change.

    Attributes:
        projection: what lies in the top directions of the change, by name.
        residual: the rest.
        energy_fraction: share of the update's squared length that `projection` holds, over all tensors; NaN for
            an update that is zero.
        cosine: between update and change, over all tensors.
    """

    projection: dict[str, Tensor]
    residual: dict[str, Tensor]
    energy_fraction: Float[Tensor, " policy"]
    cosine: Float[Tensor, " policy"]


class SubspaceOverlap(NamedTuple):
    """How much of two changes' subspaces is shared.

    Attributes:
        overlap: 0 to 1; NaN where one of the changes is zero.
        expected_overlap: what two subspaces of these sizes share at random.
        ranks: sizes of both, `[policy, 2]`.
    """

    overlap: Float[Tensor, " policy"]
    expected_overlap: Float[Tensor, " policy"]
    ranks: Int[Tensor, "policy 2"]


def top_singular_directions(
    change: Float[Tensor, "policy *shape"],
    side: Side = "rows",
    *,
    rank_fraction: float | None = None,
    energy_fraction: float | None = None,
) -> SubspaceBasis:
    """Top singular directions of a change, by policy.

    Args:
        change: difference of two weights.
        side: of which dimension the directions are.
        rank_fraction: take this share of all directions, rounded, at least one.
        energy_fraction: or take as few as hold this share of the change's squared length.

    Raises:
        UserError: not exactly one of `rank_fraction` and `energy_fraction` is given, or it is no share.
    """
    if (rank_fraction is None) == (energy_fraction is None):
        code = "missing" if rank_fraction is None else "conflict"
        message = "directions are taken by share or by energy: give one of them"
        raise UserError(message, code=code, path="share")
    matrix = _as_matrix(change, side)
    broken = ~matrix.isfinite().all(-1).all(-1)
    # One policy's NaN would stop the decomposition of all.
    sound = torch.where(broken[:, None, None], 0.0, matrix)
    left, strength, _ = torch.linalg.svd(sound, full_matrices=False)
    room = strength.shape[1]
    noise = strength[:, :1] * max(matrix.shape[1:]) * torch.finfo(matrix.dtype).eps
    solid = ((strength > noise) & (strength > 0)).sum(1)
    if rank_fraction is not None:
        check_fraction(rank_fraction, "share")
        rank = torch.full_like(solid, max(1, round(rank_fraction * room)))
    else:
        check_fraction(energy_fraction if energy_fraction is not None else 1.0, "energy_fraction")
        held = strength.square().cumsum(1)
        enough = (
            energy_fraction * held[:, -1:] * (1 - 1e-6)
        )  # a sum of all may miss the whole by rounding
        rank = (held < enough).sum(1) + 1
    rank = torch.minimum(rank, solid)
    basis = torch.where(torch.arange(room, device=rank.device) < rank[:, None, None], left, 0.0)
    return SubspaceBasis(torch.where(broken[:, None, None], torch.nan, basis), rank)


def split_by_subspace(
    update: StackedWeights, change: StackedWeights, rank_fraction: float, side: Side = "rows"
) -> SubspaceSplit:
    """Split an update into what lies in the top directions of a change, and the rest.

    Args:
        update: how a later task moved weights.
        change: how alignment moved them.
        rank_fraction: share of each matrix's directions that span the subspace, 0 to 1.
        side: of which dimension the directions are.

    Raises:
        UserError: layouts differ, or `rank_fraction` or `side` is none of these.
    """
    check_layout(update, change)
    onto, off = {}, {}
    sums = torch.zeros(0)
    for name in floating_point_names(update):
        moved, axis = _as_matrix(update[name], side), _as_matrix(change[name], side)
        basis = top_singular_directions(change[name], side, rank_fraction=rank_fraction).basis
        part = basis @ (basis.mT @ moved)
        products = [part * part, moved * moved, moved * axis, axis * axis]
        products = torch.stack([product.flatten(1).sum(1) for product in products])
        sums = sums + products if sums.numel() else products
        onto[name] = _from_matrix(part, update[name], side)
        off[name] = update[name] - onto[name]
    kept, length, inner, other = sums
    return SubspaceSplit(onto, off, kept / length, inner / (length.sqrt() * other.sqrt()))


def mode_subspace_overlap(
    one: Float[Tensor, "policy *shape"],
    other: Float[Tensor, "policy *other_shape"],
    energy_fraction: float,
    side: Side = "rows",
) -> SubspaceOverlap:
    """Mode subspace overlap of two changes, whose directions have the same size.

    Args:
        one: a change.
        other: another.
        energy_fraction: share η of each change's squared length that its subspace holds, 0 to 1.
        side: of which dimension the directions are.

    Raises:
        UserError: sizes differ, or `energy_fraction` is no share.
    """
    a, b = (
        top_singular_directions(one, side, energy_fraction=energy_fraction),
        top_singular_directions(other, side, energy_fraction=energy_fraction),
    )
    if a.basis.shape[1] != b.basis.shape[1]:
        raise UserError(
            f"directions of {a.basis.shape[1]} and of {b.basis.shape[1]} numbers cannot overlap: "
            f"{side} of {tuple(one.shape)} and of {tuple(other.shape)}",
            code="wrong_shape",
            path="other",
        )
    shared = (a.basis.mT @ b.basis).square().flatten(1).sum(1)
    ranks = torch.stack([a.rank, b.rank], 1)
    chance = ranks.amax(1) / a.basis.shape[1]
    return SubspaceOverlap(shared / ranks.amin(1), chance, ranks)


def _as_matrix(tensor: Tensor, side: Side) -> Float[Tensor, "policy size other"]:
    """A tensor as matrices whose rows are of the side asked for; vectors as columns."""
    if side not in ("rows", "columns"):
        raise UserError(
            f"side must be rows or columns, not {side!r}", code="invalid_value", path="side"
        )
    if _is_vector(tensor):
        return upcast(tensor).reshape(len(tensor), -1, 1)
    matrix = upcast(tensor).flatten(2)
    return matrix if side == "rows" else matrix.mT


def _from_matrix(matrix: Float[Tensor, "policy size other"], like: Tensor, side: Side) -> Tensor:
    turned = side == "columns" and not _is_vector(like)
    return (matrix.mT if turned else matrix).reshape(like.shape).to(like.dtype)


def _is_vector(tensor: Tensor) -> bool:
    return tensor.dim() < 3 or 1 in tensor.flatten(2).shape[1:]
