"""Subspaces of weight changes: projection onto the top directions of a change, and the overlap of
two changes.

With a change Δ = W_aligned - W_base of a matrix and its singular value decomposition Δ = U S Vᵀ,
Q is the first k columns of U, and the update U_t of a later task splits into

    projection = Q Qᵀ U_t    residual = U_t - Q Qᵀ U_t    energy fraction ‖projection‖² / ‖U_t‖²

For two changes V, W with bases that cover a share η of their energies (squared singular values),
the mode subspace overlap is

    MSO = ‖Q_Vᵀ Q_W‖²_F / min(k_V, k_W)      expected at random: max(k_V, k_W) / d

Source: Ponkshe et al. 2025, "Safety Subspaces are Not Linearly Distinct" (arXiv 2505.14185). The
cosine of a task's update with the change divides by √(U·U) √(V·V); the authors' script
(github.com/CERT-Lab/safety-subspaces, scripts/projection_helper.py) divides by √(U·V) √(V·V), which
is no cosine. Directions whose singular values are rounding errors do not count here.

`side` is the dimension of the directions. The paper takes the output dimension of a layer: rows of
`torch.nn.Linear.weight`, `[output, input]`. In stacked models, `[model, input, output]`, outputs
are columns. Vectors, and matrices with one row or column, are vectors: their change is one
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
        basis: one direction per column; zero beyond the rank.
        rank: number of directions.
    """

    basis: Float[Tensor, "model size direction"]
    rank: Int[Tensor, " model"]


class SubspaceSplit(NamedTuple):
    """An update as a sum of two parts, and its similarity to the change over all tensors.

    Attributes:
        projection: part in the top directions of the change, by name.
        residual: the rest.
        energy_fraction: squared length of `projection` by that of the update; NaN if that is zero.
        cosine: between update and change.
    """

    projection: dict[str, Tensor]
    residual: dict[str, Tensor]
    energy_fraction: Float[Tensor, " model"]
    cosine: Float[Tensor, " model"]


class SubspaceOverlap(NamedTuple):
    """Overlap of the subspaces of two changes.

    Attributes:
        overlap: 0 to 1; NaN if one of the changes is zero.
        expected_overlap: mean overlap of two random subspaces of these sizes.
        ranks: sizes of both, `[model, 2]`.
    """

    overlap: Float[Tensor, " model"]
    expected_overlap: Float[Tensor, " model"]
    ranks: Int[Tensor, "model 2"]


def top_singular_directions(
    change: Float[Tensor, "model *shape"],
    side: Side = "rows",
    *,
    rank_fraction: float | None = None,
    energy_fraction: float | None = None,
) -> SubspaceBasis:
    """Top singular directions of a change, by model.

    Args:
        change: difference of two weights.
        side: dimension of the directions.
        rank_fraction: share of all directions to take, rounded, at least one direction.
        energy_fraction: or take the fewest that cover this share of the change's squared length.

    Raises:
        UserError: not exactly one fraction is given, or it is not in [0, 1].
    """
    if (rank_fraction is None) == (energy_fraction is None):
        code = "missing" if rank_fraction is None else "conflict"
        message = "top_singular_directions needs either rank_fraction or energy_fraction"
        raise UserError(message, code=code, path="rank_fraction")
    matrix = _as_matrix(change, side)
    nonfinite = ~matrix.isfinite().all(-1).all(-1)
    # NaN in one model would stop the decomposition of all.
    finite = torch.where(nonfinite[:, None, None], 0.0, matrix)
    left, singular, _ = torch.linalg.svd(finite, full_matrices=False)
    max_rank = singular.shape[1]
    noise = singular[:, :1] * max(matrix.shape[1:]) * torch.finfo(matrix.dtype).eps
    numerical_rank = ((singular > noise) & (singular > 0)).sum(1)
    if rank_fraction is not None:
        check_fraction(rank_fraction, "rank_fraction")
        rank = torch.full_like(numerical_rank, max(1, round(rank_fraction * max_rank)))
    else:
        check_fraction(energy_fraction if energy_fraction is not None else 1.0, "energy_fraction")
        energy = singular.square().cumsum(1)
        # The sum over all directions may miss the total by rounding.
        required = energy_fraction * energy[:, -1:] * (1 - 1e-6)
        rank = (energy < required).sum(1) + 1
    rank = torch.minimum(rank, numerical_rank)
    used = torch.arange(max_rank, device=rank.device) < rank[:, None, None]
    basis = torch.where(used, left, 0.0)
    return SubspaceBasis(torch.where(nonfinite[:, None, None], torch.nan, basis), rank)


def split_by_subspace(
    update: StackedWeights, change: StackedWeights, rank_fraction: float, side: Side = "rows"
) -> SubspaceSplit:
    """Split an update into its part in the top directions of a change, and the rest.

    Args:
        update: change of weights by a later task.
        change: change of weights by alignment.
        rank_fraction: share of each matrix's directions that span the subspace, 0 to 1.
        side: dimension of the directions.

    Raises:
        UserError: layouts differ, or `rank_fraction` or `side` is invalid.
    """
    check_layout(update, change)
    projection, residual = {}, {}
    sums = torch.zeros(0)
    for name in floating_point_names(update):
        u, v = _as_matrix(update[name], side), _as_matrix(change[name], side)
        basis = top_singular_directions(change[name], side, rank_fraction=rank_fraction).basis
        part = basis @ (basis.mT @ u)
        products = [part * part, u * u, u * v, v * v]
        products = torch.stack([product.flatten(1).sum(1) for product in products])
        sums = sums + products if sums.numel() else products
        projection[name] = _from_matrix(part, update[name], side)
        residual[name] = update[name] - projection[name]
    part_energy, update_energy, inner, change_energy = sums
    cosine = inner / (update_energy.sqrt() * change_energy.sqrt())
    return SubspaceSplit(projection, residual, part_energy / update_energy, cosine)


def mode_subspace_overlap(
    one: Float[Tensor, "model *shape"],
    other: Float[Tensor, "model *other_shape"],
    energy_fraction: float,
    side: Side = "rows",
) -> SubspaceOverlap:
    """Mode subspace overlap of two changes, whose directions have the same size.

    Args:
        one: a change.
        other: another change.
        energy_fraction: share η of each change's squared length in its subspace, 0 to 1.
        side: dimension of the directions.

    Raises:
        UserError: sizes differ, or `energy_fraction` is not in [0, 1].
    """
    a, b = (
        top_singular_directions(one, side, energy_fraction=energy_fraction),
        top_singular_directions(other, side, energy_fraction=energy_fraction),
    )
    if a.basis.shape[1] != b.basis.shape[1]:
        raise UserError(
            f"directions must have the same size, not {a.basis.shape[1]} and {b.basis.shape[1]} "
            f"({side} of {list(one.shape)} and of {list(other.shape)})",
            code="wrong_shape",
            path="other",
        )
    shared = (a.basis.mT @ b.basis).square().flatten(1).sum(1)
    ranks = torch.stack([a.rank, b.rank], 1)
    expected = ranks.amax(1) / a.basis.shape[1]
    return SubspaceOverlap(shared / ranks.amin(1), expected, ranks)


def _as_matrix(tensor: Tensor, side: Side) -> Float[Tensor, "model size other"]:
    """A tensor as matrices whose rows are of the given side; vectors as columns."""
    if side not in ("rows", "columns"):
        raise UserError(
            f"no side {side!r}: use 'rows' or 'columns'", code="invalid_value", path="side"
        )
    if _is_vector(tensor):
        return upcast(tensor).reshape(len(tensor), -1, 1)
    matrix = upcast(tensor).flatten(2)
    return matrix if side == "rows" else matrix.mT


def _from_matrix(matrix: Float[Tensor, "model size other"], like: Tensor, side: Side) -> Tensor:
    transposed = side == "columns" and not _is_vector(like)
    return (matrix.mT if transposed else matrix).reshape(like.shape).to(like.dtype)


def _is_vector(tensor: Tensor) -> bool:
    return tensor.dim() < 3 or 1 in tensor.flatten(2).shape[1:]
