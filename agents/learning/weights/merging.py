"""Merging: one set of weights from several that were trained separately from the same base.

With base weights θ₀, N trained sets θᵢ and their task vectors τᵢ = θᵢ - θ₀:

    linear           θ = Σ wᵢ θᵢ / Σ wᵢ
    task arithmetic  θ = θ₀ + Σ λᵢ τᵢ; a negative λ unlearns a task
                     (Ilharco et al. 2022, arXiv 2212.04089)
    TIES             trim τᵢ to its largest entries, elect the sign γ = sgn Σᵢ τᵢ of every weight,
                     average the entries with that sign: θ = θ₀ + λ mean{τᵢ : sgn τᵢ = γ}
                     (Yadav et al. 2023, arXiv 2306.01708)
    model stock      θ = t mean θᵢ + (1 - t) θ₀ with t = N c / (1 + (N - 1) c), by tensor,
                     c the mean cosine between two task vectors
                     (Jang et al. 2024, arXiv 2403.19522)

A "set" contains the weights of all models after one training; models are merged independently.

Differences from the papers. TIES: where task vectors cancel exactly, sgn is 0 and the weight stays
at the base; the authors' code gives it the majority's sign, PEFT a plus. Model stock: the papers'
angles are between 0 and 90 degrees; with a negative mean cosine t would leave [0, 1], and is
limited to it: the tensor stays at the base. `tests/learners/test_weights.py` compares TIES to PEFT.
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

SetWeights = Sequence[float] | Float[Tensor, " set"] | Float[Tensor, "model set"]
Scope = Literal["model", "tensor"]


def linear_merge(
    weight_sets: Sequence[StackedWeights], set_weights: SetWeights | None = None
) -> dict[str, Tensor]:
    """Weighted mean of several sets of weights.

    Args:
        weight_sets: the sets, with the same names and shapes.
        set_weights: weight of each, by set or by model and set; `None`: equal weights. The sum need
            not be one. A set with weight zero is ignored, even if it contains NaN.

    Raises:
        UserError: the sets differ in layout, or the weights of a model sum to zero.
    """
    num_models = _check_sets(weight_sets)
    share = _per_model_weights(
        [1.0] * len(weight_sets) if set_weights is None else set_weights, weight_sets, num_models
    )
    norm = share.sum(1)
    if bool((norm == 0).any()):
        raise UserError("set_weights sum to zero", code="invalid_value", path="set_weights")
    share = share / norm[:, None]
    merged = dict(weight_sets[0])
    for name in floating_point_names(weight_sets[0]):
        merged[name] = _weighted_sum([upcast(weights[name]) for weights in weight_sets], share).to(
            weight_sets[0][name].dtype
        )
    return merged


def task_arithmetic(
    base: StackedWeights, weight_sets: Sequence[StackedWeights], scales: float | SetWeights
) -> dict[str, Tensor]:
    """Base weights plus the sum of scaled task vectors.

    Args:
        base: weights before training.
        weight_sets: weights after training, one set per task.
        scales: factor of each task vector: one number, by set, or by model and set.

    Raises:
        UserError: the sets differ in layout.
    """
    num_models = _check_sets(weight_sets, base)
    scales = [float(scales)] * len(weight_sets) if isinstance(scales, (int, float)) else scales
    scale = _per_model_weights(scales, weight_sets, num_models)
    merged = dict(base)
    for name in floating_point_names(base):
        start = upcast(base[name])
        change = _weighted_sum([upcast(weights[name]) - start for weights in weight_sets], scale)
        merged[name] = (start + change).to(base[name].dtype)
    return merged


def ties_merge(
    base: StackedWeights,
    weight_sets: Sequence[StackedWeights],
    density: float = 0.2,
    scale: PerModel = 1.0,
    trim_scope: Scope = "model",
) -> dict[str, Tensor]:
    """TIES merge: trim, elect a sign, average the entries of that sign.

    Args:
        base: weights before training.
        weight_sets: weights after training, one set per task.
        density: share of each task vector's entries that remains, the largest by magnitude, 0 to 1;
            20 % in the paper.
        scale: factor λ of the merged task vector.
        trim_scope: `model`: trim each task vector as a whole, as in the paper; `tensor`: trim each
            of its tensors, as in PEFT and mergekit.

    Raises:
        UserError: the sets differ in layout, or `density` or `trim_scope` is invalid.
    """
    num_models = _check_sets(weight_sets, base)
    check_fraction(density, "density")
    if trim_scope not in ("model", "tensor"):
        raise UserError(
            f"no trim_scope {trim_scope!r}: use 'model' or 'tensor'",
            code="invalid_value",
            path="trim_scope",
        )
    names, factor = floating_point_names(base), torch.as_tensor(scale).expand(num_models)
    merged = dict(base)
    for group in [names] if trim_scope == "model" else [[name] for name in names]:
        start = flatten_weights(base, group)
        vectors = [_trim(flatten_weights(w, group) - start, density) for w in weight_sets]
        change = factor.to(start)[:, None] * _mean_of_elected_sign(vectors)
        for name, tensor in unflatten_weights(start + change, base, group).items():
            merged[name] = tensor.to(base[name].dtype)
    return merged


def model_stock(base: StackedWeights, weight_sets: Sequence[StackedWeights]) -> dict[str, Tensor]:
    """Interpolation from the base to the mean of the trained weights, by their cosine.

    Args:
        base: weights before training.
        weight_sets: weights after training, at least two sets.

    Raises:
        UserError: the sets differ in layout, or there is only one.
    """
    ratio = model_stock_ratio(base, weight_sets)
    merged = dict(base)
    for name, share in ratio.items():
        start = upcast(base[name])
        summed = sum((upcast(w[name]) for w in weight_sets[1:]), upcast(weight_sets[0][name]))
        change = broadcast_like(share, start) * (summed / len(weight_sets) - start)
        merged[name] = (start + change).to(base[name].dtype)
    return merged


def model_stock_ratio(
    base: StackedWeights, weight_sets: Sequence[StackedWeights]
) -> dict[str, Float[Tensor, " model"]]:
    """Interpolation weight t of model stock, 0 (base) to 1 (mean), by tensor and model.

    A tensor that is unchanged in one of two sets has no angle, and counts as a right angle. Raises
    the errors of `model_stock`.
    """
    _check_sets(weight_sets, base)
    count = len(weight_sets)
    if count < 2:
        raise UserError(
            f"model stock needs at least two weight_sets, not {count}: it compares their angles",
            code="wrong_shape",
            path="weight_sets",
        )
    ratio = {}
    for name in floating_point_names(base):
        start = upcast(base[name])
        units = [_unit_vectors(flatten_per_model(upcast(w[name]) - start)) for w in weight_sets]
        cosines = [(a * b).sum(1) for a, b in itertools.combinations(units, 2)]
        cosine = torch.stack(cosines).mean(0).clamp(max=1.0)
        positive = cosine.clamp(min=0.0)
        ratio[name] = count * positive / (1 + (count - 1) * positive)
    return ratio


def _check_sets(weight_sets: Sequence[StackedWeights], base: StackedWeights | None = None) -> int:
    if not weight_sets:
        raise UserError(
            "a merge needs at least one set of weights", code="missing", path="weight_sets"
        )
    check_layout(*([base] if base is not None else []), *weight_sets)
    return count_models(weight_sets[0])


def _per_model_weights(
    set_weights: SetWeights, weight_sets: Sequence[StackedWeights], num_models: int
) -> Float[Tensor, "model set"]:
    name = next(iter(floating_point_names(weight_sets[0])), None)
    if name is None:
        raise UserError(
            "a merge needs a tensor of floating-point numbers",
            code="wrong_type",
            path="weight_sets",
        )
    device = weight_sets[0][name].device
    share = torch.as_tensor(set_weights, dtype=torch.float32, device=device)
    if share.shape not in ((len(weight_sets),), (num_models, len(weight_sets))):
        raise UserError(
            f"set_weights must be [{len(weight_sets)}] or [{num_models}, {len(weight_sets)}] "
            f"([set] or [model, set]), not {list(share.shape)}",
            code="wrong_shape",
            path="set_weights",
        )
    return share.expand(num_models, len(weight_sets))


def _weighted_sum(tensors: Sequence[Tensor], set_weights: Float[Tensor, "model set"]) -> Tensor:
    """Weighted sum, in the given order; tensors with weight 0 are ignored, even NaN."""
    summed = torch.zeros_like(tensors[0])
    for index, tensor in enumerate(tensors):
        weight = broadcast_like(set_weights[:, index].to(tensor), tensor)
        summed = summed + torch.where(weight == 0, 0.0, weight * tensor)
    return summed


def _trim(vector: Float[Tensor, "model weight"], density: float) -> Float[Tensor, "model weight"]:
    count = math.floor(density * vector.shape[1] + 1e-9)  # 0.29 * 100 is 28.999999999999996
    return torch.where(top_k_mask(vector.abs(), count), vector, 0.0)


def _mean_of_elected_sign(
    vectors: Sequence[Float[Tensor, "model weight"]],
) -> Float[Tensor, "model weight"]:
    """Mean of the entries that have the elected sign; 0 where none has it."""
    summed = sum(vectors[1:], vectors[0])
    sign = summed.sign()
    total, count = torch.zeros_like(summed), torch.zeros_like(summed)
    for vector in vectors:
        agrees = (vector.sign() == sign) & (vector != 0)
        total = total + torch.where(agrees, vector, 0.0)
        count = count + agrees
    # NaN has no sign, and would be hidden by a finite mean.
    return torch.where(summed.isnan(), summed, total / count.clamp(min=1))


def _unit_vectors(vector: Float[Tensor, "model weight"]) -> Float[Tensor, "model weight"]:
    length = torch.linalg.vector_norm(vector, dim=1, keepdim=True)
    return vector / torch.where(length == 0, 1.0, length)
