"""Divergence between a policy and another policy.

With the other policy's probabilities T (a reference, a teacher) and π over all options

    forward  KL(T || π) = Σ T (log T - log π)      distillation; DCKD (2502.17927), BiAlign
    reverse  KL(π || T) = Σ π (log π - log T)      the KL penalty of RLHF
    js       β KL(T || M) + (1 - β) KL(π || M),  M = β T + (1 - β) π      (GKD, 2306.13649)

averaged over steps. With `top_k` both are renormalized over the k most probable options of T
(Baichuan, 2410.14940, with k = 500). If only log-probabilities of the taken actions are known, the
reverse divergence is estimated from them (Schulman 2020, his third estimator; GRPO's):

    exp(log T(a) - log π(a)) - (log T(a) - log π(a)) - 1

which is unbiased for actions of the current policy, though its gradient is not. Times the ratio
ρ = π(a) / π_old(a), through which gradients flow, both are unbiased, for actions of the old policy
(DeepSeek-V3.2, 2512.02556, and TRL since 1.16). A divergence is infinite if the second policy
excludes an option of the first.
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
CALLER = "kl_loss"


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
) -> Float[Tensor, " model"]:
    """Divergence from a reference or a teacher, the mean over the steps of each model, in nats.

    Args:
        out: output of the models.
        batch: with `reference_logits` or `teacher_logits`; or with `reference_logp` alone, for the
            estimate of the reverse divergence.
        direction: `forward`, `reverse` or `js`.
        other_policy: `reference` or `teacher`.
        top_k: number of the other policy's most probable options to use, None: all.
        mixture_weight: β of `js`, the weight of the other policy, in (0, 1).
        importance_weighted: whether the estimate is multiplied by the ratio; needs `old_logp`.
        reduction: `step` or `sample`, see `reduce_steps`.
        subset: samples used, see `select_samples`.

    Raises:
        UserError: a setting is unknown or out of range, or a required field is missing.
    """
    check_choice(f"direction of {CALLER}", direction, DIRECTIONS, path="direction")
    check_choice(f"other_policy of {CALLER}", other_policy, OTHER_POLICIES, path="other_policy")
    mask = select_steps(batch, subset, CALLER)
    exact = out.logits is not None and (
        other_policy == "teacher" or batch.reference_logits is not None
    )
    if not exact and other_policy == "reference" and direction == "reverse" and top_k is None:
        return reduce_steps(_k3_estimate(out, batch, mask, importance_weighted), mask, reduction)
    logits = out.require("logits", f"{CALLER} over all options")
    other_logits = batch.require(f"{other_policy}_logits", CALLER)
    logits = torch.where(mask[..., None], logits, 0.0)
    other_logits = torch.where(mask[..., None], other_logits, 0.0)
    if top_k is not None:
        if not 1 <= top_k <= other_logits.shape[-1]:
            raise UserError(
                f"top_k of {CALLER} must lie in [1, {other_logits.shape[-1]}], not be {top_k}",
                code="out_of_range",
                path="top_k",
            )
        other_logits, top_options = other_logits.topk(top_k, dim=-1)
        logits = logits.gather(-1, top_options)
    logp, other_logp = logits.log_softmax(-1), other_logits.log_softmax(-1)
    divergence = _exact_divergence(logp, other_logp, direction, mixture_weight)
    return reduce_steps(divergence, mask, reduction)


def _exact_divergence(
    logp: Float[Tensor, "model sample step option"],
    other_logp: Float[Tensor, "model sample step option"],
    direction: str,
    mixture_weight: float,
) -> Float[Tensor, "model sample step"]:
    excluded, other_excluded = logp == LOG_ZERO, other_logp == LOG_ZERO
    if direction == "forward":
        return _relative_entropy(other_logp, logp, other_excluded)
    if direction == "reverse":
        return _relative_entropy(logp, other_logp, excluded)
    check_range("mixture_weight", mixture_weight, 1e-6, 1.0 - 1e-6, path="mixture_weight")
    # Options that both exclude are removed first, as their gradient would be NaN.
    both = excluded & other_excluded
    logp, other_logp = torch.where(both, 0.0, logp), torch.where(both, 0.0, other_logp)
    mixture = torch.logaddexp(
        logp + math.log1p(-mixture_weight), other_logp + math.log(mixture_weight)
    )
    from_other = _relative_entropy(other_logp, mixture, other_excluded)
    from_policy = _relative_entropy(logp, mixture, excluded)
    return mixture_weight * from_other + (1.0 - mixture_weight) * from_policy


def _relative_entropy(
    logp: Float[Tensor, "model sample step option"],
    other_logp: Float[Tensor, "model sample step option"],
    excluded: Bool[Tensor, "model sample step option"],
) -> Float[Tensor, "model sample step"]:
    """Σ exp(logp) (logp - other_logp), over the options that are not excluded."""
    logp, other_logp = torch.where(excluded, 0.0, logp), torch.where(excluded, 0.0, other_logp)
    return torch.where(excluded, 0.0, logp.exp() * (logp - other_logp)).sum(-1)


def _k3_estimate(
    out: ModelOutput,
    batch: FeedbackBatch,
    mask: Bool[Tensor, "model sample step"],
    importance_weighted: bool,
) -> Float[Tensor, "model sample step"]:
    reference = batch.require("reference_logp", f"{CALLER} without the logits of both policies")
    log_ratio = torch.where(mask, reference - out.logp, 0.0).clamp(max=MAX_LOG_RATIO)
    estimate = log_ratio.exp() - log_ratio - 1.0
    if not importance_weighted:
        return estimate
    old = batch.require("old_logp", f"{CALLER} with importance_weighted")
    return estimate * torch.where(mask, out.logp - old, 0.0).clamp(max=MAX_LOG_RATIO).exp()
