"""Options that are worth more become more likely: a teacher's advantage, option by option.

    L = -mean_t w Σ_a π(a | s_t) A(s_t, a)

ADPA's second half (2502.17927): A is log π_aligned - log π_unaligned of two teachers, in the states
of answers that the student gave. The expectation is exact, nothing is sampled. Nothing anchors the
policy either, beyond where the scores are meaningful: put `nll` or `kl` beside it.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch, Output
from mores.agents.learning.losses.policy_gradient import HIGHEST_LOG_RATIO
from mores.agents.learning.losses.reductions import positive, step_average
from mores.agents.learning.losses.sample_selection import steps_of

NEVER = -math.inf
WHY = "the expected_score term"


def expected_score(
    out: Output,
    batch: FeedbackBatch,
    *,
    importance: bool = False,
    cap: float = math.inf,
    per: str = "step",
    which: str = "all",
) -> Float[Tensor, " policy"]:
    """Negative expected score of the policy's next act.

    Args:
        out: what the policies say, with `logits`.
        batch: with `option_score`; what it holds for options that are not open plays no part.
        importance: whether each sample is weighted by how much more likely its acts have become
            since they were done, exp Σ_t (log π(a_t) - log π_old(a_t)); needs `old_logp`, and no
            gradient goes through it.
        cap: the largest such weight.
        per: `step` or `sample`, see `masked.step_average`.
        which: the samples in question, see `samples.chosen`.

    Raises:
        UserError: a setting is unknown or out of range, or something is missing.
    """
    mask = steps_of(batch, which, WHY)
    logits = out.need("logits", WHY)
    closed = ~mask[..., None] | (logits == NEVER)
    if batch.legal is not None:
        closed = closed | ~batch.legal
    chance = torch.where(closed, 0.0, logits).exp()
    worth = torch.where(closed, 0.0, batch.need("option_score", WHY))
    loss = -torch.where(closed, 0.0, chance * worth).sum(-1)
    if importance:
        positive("the expected_score term's cap", cap, path="cap")
        log_ratio = out.logp.detach() - batch.need("old_logp", f"{WHY} with importance")
        log_ratio = torch.where(mask, log_ratio, 0.0).sum(-1)
        loss = loss * log_ratio.clamp(max=HIGHEST_LOG_RATIO).exp().clamp(max=cap)[..., None]
    return step_average(loss, mask, per)
