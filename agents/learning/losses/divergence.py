"""How far a policy is from another one.

With the other's probabilities T (a reference, a teacher) and the policy's π over all options

    forward  KL(T || π) = Σ T (log T - log π)      distillation; DCKD (2502.17927), BiAlign
    reverse  KL(π || T) = Σ π (log π - log T)      what RLHF holds a policy back by
    js       β KL(T || M) + (1 - β) KL(π || M),  M = β T + (1 - β) π      (GKD, 2306.13649)

a mean over steps. With `top_k` both are renormalised over the k options that the other holds most
likely (Baichuan, 2410.14940, with k = 500). Where only log-probabilities of what was done are
there, the reverse divergence is estimated from them (Schulman 2020, his third estimator; GRPO's):

    exp(log T(a) - log π(a)) - (log T(a) - log π(a)) - 1

which is unbiased for acts that the policy itself draws now, though its gradient is not. Times the
ratio ρ = π(a) / π_old(a), through which gradients go, both are unbiased, for acts that the old
policy drew (DeepSeek-V3.2, 2512.02556, and TRL since 1.16). A divergence is infinite where an
option that the one has is closed to the other.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch, ModelOutput
from mores.agents.learning.losses.policy_gradient import MAX_LOG_RATIO
from mores.agents.learning.losses.reductions import check_choice, check_range, reduce_steps
from mores.agents.learning.losses.sample_selection import select_steps
from mores.core.errors import UserError

DIRECTIONS = ("forward", "reverse", "js")
OTHER_POLICIES = ("reference", "teacher")
LOG_ZERO = -math.inf
CALLER = "the kl term"


def kl_loss(
    out: ModelOutput,
    batch: FeedbackBatch,
    *,
    direction: str = "reverse",
    other_policy: str = "reference",
    top_k: int | None = None,
    mixture_weight: float = 0.5,
    importance_weighted: bool = False,
    reduction: str = "step",
    subset: str = "all",
) -> Float[Tensor, " policy"]:
    """Divergence from a reference or a teacher, the mean over a policy's steps, in nats.

    Args:
        out: what the policies say.
        batch: with `reference_logits` or `teacher_logits`; or with `reference_logp` alone, for the
            estimate of the reverse divergence.
        direction: `forward`, `reverse` or `js`.
        other_policy: `reference` or `teacher_model`.
        top_k: over how many of the other's likeliest options, None: all.
        mixture_weight: β of `js`, the other's share, in (0, 1).
        importance_weighted: whether the estimate is multiplied by the ratio; needs `old_logp`.
        reduction: `step` or `sample`, see `masked.step_average`.
        subset: the samples in question, see `samples.chosen`.

    Raises:
        UserError: a setting is unknown or out of range, or something is missing.
    """
    check_choice("direction of the kl term", direction, DIRECTIONS, path="direction")
    check_choice("other, `to`,", other_policy, OTHER_POLICIES, path="to")
    mask = select_steps(batch, subset, CALLER)
    exact = out.logits is not None and (
        other_policy == "teacher" or batch.reference_logits is not None
    )
    if not exact and other_policy == "reference" and direction == "reverse" and top_k is None:
        return reduce_steps(_k3_estimate(out, batch, mask, importance_weighted), mask, reduction)
    ours = out.require("logits", f"{CALLER} of all options")
    theirs = batch.require(
        "reference_logits" if other_policy == "reference" else "teacher_logits", CALLER
    )
    ours = torch.where(mask[..., None], ours, 0.0)
    theirs = torch.where(mask[..., None], theirs, 0.0)
    if top_k is not None:
        if not 1 <= top_k <= theirs.shape[-1]:
            raise UserError(
                f"{CALLER} has {theirs.shape[-1]} options, no top {top_k}",
                code="out_of_range",
                path="top_k",
            )
        theirs, kept = theirs.topk(top_k, dim=-1)
        ours = ours.gather(-1, kept)
    ours, theirs = ours.log_softmax(-1), theirs.log_softmax(-1)
    return reduce_steps(_exact_divergence(ours, theirs, direction, mixture_weight), mask, reduction)


def _exact_divergence(
    ours: Float[Tensor, "policy sample step option"],
    theirs: Float[Tensor, "policy sample step option"],
    direction: str,
    mixture_weight: float,
) -> Float[Tensor, "policy sample step"]:
    not_ours, not_theirs = ours == LOG_ZERO, theirs == LOG_ZERO
    if direction == "forward":
        return _relative_entropy(theirs, ours, not_theirs)
    if direction == "reverse":
        return _relative_entropy(ours, theirs, not_ours)
    check_range("the kl term's mixture", mixture_weight, 1e-6, 1.0 - 1e-6, path="mixture")
    # What is closed to both is left out before, as its gradient would be NaN.
    neither = not_ours & not_theirs
    ours, theirs = torch.where(neither, 0.0, ours), torch.where(neither, 0.0, theirs)
    mixed = torch.logaddexp(ours + math.log1p(-mixture_weight), theirs + math.log(mixture_weight))
    to_theirs = _relative_entropy(theirs, mixed, not_theirs)
    return mixture_weight * to_theirs + (1.0 - mixture_weight) * _relative_entropy(
        ours, mixed, not_ours
    )


def _relative_entropy(
    one: Float[Tensor, "policy sample step option"],
    other: Float[Tensor, "policy sample step option"],
    absent: Bool[Tensor, "policy sample step option"],
) -> Float[Tensor, "policy sample step"]:
    """Σ exp(one) (one - other), over the options that the one has."""
    one, other = torch.where(absent, 0.0, one), torch.where(absent, 0.0, other)
    return torch.where(absent, 0.0, one.exp() * (one - other)).sum(-1)


def _k3_estimate(
    out: ModelOutput,
    batch: FeedbackBatch,
    mask: Bool[Tensor, "policy sample step"],
    importance_weighted: bool,
) -> Float[Tensor, "policy sample step"]:
    before = batch.require("reference_logp", f"{CALLER}, without logits of both,")
    ahead = torch.where(mask, before - out.logp, 0.0).clamp(max=MAX_LOG_RATIO)
    estimate = ahead.exp() - ahead - 1.0
    if not importance_weighted:
        return estimate
    old = batch.require("old_logp", f"{CALLER}, to be corrected,")
    return estimate * torch.where(mask, out.logp - old, 0.0).clamp(max=MAX_LOG_RATIO).exp()
