"""Merging: one set of weights from several that were trained apart from the same start.

With base weights θ₀, N trained sets θᵢ and their task vectors τᵢ = θᵢ - θ₀:

    linear           θ = Σ wᵢ θᵢ / Σ wᵢ
    task arithmetic  θ = θ₀ + Σ λᵢ τᵢ; a negative λ unlearns
                     (Ilharco et al. 2022, arXiv 2212.04089)
    TIES             trim τᵢ to its largest entries, elect the sign γ = sgn Σᵢ τᵢ of every weight,
                     average the entries that have it: θ = θ₀ + λ mean{τᵢ : sgn τᵢ = γ}
                     (Yadav et al. 2023, arXiv 2306.01708)
    model stock      θ = t mean θᵢ + (1 - t) θ₀ with t = N c / (1 + (N - 1) c), by tensor,
                     c the mean cosine between two task vectors
                     (Jang et al. 2024, arXiv 2403.19522)

A "set" is the weights of all policies after one training; policies are merged each by itself.

What differs from the papers. TIES: where task vectors cancel exactly, sgn is 0 and the weight stays
at the base; the authors' code gives it the majority's sign, PEFT a plus. Model stock: the papers'
angles are between 0 and 90 degrees; with a negative mean cosine t would leave [0, 1], and is held
within it: the tensor stays at the base. `tests/learners/test_weights.py` compares TIES with PEFT.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mores.agents.learning.weights.stacked_weights import (
    PerModel,
    StackedWeights,
    broadcast_like,
    check_fraction,
    check_layout,
    count_models,
    flatten_per_model,
    flatten_weights,
    floating_point_names,
    top_k_mask,
    unflatten_weights,
    upcast,
)
from mores.core.errors import UserError

SetWeights = Sequence[float] | Float[Tensor, " set"] | Float[Tensor, "policy set"]
Scope = Literal["model", "tensor"]


def linear_merge(
    weight_sets: Sequence[StackedWeights], set_weights: SetWeights | None = None
) -> dict[str, Tensor]:
    """Weighted mean of several sets of weights.

    Args:
        weight_sets: the sets, alike in names and shapes.
        set_weights: how much each counts, by set or by policy and set; `None`: all the same. They need
            not sum to one. A set that counts nothing is not looked at, whatever it holds.

    Raises:
        UserError: the sets differ in layout, or the shares of a policy sum to zero.
    """
    policies = _check_sets(weight_sets)
    share = _per_model_weights(
        [1.0] * len(weight_sets) if set_weights is None else set_weights, weight_sets, policies
    )
    whole = share.sum(1)
    if bool((whole == 0).any()):
        raise UserError(
            "shares of a merge must not sum to zero", code="invalid_value", path="shares"
        )
    share = share / whole[:, None]
    merged = dict(weight_sets[0])
    for name in floating_point_names(weight_sets[0]):
        merged[name] = _weighted_sum([upcast(one[name]) for one in weight_sets], share).to(
            weight_sets[0][name].dtype
        )
    return merged


def task_arithmetic(
    base: StackedWeights, weight_sets: Sequence[StackedWeights], scales: float | SetWeights
) -> dict[str, Tensor]:
    """Base weights plus the sum of scaled task vectors.

    Args:
        base: what training began from.
        weight_sets: what it led to, one set of weights a task.
        scales: factor of each task vector: one number, by set, or by policy and set.

    Raises:
        UserError: the sets differ in layout.
    """
    policies = _check_sets(weight_sets, base)
    scales = [float(scales)] * len(weight_sets) if isinstance(scales, (int, float)) else scales
    scale = _per_model_weights(scales, weight_sets, policies)
    merged = dict(base)
    for name in floating_point_names(base):
        start = upcast(base[name])
        moved = _weighted_sum([upcast(one[name]) - start for one in weight_sets], scale)
        merged[name] = (start + moved).to(base[name].dtype)
    return merged


def ties_merge(
    base: StackedWeights,
    weight_sets: Sequence[StackedWeights],
    density: float = 0.2,
    scale: PerModel = 1.0,
    trim_scope: Scope = "model",
) -> dict[str, Tensor]:
    """Trim, elect a sign, merge what agrees.

    Args:
        base: what training began from.
        weight_sets: what it led to, one set of weights a task.
        density: share of each task vector's entries that is kept, the largest by magnitude, 0 to 1;
            20 % in the paper.
        scale: factor λ of the merged task vector.
        trim_scope: trim each task vector as a whole, as the paper does, or each of its tensors, as PEFT
            and mergekit do.

    Raises:
        UserError: the sets differ in layout, or `density` or `trim_scope` is none of these.
    """
    policies = _check_sets(weight_sets, base)
    check_fraction(density, "kept")
    if trim_scope not in ("model", "tensor"):
        raise UserError(
            f"over must be model or tensor, not {trim_scope!r}", code="invalid_value", path="over"
        )
    names = floating_point_names(base)
    factor = torch.as_tensor(scale).expand(policies)
    merged = dict(base)
    for group in [names] if trim_scope == "model" else [[name] for name in names]:
        start = flatten_weights(base, group)
        vectors = [_trim(flatten_weights(one, group) - start, density) for one in weight_sets]
        moved = factor.to(start)[:, None] * _mean_of_elected_sign(vectors)
        for name, tensor in unflatten_weights(start + moved, base, group).items():
            merged[name] = tensor.to(base[name].dtype)
    return merged


def model_stock(base: StackedWeights, weight_sets: Sequence[StackedWeights]) -> dict[str, Tensor]:
    """Mean of the trained weights, drawn towards the base where they disagree.

    Args:
        base: what training began from.
        weight_sets: at least two sets of weights that it led to.

    Raises:
        UserError: the sets differ in layout, or there is only one.
    """
    ratio = model_stock_ratio(base, weight_sets)
    merged = dict(base)
    for name, share in ratio.items():
        start = upcast(base[name])
        middle = sum((upcast(one[name]) for one in weight_sets[1:]), upcast(weight_sets[0][name]))
        moved = broadcast_like(share, start) * (middle / len(weight_sets) - start)
        merged[name] = (start + moved).to(base[name].dtype)
    return merged


def model_stock_ratio(
    base: StackedWeights, weight_sets: Sequence[StackedWeights]
) -> dict[str, Float[Tensor, " policy"]]:
    """How far model stock goes from the base to the mean, 0 to 1, by tensor and policy.

    A tensor that one of two sets left as it was has no angle, and counts as a right angle. Raises
    the errors of `model_stock`.
    """
    _check_sets(weight_sets, base)
    count = len(weight_sets)
    if count < 2:
        raise UserError(
            "model stock needs at least two sets of weights: it compares their angles",
            code="wrong_shape",
            path="several",
        )
    ratio = {}
    for name in floating_point_names(base):
        start = upcast(base[name])
        units = [_unit_vectors(flatten_per_model(upcast(one[name]) - start)) for one in weight_sets]
        cosines = [(a * b).sum(1) for a, b in itertools.combinations(units, 2)]
        cosine = torch.stack(cosines).mean(0).clamp(max=1.0)
        near = cosine.clamp(min=0.0)
        ratio[name] = count * near / (1 + (count - 1) * near)
    return ratio


def _check_sets(weight_sets: Sequence[StackedWeights], base: StackedWeights | None = None) -> int:
    if not weight_sets:
        raise UserError(
            "nothing to merge: give at least one set of weights", code="missing", path="several"
        )
    check_layout(*([base] if base is not None else []), *weight_sets)
    return count_models(weight_sets[0])


def _per_model_weights(
    set_weights: SetWeights, weight_sets: Sequence[StackedWeights], num_models: int
) -> Float[Tensor, "policy set"]:
    name = next(iter(floating_point_names(weight_sets[0])), None)
    if name is None:
        raise UserError(
            "nothing to merge: no tensor holds floating-point numbers",
            code="wrong_type",
            path="several",
        )
    device = weight_sets[0][name].device
    share = torch.as_tensor(set_weights, dtype=torch.float32, device=device)
    if share.shape not in ((len(weight_sets),), (num_models, len(weight_sets))):
        raise UserError(
            f"shares are {tuple(share.shape)}: there are {len(weight_sets)} sets of weights "
            f"of {num_models} policies, so [set] or [policy, set]",
            code="wrong_shape",
            path="shares",
        )
    return share.expand(num_models, len(weight_sets))


def _weighted_sum(tensors: Sequence[Tensor], set_weights: Float[Tensor, "policy set"]) -> Tensor:
    """Weighted sum, in the order given; what counts nothing is left out, NaN or not."""
    whole = torch.zeros_like(tensors[0])
    for number, tensor in enumerate(tensors):
        weight = broadcast_like(set_weights[:, number].to(tensor), tensor)
        whole = whole + torch.where(weight == 0, 0.0, weight * tensor)
    return whole


def _trim(vector: Float[Tensor, "policy weight"], density: float) -> Float[Tensor, "policy weight"]:
    count = math.floor(density * vector.shape[1] + 1e-9)  # 0.29 * 100 is 28.999999999999996
    return torch.where(top_k_mask(vector.abs(), count), vector, 0.0)


def _mean_of_elected_sign(
    vectors: Sequence[Float[Tensor, "policy weight"]],
) -> Float[Tensor, "policy weight"]:
    """Mean of the entries that have the elected sign; 0 where nobody does."""
    whole = sum(vectors[1:], vectors[0])
    sign = whole.sign()
    total, count = torch.zeros_like(whole), torch.zeros_like(whole)
    for vector in vectors:
        agrees = (vector.sign() == sign) & (vector != 0)
        total = total + torch.where(agrees, vector, 0.0)
        count = count + agrees
    # Broken weights agree with nobody, and would leave a merge that looks sound.
    return torch.where(whole.isnan(), whole, total / count.clamp(min=1))


def _unit_vectors(vector: Float[Tensor, "policy weight"]) -> Float[Tensor, "policy weight"]:
    length = torch.linalg.vector_norm(vector, dim=1, keepdim=True)
    return vector / torch.where(length == 0, 1.0, length)
