"""Cross-entropy to weighted options: supervised learning from soft labels.

    L = -mean_t sum_a w_t(a) log pi(a | s_t)

over the steps with any weight. Weights that add up to 1 are probabilities; others weigh the step.
Two modifications of a weak supervisor's labels by the student's own probabilities p (Burns et al.
2023, arXiv 2312.09390; `weak_to_strong/loss.py` of github.com/openai/weak-to-strong), with no
gradient through p:

    confidence   w = (1 - c) weak + c 1[option chosen by the student]
    product      w ~ p^strong_exponent weak^weak_exponent,  with the sum of the weak weights

The student chooses among two options those that exceed a threshold, the quantile of p over the
batch at which the share of each option equals its share of the weak labels, so that the student
cannot increase its confidence by a single answer to everything.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch, ModelOutput
from mores.agents.learning.losses.reductions import (
    PerModelSetting,
    broadcast_setting,
    check_range,
    reduce_steps,
)
from mores.agents.learning.losses.sample_selection import select_steps
from mores.core.errors import UserError

CALLER = "soft_target_loss"
MIN_WEIGHT = 1e-6  # of a weak label in the product, whose power would be 0 or undefined at 0


def soft_target_loss(
    out: ModelOutput,
    batch: FeedbackBatch,
    *,
    confidence_weight: PerModelSetting = 0.0,
    weak_exponent: float = 1.0,
    strong_exponent: float = 0.0,
    reduction: str = "step",
    subset: str = "all",
) -> Float[Tensor, " model"]:
    """Cross-entropy to `target_weight`, in nats.

    Args:
        out: output of the models, with `logits`.
        batch: with `target_weight`; its values at illegal options are ignored.
        confidence_weight: c, in [0, 1]; above 0 for two options only.
        weak_exponent, strong_exponent: exponents of the product, at least 0; 1 and 0: no product.
        reduction: `step` or `sample`, see `reduce_steps`. Steps without weight do not count.
        subset: samples used, see `select_samples`.

    Raises:
        UserError: a setting is unknown or out of range, or a required field is missing.
    """
    check_range(
        f"confidence_weight of {CALLER}", confidence_weight, 0.0, 1.0, path="confidence_weight"
    )
    for name, exponent in (("weak_exponent", weak_exponent), ("strong_exponent", strong_exponent)):
        check_range(f"{name} of {CALLER}", exponent, 0.0, 100.0, path=name)
    logits, weight = out.require("logits", CALLER), batch.require("target_weight", CALLER)
    mask = select_steps(batch, subset, CALLER)
    illegal = ~mask[..., None] | (logits == -math.inf)
    if batch.action_mask is not None:
        illegal = illegal | ~batch.action_mask
    logits, weight = torch.where(illegal, 0.0, logits), torch.where(illegal, 0.0, weight)
    mask = mask & (weight != 0.0).any(-1)
    if weak_exponent != 1.0 or strong_exponent != 0.0:
        weight = product_target(logits, weight, illegal, weak_exponent, strong_exponent)
    if isinstance(confidence_weight, Tensor) or confidence_weight > 0.0:
        weight = confidence_target(logits, weight, mask, confidence_weight)
    # An illegal option has weight 0 and the finite stand-in 0 for its logit.
    return reduce_steps(-(weight * logits).sum(-1), mask, reduction)


def product_target(
    logits: Float[Tensor, "model sample step option"],
    weight: Float[Tensor, "model sample step option"],
    illegal: Bool[Tensor, "model sample step option"],
    weak_exponent: float,
    strong_exponent: float,
) -> Float[Tensor, "model sample step option"]:
    """Normalized product of powers of the weak weights and of the student's probabilities."""
    total = weight.sum(-1, keepdim=True)
    share = weight / torch.where(total > 0.0, total, 1.0)
    score = weak_exponent * share.clamp(min=MIN_WEIGHT).log() + strong_exponent * logits.detach()
    score = torch.where(illegal, -math.inf, score)
    empty = illegal.all(-1, keepdim=True)  # steps that are not used
    return total * torch.where(empty, 0.0, torch.where(empty, 0.0, score).softmax(-1))


def confidence_target(
    logits: Float[Tensor, "model sample step option"],
    weight: Float[Tensor, "model sample step option"],
    mask: Bool[Tensor, "model sample step"],
    confidence_weight: PerModelSetting,
) -> Float[Tensor, "model sample step option"]:
    """Mixture of the weak weights with the option that the student chooses.

    Raises:
        UserError: there are not two options.
    """
    if logits.shape[-1] != 2:
        raise UserError(
            f"confidence_weight of {CALLER} needs two options, not {logits.shape[-1]}",
            code="unsupported",
            path="confidence_weight",
        )
    total = weight.sum(-1, keepdim=True)
    share = torch.where(mask, weight[..., 1] / torch.where(total > 0.0, total, 1.0)[..., 0], 0.0)
    number = mask.flatten(1).sum(1)
    weak_share = share.flatten(1).sum(1) / number.clamp(min=1)
    first = torch.where(mask, logits[..., 0].detach(), math.inf).flatten(1)
    threshold = _quantile(first, number, weak_share)[:, None, None]
    # The share of steps below the threshold, where the second option is chosen, is `weak_share`.
    second = (logits[..., 0].detach() < threshold).to(weight.dtype)
    chosen = torch.stack([1.0 - second, second], -1)
    c = broadcast_setting(confidence_weight, weight)
    return (1.0 - c) * weight + c * total * chosen


def _quantile(
    values: Float[Tensor, "model row"],
    number: Tensor,
    level: Float[Tensor, " model"],
) -> Float[Tensor, " model"]:
    """Quantile of the `number` smallest values of each model, with linear interpolation."""
    ordered = values.sort(1).values
    position = level * (number - 1).clamp(min=0)
    low = position.floor().long()
    high = torch.minimum(low + 1, (number - 1).clamp(min=0))
    lower, upper = (ordered.gather(1, index[:, None])[:, 0] for index in (low, high))
    return torch.where(high > low, lower + (position - low) * (upper - lower), lower)
