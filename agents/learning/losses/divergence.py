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

from mores.agents.learning.batch import FeedbackBatch, Output
from mores.agents.learning.losses.policy_gradient import HIGHEST_LOG_RATIO
from mores.agents.learning.losses.reductions import one_of, step_average, within
from mores.agents.learning.losses.sample_selection import steps_of
from mores.core.errors import UserError

DIRECTIONS = ("forward", "reverse", "js")
OTHERS = ("reference", "teacher")
NEVER = -math.inf
WHY = "the kl term"


def kl(
    out: Output,
    batch: FeedbackBatch,
    *,
    direction: str = "reverse",
    to: str = "reference",
    top_k: int | None = None,
    mixture: float = 0.5,
    corrected: bool = False,
    per: str = "step",
    which: str = "all",
) -> Float[Tensor, " policy"]:
    """Divergence from a reference or a teacher, the mean over a policy's steps, in nats.

    Args:
        out: what the policies say.
        batch: with `reference_logits` or `teacher_logp`; or with `reference_logp` alone, for the
            estimate of the reverse divergence.
        direction: `forward`, `reverse` or `js`.
        to: `reference` or `teacher`.
        top_k: over how many of the other's likeliest options, None: all.
        mixture: β of `js`, the other's share, in (0, 1).
        corrected: whether the estimate is multiplied by the ratio; needs `old_logp`.
        per: `step` or `sample`, see `masked.step_average`.
        which: the samples in question, see `samples.chosen`.

    Raises:
        UserError: a setting is unknown or out of range, or something is missing.
    """
    one_of("direction of the kl term", direction, DIRECTIONS, path="direction")
    one_of("other, `to`,", to, OTHERS, path="to")
    mask = steps_of(batch, which, WHY)
    exact = out.logits is not None and (to == "teacher" or batch.reference_logits is not None)
    if not exact and to == "reference" and direction == "reverse" and top_k is None:
        return step_average(_estimate(out, batch, mask, corrected), mask, per)
    ours = out.need("logits", f"{WHY} of all options")
    theirs = batch.need("reference_logits" if to == "reference" else "teacher_logp", WHY)
    ours = torch.where(mask[..., None], ours, 0.0)
    theirs = torch.where(mask[..., None], theirs, 0.0)
    if top_k is not None:
        if not 1 <= top_k <= theirs.shape[-1]:
            raise UserError(
                f"{WHY} has {theirs.shape[-1]} options, no top {top_k}",
                code="out_of_range",
                path="top_k",
            )
        theirs, kept = theirs.topk(top_k, dim=-1)
        ours = ours.gather(-1, kept)
    ours, theirs = ours.log_softmax(-1), theirs.log_softmax(-1)
    return step_average(_exact(ours, theirs, direction, mixture), mask, per)


def _exact(
    ours: Float[Tensor, "policy sample step option"],
    theirs: Float[Tensor, "policy sample step option"],
    direction: str,
    mixture: float,
) -> Float[Tensor, "policy sample step"]:
    not_ours, not_theirs = ours == NEVER, theirs == NEVER
    if direction == "forward":
        return _relative_entropy(theirs, ours, not_theirs)
    if direction == "reverse":
        return _relative_entropy(ours, theirs, not_ours)
    within("the kl term's mixture", mixture, 1e-6, 1.0 - 1e-6, path="mixture")
    # What is closed to both is left out before, as its gradient would be NaN.
    neither = not_ours & not_theirs
    ours, theirs = torch.where(neither, 0.0, ours), torch.where(neither, 0.0, theirs)
    mixed = torch.logaddexp(ours + math.log1p(-mixture), theirs + math.log(mixture))
    to_theirs = _relative_entropy(theirs, mixed, not_theirs)
    return mixture * to_theirs + (1.0 - mixture) * _relative_entropy(ours, mixed, not_ours)


def _relative_entropy(
    one: Float[Tensor, "policy sample step option"],
    other: Float[Tensor, "policy sample step option"],
    absent: Bool[Tensor, "policy sample step option"],
) -> Float[Tensor, "policy sample step"]:
    """Σ exp(one) (one - other), over the options that the one has."""
    one, other = torch.where(absent, 0.0, one), torch.where(absent, 0.0, other)
    return torch.where(absent, 0.0, one.exp() * (one - other)).sum(-1)


def _estimate(
    out: Output, batch: FeedbackBatch, mask: Bool[Tensor, "policy sample step"], corrected: bool
) -> Float[Tensor, "policy sample step"]:
    before = batch.need("reference_logp", f"{WHY}, without logits of both,")
    ahead = torch.where(mask, before - out.logp, 0.0).clamp(max=HIGHEST_LOG_RATIO)
    estimate = ahead.exp() - ahead - 1.0
    if not corrected:
        return estimate
    old = batch.need("old_logp", f"{WHY}, to be corrected,")
    return estimate * torch.where(mask, out.logp - old, 0.0).clamp(max=HIGHEST_LOG_RATIO).exp()
