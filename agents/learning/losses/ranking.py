"""Several samples in an order: losses on how a policy's scores are ordered and spaced.

With scores s of the candidates of a list, given scores q (higher is better) and scale β

    hinge          mean over pairs with q_i > q_j of max(0, β (s_j - s_i) + m (q_i - q_j))
    plackett_luce  -log P(order) = -Σ_k [β s_(k) - log Σ_{j >= k} exp(β s_(j))]
    spaced         mean over pairs with q_i > q_j of
                   max(0, (s_j - s_i) / (max s - min s) + (rank_j - rank_i) / (N - 1))

`hinge` is RRHF's (Yuan et al. 2023, 2304.05302) for m = 0; a margin by gap makes near ties count
little and ties not at all. `plackett_luce` is ListMLE (Xia et al. 2008), likelihood of the order
under Plackett and Luce; with two candidates it is Bradley-Terry's. Candidates of equal q take the
order in which they stand, so use it on strict orders. `spaced` is BiAlign's (2312.17055): rank 1
is best, and a policy pays nothing only where its scores, stretched to [0, 1], stand exactly as far
apart as the ranks; the right order is not enough.

Lists count the same, whatever their length; a list without two candidates of different q does not
count. Differs from the papers: RRHF and BiAlign add pairs up, here they are averaged in each list.
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
CALLER = "the rank term"


def ranking_loss(
    out: ModelOutput,
    batch: FeedbackBatch,
    *,
    loss_type: str = "hinge",
    score_type: str = "mean_logp",
    beta: PerModelSetting = 1.0,
    margin: PerModelSetting = 0.0,
    score_index: int = 0,
) -> Float[Tensor, " policy"]:
    """Ranking loss, the mean over a policy's lists.

    Args:
        out: what the policies say.
        batch: with `candidates` and `rank_score`, and what the score needs.
        loss_type: `hinge`, `plackett_luce` or `spaced`.
        score_type: how samples are scored, see `samples.sample_scores`.
        beta: β, 1 / unit of the score; `spaced` has no use for it.
        margin: m, by how much a better candidate should lead for each unit of `rank_score`, for
            `hinge`.
        score_index: which number of a reward head, for `score="score"`.

    Raises:
        UserError: a setting is unknown or out of range, or something is missing.
    """
    check_choice("link of the rank term", loss_type, LOSS_TYPES, path="link")
    check_positive("the rank term's scale", beta, path="scale")
    candidates = batch.require("candidates", CALLER)
    given = batch.require("rank_score", CALLER)
    places = candidates.shape
    flat = candidates.flatten(1)
    real = ((flat >= 0) & gather_samples(batch.mask.any(-1), flat)).view(places)
    scores = gather_samples(sample_scores(out, batch, score_type, score_index, CALLER), flat).view(
        places
    )
    scores = torch.where(real, scores, 0.0)
    given = torch.where(real, given, 0.0)

    better = given[..., :, None] > given[..., None, :]
    better = better & real[..., :, None] & real[..., None, :]  # policy list place place
    if loss_type == "plackett_luce":
        loss = _plackett_luce_loss(broadcast_setting(beta, scores) * scores, given, real)
    else:
        behind = scores[..., None, :] - scores[..., :, None]  # of i against j, where i is better
        if loss_type == "hinge":
            gap = given[..., :, None] - given[..., None, :]
            short = (
                broadcast_setting(beta, behind) * behind + broadcast_setting(margin, behind) * gap
            )
        else:
            short = _spacing_shortfall(behind, scores, better, real)
        short = torch.where(better, short.clamp(min=0.0), 0.0)
        loss = short.sum((-1, -2)) / better.sum((-1, -2)).clamp(min=1)
    return masked_mean(loss, better.any(-1).any(-1))


def _plackett_luce_loss(
    scores: Float[Tensor, "policy list place"],
    rank_score: Float[Tensor, "policy list place"],
    valid: Bool[Tensor, "policy list place"],
) -> Float[Tensor, "policy list"]:
    """Negative log-probability that candidates come in the given order."""
    lowest = torch.finfo(rank_score.dtype).min
    ranked = torch.where(valid, rank_score, lowest)
    order = torch.sort(ranked, dim=-1, descending=True, stable=True).indices
    scores, valid = scores.gather(-1, order), valid.gather(-1, order)
    # Those that are not there come last; they are given no weight among those that remain.
    remaining = torch.where(valid, scores, torch.finfo(scores.dtype).min).flip(-1)
    remaining = remaining.logcumsumexp(-1).flip(-1)
    return torch.where(valid, remaining - scores, 0.0).sum(-1)


def _spacing_shortfall(
    behind: Float[Tensor, "policy list place place"],
    scores: Float[Tensor, "policy list place"],
    better: Bool[Tensor, "policy list place place"],
    valid: Bool[Tensor, "policy list place"],
) -> Float[Tensor, "policy list place place"]:
    """By how much stretched scores are closer than ranks."""
    largest = torch.finfo(scores.dtype).max
    top = torch.where(valid, scores, -largest).amax(-1)
    bottom = torch.where(valid, scores, largest).amin(-1)
    # Where all scores are equal there is nothing to stretch, and where nobody is, no range.
    spread = torch.where(valid.any(-1) & (top != bottom), top - bottom, 1.0)[..., None, None]
    place = better.sum(-2).to(scores.dtype)  # how many are better than j
    count = valid.sum(-1)[..., None, None]
    gap = (place[..., None, :] - place[..., :, None]) / (count - 1).clamp(min=1)
    return behind / spread + gap
