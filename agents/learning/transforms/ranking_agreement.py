"""Where two rankings agree, and how far apart ranks stand.

CycleAlign (arXiv 2310.16271; as remembered, unverified): a judge that can only be asked ranks a
policy's answers, the policy ranks them by their likelihood, and what both say alike is believed.
The agreement is the longest common subsequence of the two rankings. Of several longest ones, the
one is taken that ends, and continues backwards, earliest in the first ranking; which one the
authors take is not known here.

A ranking becomes scores between 0 (last) and 1 (first), whose differences are margins for ranking
losses:

    by rank   1 - (rank - 1) / (n - 1)         BiAlign's margin (arXiv 2312.17055): the difference
                                               of two ranks over n - 1
    by gap    (score - lowest) / (highest - lowest)       ties have margin 0

Rankings name candidates by number, best first, and -1 where there are fewer. Nobody is named twice.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch

Ranking = Int[Tensor, "policy list place"]
Score = Float[Tensor, "policy list place"]


class RankingAgreement(NamedTuple):
    """What two rankings say alike.

    Attributes:
        ranking: candidates in an order that both have, best first, then -1.
        length: how many they are.
        fraction: of the candidates that both name.
    """

    ranking: Ranking
    length: Int[Tensor, "policy list"]
    fraction: Float[Tensor, "policy list"]


def rank_candidates(score: Score, candidates: Ranking) -> Int[Tensor, "policy list place"]:
    """Candidates from the highest score to the lowest; of equal scores the earlier comes first."""
    there = candidates >= 0
    order = torch.where(there, score, -torch.inf).argsort(dim=-1, descending=True, stable=True)
    # Somebody whose score is minus infinity still comes before places where nobody is.
    order = order.gather(
        -1, there.gather(-1, order).int().argsort(dim=-1, descending=True, stable=True)
    )
    return candidates.gather(-1, order)


def longest_common_ranking(first: Ranking, second: Ranking) -> RankingAgreement:
    """The longest common subsequence of two rankings of each list.

    Rankings name everybody at most once, so this is the longest choice from the first whose places
    in the second rise.
    """
    places = first.shape[-1]
    same = (first[..., :, None] == second[..., None, :]) & (first >= 0)[..., :, None]
    common = same.any(-1)
    where = same.int().argmax(-1)  # place in the second of whoever stands here in the first
    length = torch.zeros_like(where)  # of the longest that ends here
    before = torch.full_like(where, -1)  # who comes before in it
    for place in range(places):
        may_follow = common[..., :place] & (where[..., :place] < where[..., place : place + 1])
        reached = torch.where(may_follow, length[..., :place], 0)
        if place:
            best = reached.max(-1)
            before[..., place] = torch.where(best.values > 0, best.indices, -1)
            length[..., place] = 1 + best.values
        else:
            length[..., place] = 1
        length[..., place] = torch.where(common[..., place], length[..., place], 0)
    total, here = length.max(-1)
    here = torch.where(total > 0, here, -1)
    chosen = torch.zeros_like(common)
    for _ in range(places):
        at = here.clamp(min=0)[..., None]
        chosen = chosen.scatter(-1, at, chosen.gather(-1, at) | (here >= 0)[..., None])
        here = torch.where(here >= 0, before.gather(-1, at)[..., 0], -1)
    return RankingAgreement(
        _selected_first(first, chosen), total, total / common.sum(-1).clamp(min=1)
    )


def rank_scores(ranking: Ranking) -> Float[Tensor, "policy list place"]:
    """Scores that fall evenly from 1 to 0 over the candidates; 1 for one alone, 0 for nobody."""
    there = ranking >= 0
    steps = (there.sum(-1, keepdim=True) - 1).clamp(min=1)
    fallen = (there.cumsum(-1) - 1) / steps
    return torch.where(there, 1.0 - fallen, 0.0)


def min_max_scores(score: Score, valid: Bool[Tensor, "policy list place"]) -> Score:
    """Scores stretched to 1 for the best and 0 for the worst of each list; all 0 where all tie."""
    best = torch.where(valid, score, -torch.inf).amax(-1, keepdim=True)
    worst = torch.where(valid, score, torch.inf).amin(-1, keepdim=True)
    apart = valid & (best > worst)
    return torch.where(apart, (score - worst) / torch.where(best > worst, best - worst, 1.0), 0.0)


def with_agreed_ranking(batch: FeedbackBatch, first: Ranking, second: Ranking) -> FeedbackBatch:
    """The batch with what two rankings of its samples agree on, scored by rank."""
    agreed = longest_common_ranking(first, second).ranking
    return batch.replace(candidates=agreed, rank_score=rank_scores(agreed))


def _selected_first(
    ranking: Ranking, selected: Bool[Tensor, "policy list place"]
) -> Int[Tensor, "policy list place"]:
    """Those chosen, in their order, then -1."""
    order = selected.int().argsort(dim=-1, descending=True, stable=True)
    return torch.where(selected, ranking, -1).gather(-1, order)
