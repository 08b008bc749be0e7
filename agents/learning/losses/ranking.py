"""Ranking losses: several samples have an order; the losses depend on order and spacing of scores.

With scores s of the candidates of a list, given scores q (higher is better) and scale β

    hinge          mean over pairs with q_i > q_j of max(0, β (s_j - s_i) + m (q_i - q_j))
    plackett_luce  -log P(order) = -Σ_k [β s_(k) - log Σ_{j >= k} exp(β s_(j))]
    spaced         mean over pairs with q_i > q_j of
                   max(0, (s_j - s_i) / (max s - min s) + (rank_j - rank_i) / (N - 1))

`hinge` is RRHF's (Yuan et al. 2023, 2304.05302) for m = 0; with a margin by gap, near ties have
little weight and ties none. `plackett_luce` is ListMLE (Xia et al. 2008), the likelihood of the
order under Plackett and Luce; with two candidates it is Bradley-Terry's. Candidates of equal q take
the order of their positions, so use it on strict orders. `spaced` is BiAlign's (2312.17055): rank 1
is best, and the loss is 0 only if the scores, scaled to [0, 1], have exactly the distances of the
ranks; the right order is not enough.

Lists count the same at every length; a list without two candidates of different q does not
count. Differs from the papers: RRHF and BiAlign add pairs, here each list has the mean over pairs.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch, ModelOutput
from mores.agents.learning.losses.reductions import (
    PerModelSetting,
    broadcast_setting,
    check_choice,
    check_positive,
    masked_mean,
)
from mores.agents.learning.losses.sample_selection import gather_samples, sample_scores

LOSS_TYPES = ("hinge", "plackett_luce", "spaced")
CALLER = "ranking_loss"


def ranking_loss(
    out: ModelOutput,
    batch: FeedbackBatch,
    *,
    loss_type: str = "hinge",
    score_type: str = "mean_logp",
    beta: PerModelSetting = 1.0,
    margin: PerModelSetting = 0.0,
    score_index: int = 0,
) -> Float[Tensor, " model"]:
    """Ranking loss, the mean over the lists of each model.

    Args:
        out: output of the models.
        batch: with `candidates` and `rank_score`, and the fields that the score needs.
        loss_type: `hinge`, `plackett_luce` or `spaced`.
        score_type: score of a sample, see `sample_scores`.
        beta: β, 1 / unit of the score; `spaced` ignores it.
        margin: m, required lead of a better candidate per unit of `rank_score`, for `hinge`.
        score_index: index of the reward-head output, for `score_type="reward_head"`.

    Raises:
        UserError: a setting is unknown or out of range, or a required field is missing.
    """
    check_choice(f"loss_type of {CALLER}", loss_type, LOSS_TYPES, path="loss_type")
    check_positive(f"beta of {CALLER}", beta, path="beta")
    candidates = batch.require("candidates", CALLER)
    rank_score = batch.require("rank_score", CALLER)
    shape = candidates.shape
    flat = candidates.flatten(1)
    valid = ((flat >= 0) & gather_samples(batch.mask.any(-1), flat)).view(shape)
    scores = sample_scores(out, batch, score_type, score_index, CALLER)
    scores = torch.where(valid, gather_samples(scores, flat).view(shape), 0.0)
    rank_score = torch.where(valid, rank_score, 0.0)

    better = rank_score[..., :, None] > rank_score[..., None, :]
    better = better & valid[..., :, None] & valid[..., None, :]  # model list position position
    if loss_type == "plackett_luce":
        loss = _plackett_luce_loss(broadcast_setting(beta, scores) * scores, rank_score, valid)
    else:
        deficit = scores[..., None, :] - scores[..., :, None]  # of i against j, where i is better
        if loss_type == "hinge":
            gap = rank_score[..., :, None] - rank_score[..., None, :]
            shortfall = broadcast_setting(beta, deficit) * deficit
            shortfall = shortfall + broadcast_setting(margin, deficit) * gap
        else:
            shortfall = _spacing_shortfall(deficit, scores, better, valid)
        shortfall = torch.where(better, shortfall.clamp(min=0.0), 0.0)
        loss = shortfall.sum((-1, -2)) / better.sum((-1, -2)).clamp(min=1)
    return masked_mean(loss, better.any(-1).any(-1))


def _plackett_luce_loss(
    scores: Float[Tensor, "model list position"],
    rank_score: Float[Tensor, "model list position"],
    valid: Bool[Tensor, "model list position"],
) -> Float[Tensor, "model list"]:
    """Negative log-probability of the given order of the candidates."""
    lowest = torch.finfo(rank_score.dtype).min
    ranked = torch.where(valid, rank_score, lowest)
    order = torch.sort(ranked, dim=-1, descending=True, stable=True).indices
    scores, valid = scores.gather(-1, order), valid.gather(-1, order)
    # Padding comes last and has no weight among the remaining candidates.
    remaining = torch.where(valid, scores, torch.finfo(scores.dtype).min).flip(-1)
    remaining = remaining.logcumsumexp(-1).flip(-1)
    return torch.where(valid, remaining - scores, 0.0).sum(-1)


def _spacing_shortfall(
    deficit: Float[Tensor, "model list position position"],
    scores: Float[Tensor, "model list position"],
    better: Bool[Tensor, "model list position position"],
    valid: Bool[Tensor, "model list position"],
) -> Float[Tensor, "model list position position"]:
    """Distance of ranks minus distance of scaled scores, of each pair."""
    largest = torch.finfo(scores.dtype).max
    top = torch.where(valid, scores, -largest).amax(-1)
    bottom = torch.where(valid, scores, largest).amin(-1)
    # Equal scores cannot be scaled, and a list of padding has no range: divide by 1.
    score_range = torch.where(valid.any(-1) & (top != bottom), top - bottom, 1.0)[..., None, None]
    rank = better.sum(-2).to(scores.dtype)  # number of candidates better than j
    count = valid.sum(-1)[..., None, None]
    gap = (rank[..., None, :] - rank[..., :, None]) / (count - 1).clamp(min=1)
    return deficit / score_range + gap
