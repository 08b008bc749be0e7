"""Options that are worth more become more likely: a teacher's advantage, option by option.

    L = -mean_t w Σ_a π(a | s_t) A(s_t, a)

ADPA's second half (2502.17927): A is log π_aligned - log π_unaligned of two teachers, in the states
of answers that the student gave. The expectation is exact, nothing is sampled. Nothing anchors the
policy either, beyond where the scores are meaningful: put `nll_loss` or `kl_loss` beside it.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch, ModelOutput
from mores.agents.learning.losses.policy_gradient import MAX_LOG_RATIO
from mores.agents.learning.losses.reductions import check_positive, reduce_steps
from mores.agents.learning.losses.sample_selection import select_steps

LOG_ZERO = -math.inf
CALLER = "the expected_score term"


def expected_score_loss(
    out: ModelOutput,
    batch: FeedbackBatch,
    *,
    importance_weighted: bool = False,
    max_importance_weight: float = math.inf,
    reduction: str = "step",
    subset: str = "all",
) -> Float[Tensor, " policy"]:
    """Negative expected score of the policy's next act.

    Args:
        out: what the policies say, with `logits`.
        batch: with `option_score`; what it holds for options that are not open plays no part.
        importance_weighted: whether each sample is weighted by how much more likely its acts have become
            since they were done, exp Σ_t (log π(a_t) - log π_old(a_t)); needs `old_logp`, and no
            gradient goes through it.
        max_importance_weight: the largest such weight.
        reduction: `step` or `sample`, see `masked.step_average`.
        subset: the samples in question, see `samples.chosen`.

    Raises:
        UserError: a setting is unknown or out of range, or something is missing.
    """
    mask = select_steps(batch, subset, CALLER)
    logits = out.require("logits", CALLER)
    closed = ~mask[..., None] | (logits == LOG_ZERO)
    if batch.action_mask is not None:
        closed = closed | ~batch.action_mask
    chance = torch.where(closed, 0.0, logits).exp()
    worth = torch.where(closed, 0.0, batch.require("option_score", CALLER))
    loss = -torch.where(closed, 0.0, chance * worth).sum(-1)
    if importance_weighted:
        check_positive("the expected_score term's cap", max_importance_weight, path="cap")
        log_ratio = out.logp.detach() - batch.require("old_logp", f"{CALLER} with importance")
        log_ratio = torch.where(mask, log_ratio, 0.0).sum(-1)
        loss = (
            loss
            * log_ratio.clamp(max=MAX_LOG_RATIO).exp().clamp(max=max_importance_weight)[..., None]
        )
    return reduce_steps(loss, mask, reduction)
