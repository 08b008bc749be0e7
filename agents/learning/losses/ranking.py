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

from mores.agents.learning.batch import FeedbackBatch, Output
from mores.agents.learning.losses.reductions import Setting, along, average, one_of, positive
from mores.agents.learning.losses.sample_selection import pick_samples, sample_scores

LINKS = ("hinge", "plackett_luce", "spaced")
WHY = "the rank term"


def rank(
    out: Output,
    batch: FeedbackBatch,
    *,
    link: str = "hinge",
    score: str = "mean_logp",
    scale: Setting = 1.0,
    margin: Setting = 0.0,
    output: int = 0,
) -> Float[Tensor, " policy"]:
    """Ranking loss, the mean over a policy's lists.

    Args:
        out: what the policies say.
        batch: with `candidates` and `rank_score`, and what the score needs.
        link: `hinge`, `plackett_luce` or `spaced`.
        score: how samples are scored, see `samples.sample_scores`.
        scale: β, 1 / unit of the score; `spaced` has no use for it.
        margin: m, by how much a better candidate should lead for each unit of `rank_score`, for
            `hinge`.
        output: which number of a reward head, for `score="score"`.

    Raises:
        UserError: a setting is unknown or out of range, or something is missing.
    """
    one_of("link of the rank term", link, LINKS, path="link")
    positive("the rank term's scale", scale, path="scale")
    candidates = batch.need("candidates", WHY)
    given = batch.need("rank_score", WHY)
    places = candidates.shape
    flat = candidates.flatten(1)
    real = ((flat >= 0) & pick_samples(batch.mask.any(-1), flat)).view(places)
    scores = pick_samples(sample_scores(out, batch, score, output, WHY), flat).view(places)
    scores = torch.where(real, scores, 0.0)
    given = torch.where(real, given, 0.0)

    better = given[..., :, None] > given[..., None, :]
    better = better & real[..., :, None] & real[..., None, :]  # policy list place place
    if link == "plackett_luce":
        loss = _unlikely_order(along(scale, scores) * scores, given, real)
    else:
        behind = scores[..., None, :] - scores[..., :, None]  # of i against j, where i is better
        if link == "hinge":
            gap = given[..., :, None] - given[..., None, :]
            short = along(scale, behind) * behind + along(margin, behind) * gap
        else:
            short = _spacing(behind, scores, better, real)
        short = torch.where(better, short.clamp(min=0.0), 0.0)
        loss = short.sum((-1, -2)) / better.sum((-1, -2)).clamp(min=1)
    return average(loss, better.any(-1).any(-1))


def _unlikely_order(
    scores: Float[Tensor, "policy list place"],
    given: Float[Tensor, "policy list place"],
    real: Bool[Tensor, "policy list place"],
) -> Float[Tensor, "policy list"]:
    """Negative log-probability that candidates come in the given order."""
    lowest = torch.finfo(given.dtype).min
    ranked = torch.where(real, given, lowest)
    order = torch.sort(ranked, dim=-1, descending=True, stable=True).indices
    scores, real = scores.gather(-1, order), real.gather(-1, order)
    # Those that are not there come last; they are given no weight among those that remain.
    remaining = torch.where(real, scores, torch.finfo(scores.dtype).min).flip(-1)
    remaining = remaining.logcumsumexp(-1).flip(-1)
    return torch.where(real, remaining - scores, 0.0).sum(-1)


def _spacing(
    behind: Float[Tensor, "policy list place place"],
    scores: Float[Tensor, "policy list place"],
    better: Bool[Tensor, "policy list place place"],
    real: Bool[Tensor, "policy list place"],
) -> Float[Tensor, "policy list place place"]:
    """By how much stretched scores are closer than ranks."""
    largest = torch.finfo(scores.dtype).max
    top = torch.where(real, scores, -largest).amax(-1)
    bottom = torch.where(real, scores, largest).amin(-1)
    # Where all scores are equal there is nothing to stretch, and where nobody is, no range.
    spread = torch.where(real.any(-1) & (top != bottom), top - bottom, 1.0)[..., None, None]
    place = better.sum(-2).to(scores.dtype)  # how many are better than j
    count = real.sum(-1)[..., None, None]
    gap = (place[..., None, :] - place[..., :, None]) / (count - 1).clamp(min=1)
    return behind / spread + gap
