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
    Weights,
    check_layout,
    check_share,
    learned,
    wide,
)
from mores.core.errors import UserError

Side = Literal["rows", "columns"]


class Directions(NamedTuple):
    """Orthonormal directions of a change, the strongest first.

    Attributes:
        basis: one a column; zero beyond the rank.
        rank: how many there are.
    """

    basis: Float[Tensor, "policy size direction"]
    rank: Int[Tensor, " policy"]


class Split(NamedTuple):
    """An update in two parts that add up to it, and how it lies to the change.

    Attributes:
        onto: what lies in the top directions of the change, by name.
        off: the rest.
        energy: share of the update's squared length that `onto` holds, over all tensors; NaN for
            an update that is zero.
        cosine: between update and change, over all tensors.
    """

    onto: dict[str, Tensor]
    off: dict[str, Tensor]
    energy: Float[Tensor, " policy"]
    cosine: Float[Tensor, " policy"]


class Overlap(NamedTuple):
    """How much of two changes' subspaces is shared.

    Attributes:
        overlap: 0 to 1; NaN where one of the changes is zero.
        chance: what two subspaces of these sizes share at random.
        ranks: sizes of both, `[policy, 2]`.
    """

    overlap: Float[Tensor, " policy"]
    chance: Float[Tensor, " policy"]
    ranks: Int[Tensor, "policy 2"]


def directions(
    change: Float[Tensor, "policy *shape"],
    side: Side = "rows",
    *,
    share: float | None = None,
    energy: float | None = None,
) -> Directions:
    """Top singular directions of a change, by policy.

    Args:
        change: difference of two weights.
        side: of which dimension the directions are.
        share: take this share of all directions, rounded, at least one.
        energy: or take as few as hold this share of the change's squared length.

    Raises:
        UserError: not exactly one of `share` and `energy` is given, or it is no share.
    """
    if (share is None) == (energy is None):
        code = "missing" if share is None else "conflict"
        message = "directions are taken by share or by energy: give one of them"
        raise UserError(message, code=code, path="share")
    matrix = _matrix(change, side)
    broken = ~matrix.isfinite().all(-1).all(-1)
    # One policy's NaN would stop the decomposition of all.
    sound = torch.where(broken[:, None, None], 0.0, matrix)
    left, strength, _ = torch.linalg.svd(sound, full_matrices=False)
    room = strength.shape[1]
    noise = strength[:, :1] * max(matrix.shape[1:]) * torch.finfo(matrix.dtype).eps
    solid = ((strength > noise) & (strength > 0)).sum(1)
    if share is not None:
        check_share(share, "share")
        rank = torch.full_like(solid, max(1, round(share * room)))
    else:
        check_share(energy if energy is not None else 1.0, "energy")
        held = strength.square().cumsum(1)
        enough = energy * held[:, -1:] * (1 - 1e-6)  # a sum of all may miss the whole by rounding
        rank = (held < enough).sum(1) + 1
    rank = torch.minimum(rank, solid)
    basis = torch.where(torch.arange(room, device=rank.device) < rank[:, None, None], left, 0.0)
    return Directions(torch.where(broken[:, None, None], torch.nan, basis), rank)


def split(update: Weights, change: Weights, share: float, side: Side = "rows") -> Split:
    """Split an update into what lies in the top directions of a change, and the rest.

    Args:
        update: how a later task moved weights.
        change: how alignment moved them.
        share: share of each matrix's directions that span the subspace, 0 to 1.
        side: of which dimension the directions are.

    Raises:
        UserError: layouts differ, or `share` or `side` is none of these.
    """
    check_layout(update, change)
    onto, off = {}, {}
    sums = torch.zeros(0)
    for name in learned(update):
        moved, axis = _matrix(update[name], side), _matrix(change[name], side)
        basis = directions(change[name], side, share=share).basis
        part = basis @ (basis.mT @ moved)
        products = [part * part, moved * moved, moved * axis, axis * axis]
        products = torch.stack([product.flatten(1).sum(1) for product in products])
        sums = sums + products if sums.numel() else products
        onto[name] = _unmatrix(part, update[name], side)
        off[name] = update[name] - onto[name]
    kept, length, inner, other = sums
    return Split(onto, off, kept / length, inner / (length.sqrt() * other.sqrt()))


def overlap(
    one: Float[Tensor, "policy *shape"],
    other: Float[Tensor, "policy *other_shape"],
    energy: float,
    side: Side = "rows",
) -> Overlap:
    """Mode subspace overlap of two changes, whose directions have the same size.

    Args:
        one: a change.
        other: another.
        energy: share η of each change's squared length that its subspace holds, 0 to 1.
        side: of which dimension the directions are.

    Raises:
        UserError: sizes differ, or `energy` is no share.
    """
    a, b = directions(one, side, energy=energy), directions(other, side, energy=energy)
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
    return Overlap(shared / ranks.amin(1), chance, ranks)


def _matrix(tensor: Tensor, side: Side) -> Float[Tensor, "policy size other"]:
    """A tensor as matrices whose rows are of the side asked for; vectors as columns."""
    if side not in ("rows", "columns"):
        raise UserError(
            f"side must be rows or columns, not {side!r}", code="invalid_value", path="side"
        )
    if _is_vector(tensor):
        return wide(tensor).reshape(len(tensor), -1, 1)
    matrix = wide(tensor).flatten(2)
    return matrix if side == "rows" else matrix.mT


def _unmatrix(matrix: Float[Tensor, "policy size other"], like: Tensor, side: Side) -> Tensor:
    turned = side == "columns" and not _is_vector(like)
    return (matrix.mT if turned else matrix).reshape(like.shape).to(like.dtype)


def _is_vector(tensor: Tensor) -> bool:
    return tensor.dim() < 3 or 1 in tensor.flatten(2).shape[1:]
