"""Expected score: options with a higher score become more likely.

    L = -mean_t w Σ_a π(a | s_t) A(s_t, a)

The second half of ADPA (2502.17927): the score A is log π_aligned - log π_unaligned of two
teachers, in the states of answers of the student. The expectation is exact; nothing is sampled.
Nothing holds the policy close to its start either: combine the loss with `nll_loss` or `kl_loss`.
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
CALLER = "expected_score_loss"


def expected_score_loss(
    out: ModelOutput,
    batch: FeedbackBatch,
    *,
    importance_weighted: bool = False,
    max_importance_weight: float = math.inf,
    reduction: str = "step",
    subset: str = "all",
) -> Float[Tensor, " model"]:
    """Negative expected score of the next action.

    Args:
        out: output of the models, with `logits`.
        batch: with `option_score`; its values at illegal options are ignored.
        importance_weighted: whether samples have weights exp Σ_t (log π(a_t) - log π_old(a_t)),
            without a gradient through them; needs `old_logp`.
        max_importance_weight: upper limit of these weights.
        reduction: `step` or `sample`, see `reduce_steps`.
        subset: samples used, see `select_samples`.

    Raises:
        UserError: a setting is unknown or out of range, or a required field is missing.
    """
    mask = select_steps(batch, subset, CALLER)
    logits = out.require("logits", CALLER)
    illegal = ~mask[..., None] | (logits == LOG_ZERO)
    if batch.action_mask is not None:
        illegal = illegal | ~batch.action_mask
    probability = torch.where(illegal, 0.0, logits).exp()
    score = torch.where(illegal, 0.0, batch.require("option_score", CALLER))
    loss = -torch.where(illegal, 0.0, probability * score).sum(-1)
    if importance_weighted:
        name = "max_importance_weight"
        check_positive(f"{name} of {CALLER}", max_importance_weight, path=name)
        old_logp = batch.require("old_logp", f"{CALLER} with importance_weighted")
        log_ratio = torch.where(mask, out.logp.detach() - old_logp, 0.0).sum(-1)
        weight = log_ratio.clamp(max=MAX_LOG_RATIO).exp().clamp(max=max_importance_weight)
        loss = loss * weight[..., None]
    return reduce_steps(loss, mask, reduction)
