"""Restoring alignment: some weights go back to what they were in an aligned model, if it is cheap.

Fine-tuning moved weights from the aligned θ_a to θ. With the gradient g of an alignment loss at θ,
a weight is worth restoring where the way back is downhill,

    (θ - θ_a) g > 0,

and of these the share with the largest |g| is copied from θ_a (`select_weights`, `restore`). That is the
selection of Yang et al. 2025 (arXiv 2504.09757), as their code makes it; their alignment loss is
-cos(mean hidden state on harmful requests, the same in the aligned model). `by="gain"` ranks by
|(θ - θ_a) g| instead, the loss that goes away to first order. Without data, `alignment_pseudo_gradient` stands in for
a gradient: with it `gain` ranks weights by how far they moved back along the direction in which
alignment had moved them.

`roll_back` gives back what cost too much. It measures: whole tensors, per policy, those first whose
return the downstream loss gains most from, until the loss is within what is allowed. This is our
own. `mores.agents.learning.weights.recovery` has the paper's loop, which gives single weights back
by the gradient of the downstream loss.
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

RankBy = Literal["gradient", "gain"]
LossPerModel = Callable[[dict[str, Tensor]], Float[Tensor, " policy"]]


class RollbackResult(NamedTuple):
    """What a measured roll-back left.

    Attributes:
        weights: the weights, every tensor of a policy either restored or as it was.
        kept_restored: which tensors stayed restored, by name and policy.
        loss_before: downstream loss without any restoring.
        loss_restored: with all of it.
        loss_after: with what was kept.
    """

    weights: dict[str, Tensor]
    kept_restored: dict[str, Bool[Tensor, " policy"]]
    loss_before: Float[Tensor, " policy"]
    loss_restored: Float[Tensor, " policy"]
    loss_after: Float[Tensor, " policy"]


def alignment_pseudo_gradient(aligned: StackedWeights, base: StackedWeights) -> dict[str, Tensor]:
    """Gradient of the loss -⟨θ, θ_a - θ_before⟩: against the way that alignment moved weights.

    Args:
        aligned: weights after alignment.
        base: weights that alignment began from.
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
    """Which weights of every policy should go back to a target.

    Args:
        weights: where they are.
        target: where they may go.
        gradient: of the loss that is to fall, at `weights`. Tensors that are not in it stay out:
            the paper leaves out layer norms and late layers.
        fraction: how many of all weights of a policy go, rounded up; fewer where fewer are eligible.
        candidates: masks of what may go at all; `None`: everything.
        rank_by: rank by the size of the gradient or by what the loss gains.
        fraction_of: `fraction` is of all weights given, as in restoring, or of those eligible, as in giving
            back.

    Returns:
        Masks by the names of `gradient`.

    Raises:
        UserError: layouts differ, or `fraction` or `rank_by` is none of these.
    """
    policies = count_models(weights)
    check_layout(weights, target)
    check_fraction(fraction, "share")
    if rank_by not in ("gradient", "gain"):
        raise UserError(
            f"by must be gradient or gain, not {rank_by!r}", code="invalid_value", path="by"
        )
    names = list(gradient)
    for name in names:
        if name not in weights:
            raise UserError(
                f"a gradient of {name!r}, and no weights{did_you_mean(name, weights)}",
                code="unknown_name",
                path=name,
            )
    if not names:
        return {}
    slope, moved = (
        flatten_weights(gradient, names),
        flatten_weights(weights, names) - flatten_weights(target, names),
    )
    eligible = (slope.sign() * moved.sign()) > 0  # signs: products of tiny numbers are zero
    if candidates is not None:
        eligible &= torch.cat([flatten_per_model(candidates[name]) for name in names], 1)
    score = slope.abs() if rank_by == "gradient" else (slope * moved).abs()
    if fraction_of == "weights":
        whole = sum(weights[name].numel() // policies for name in floating_point_names(weights))
        count = min(_ceil(fraction * whole), score.shape[1])
    else:
        count = torch.tensor([_ceil(fraction * e) for e in eligible.sum(1).tolist()]).to(
            score.device
        )
    chosen = top_k_mask(torch.where(eligible, score, -1.0), count) & eligible
    return unflatten_weights(chosen, weights, names)


def restore(
    weights: StackedWeights, target: StackedWeights, selection_mask: StackedWeights
) -> dict[str, Tensor]:
    """The weights, with those chosen as the target has them."""
    back = dict(weights)
    for name, mask in selection_mask.items():
        back[name] = torch.where(mask, target[name], weights[name])
    return back


def roll_back(
    finetuned: StackedWeights,
    restored: StackedWeights,
    loss: LossPerModel,
    max_loss_increase: PerModel,
) -> RollbackResult:
    """Give back restored tensors until the downstream loss is within what is allowed.

    The cost of a tensor is by how much the loss falls when it alone is given back. Policies give
    back in the order of their own costs. `loss` is asked once for every tensor that was restored,
    and at most as often again.

    Args:
        finetuned: weights before restoring.
        restored: weights after it.
        loss: downstream loss of every policy, from weights; it must not depend on chance.
        max_loss_increase: by how much it may exceed the loss before restoring, at least 0, in its unit.

    Returns:
        Weights whose loss is within `max_loss_increase`; a policy whose loss can never be told (NaN) has
        everything given back.

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
    kept = {name: torch.ones_like(before, dtype=torch.bool) for name in changed}
    now = all_restored
    if changed and not bool((now <= limit).all()):
        without = torch.stack([loss({**current, name: finetuned[name]}) for name in changed], 1)
        # The costliest first: the lower the loss without it. NaN, sorted last: it is not to blame.
        order = without.argsort(dim=1, stable=True)
        for place in range(len(changed)):
            over = ~(now <= limit)
            if not bool(over.any()):
                break
            for number, name in enumerate(changed):
                back = over & (order[:, place] == number)
                kept[name] &= ~back
                current = current | replace_models({name: current[name]}, finetuned, back)
            now = loss(current)
    return RollbackResult(current, kept, before, all_restored, now)


def restored_fraction(weights: StackedWeights, target: StackedWeights) -> Float[Tensor, " policy"]:
    """Share of every policy's weights that are exactly as the target has them."""
    names = floating_point_names(weights)
    same = flatten_weights(weights, names) == flatten_weights(target, names)
    return same.float().mean(1)


def _ceil(number: float) -> int:
    return math.ceil(number - 1e-9)  # 0.07 * 100 is 7.000000000000001
