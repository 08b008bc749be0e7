"""Selective restoring of alignment: some weights return to their values in an aligned model.

Fine-tuning moved weights from the aligned θ_a to θ. With the gradient g of an alignment loss at θ,
a weight is eligible if the loss decreases on the way back,

    (θ - θ_a) g > 0,

and of these the share with the largest |g| is copied from θ_a (`select_weights`, `restore`). That
is the selection of Yang et al. 2025 (arXiv 2504.09757), as in their code; their alignment loss is
-cos(mean hidden state on harmful requests, the same in the aligned model).
`rank_by="loss_reduction"` ranks by |(θ - θ_a) g| instead, the decrease of the loss to first order.
Without data, `alignment_pseudo_gradient` replaces the gradient: then `loss_reduction` ranks weights
by how far they moved back along the direction in which alignment had moved them.

`roll_back` undoes costly restoring. It measures: whole tensors, per model, those first whose return
reduces the downstream loss most, until the loss is within its limit. This is our own.
`mores.agents.learning.weights.recovery` has the paper's loop, which rolls single weights back by
the gradient of the downstream loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.agents.learning.weights.stacked_weights import (
    PerModel,
    StackedWeights,
    check_fraction,
    check_layout,
    count_models,
    flatten_per_model,
    flatten_weights,
    floating_point_names,
    replace_models,
    top_k_mask,
    unflatten_weights,
)
from mores.core.errors import UserError, did_you_mean

RankBy = Literal["gradient", "loss_reduction"]
LossPerModel = Callable[[dict[str, Tensor]], Float[Tensor, " model"]]


class RollbackResult(NamedTuple):
    """Result of `roll_back`.

    Attributes:
        weights: the weights, every tensor of a model either restored or fine-tuned.
        kept_restored: which tensors stay restored, by name and model.
        loss_before: downstream loss without any restoring.
        loss_restored: downstream loss with all of it.
        loss_after: downstream loss after the roll-back.
    """

    weights: dict[str, Tensor]
    kept_restored: dict[str, Bool[Tensor, " model"]]
    loss_before: Float[Tensor, " model"]
    loss_restored: Float[Tensor, " model"]
    loss_after: Float[Tensor, " model"]


def alignment_pseudo_gradient(aligned: StackedWeights, base: StackedWeights) -> dict[str, Tensor]:
    """Gradient of the loss -⟨θ, θ_a - θ_base⟩: opposite to the change of weights by alignment.

    Args:
        aligned: weights after alignment.
        base: weights before alignment.
    """
    check_layout(aligned, base)
    return {name: base[name] - aligned[name] for name in floating_point_names(aligned)}


def select_weights(
    weights: StackedWeights,
    target: StackedWeights,
    gradient: StackedWeights,
    fraction: float,
    candidates: StackedWeights | None = None,
    rank_by: RankBy = "gradient",
    fraction_of: Literal["weights", "eligible"] = "weights",
) -> dict[str, Tensor]:
    """Masks of the weights of every model that should return to a target.

    Args:
        weights: current weights.
        target: weights to return to.
        gradient: of the loss to reduce, at `weights`. Tensors that are not in it are not selected:
            the paper leaves out layer norms and late layers.
        fraction: share of all weights of a model, rounded up; fewer if fewer are eligible.
        candidates: masks of weights that may be selected; `None`: all.
        rank_by: `gradient` (its absolute value), or `loss_reduction`.
        fraction_of: `weights`: share of all weights given, as in restoring; `eligible`: share of
            the eligible weights, as in a roll-back.

    Returns:
        Masks by the names of `gradient`.

    Raises:
        UserError: layouts differ, or `fraction` or `rank_by` is invalid.
    """
    models = count_models(weights)
    check_layout(weights, target)
    check_fraction(fraction, "fraction")
    if rank_by not in ("gradient", "loss_reduction"):
        message = f"no rank_by {rank_by!r}: use 'gradient' or 'loss_reduction'"
        raise UserError(message, code="invalid_value", path="rank_by")
    names = list(gradient)
    for name in names:
        if name not in weights:
            raise UserError(
                f"the gradient has {name!r}, the weights do not{did_you_mean(name, weights)}",
                code="unknown_name",
                path=name,
            )
    if not names:
        return {}
    slope = flatten_weights(gradient, names)
    change = flatten_weights(weights, names) - flatten_weights(target, names)
    eligible = (slope.sign() * change.sign()) > 0  # signs: products of tiny numbers are zero
    if candidates is not None:
        eligible &= torch.cat([flatten_per_model(candidates[name]) for name in names], 1)
    score = slope.abs() if rank_by == "gradient" else (slope * change).abs()
    if fraction_of == "weights":
        size = sum(weights[name].numel() // models for name in floating_point_names(weights))
        count = min(_ceil(fraction * size), score.shape[1])
    else:
        counts = [_ceil(fraction * number) for number in eligible.sum(1).tolist()]
        count = torch.tensor(counts).to(score.device)
    selected = top_k_mask(torch.where(eligible, score, -1.0), count) & eligible
    return unflatten_weights(selected, weights, names)


def restore(
    weights: StackedWeights, target: StackedWeights, selection_mask: StackedWeights
) -> dict[str, Tensor]:
    """The weights, with the selected ones replaced by the target's."""
    restored = dict(weights)
    for name, mask in selection_mask.items():
        restored[name] = torch.where(mask, target[name], weights[name])
    return restored


def roll_back(
    finetuned: StackedWeights,
    restored: StackedWeights,
    loss: LossPerModel,
    max_loss_increase: PerModel,
) -> RollbackResult:
    """Roll back restored tensors until the downstream loss is within its limit.

    The cost of a tensor is the decrease of the loss if it alone is rolled back. Each model rolls
    back in the order of its own costs. `loss` is called once for every tensor that was restored,
    and at most as often again.

    Args:
        finetuned: weights before restoring.
        restored: weights after it.
        loss: downstream loss of every model, from weights; it must be deterministic.
        max_loss_increase: allowed increase over the loss before restoring, at least 0, in its unit.

    Returns:
        Weights whose loss is within the limit; for a model whose loss is always NaN, everything is
        rolled back.

    Raises:
        UserError: layouts differ.
    """
    count_models(finetuned)
    check_layout(finetuned, restored)
    current = dict(restored)
    before, all_restored = loss(dict(finetuned)), loss(current)
    limit = before + max_loss_increase
    changed = [
        n for n in floating_point_names(finetuned) if not torch.equal(finetuned[n], restored[n])
    ]
    stays_restored = {name: torch.ones_like(before, dtype=torch.bool) for name in changed}
    after = all_restored
    if changed and not bool((after <= limit).all()):
        without = torch.stack([loss({**current, name: finetuned[name]}) for name in changed], 1)
        # The most costly tensor, with the lowest loss without it, comes first. NaN sorts last.
        order = without.argsort(dim=1, stable=True)
        for position in range(len(changed)):
            exceeds = ~(after <= limit)
            if not bool(exceeds.any()):
                break
            for index, name in enumerate(changed):
                returned = exceeds & (order[:, position] == index)
                stays_restored[name] &= ~returned
                current = current | replace_models({name: current[name]}, finetuned, returned)
            after = loss(current)
    return RollbackResult(current, stays_restored, before, all_restored, after)


def restored_fraction(weights: StackedWeights, target: StackedWeights) -> Float[Tensor, " model"]:
    """Share of every model's weights that equal the target's exactly."""
    names = floating_point_names(weights)
    same = flatten_weights(weights, names) == flatten_weights(target, names)
    return same.float().mean(1)


def _ceil(number: float) -> int:
    return math.ceil(number - 1e-9)  # 0.07 * 100 is 7.000000000000001
