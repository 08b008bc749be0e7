"""Agreement of two rankings, and scores of ranks.

CycleAlign (arXiv 2310.16271; not checked against the paper): an external model ranks the answers of
a policy, the policy ranks them by their likelihood, and the longest common subsequence of the two
rankings is used for training. Of several longest ones it is the one whose last candidate is
earliest in the first ranking, then the one whose last but one is, and so on; the paper's rule for
ties is not known.

Scores between 0 (last) and 1 (first), whose differences are margins of ranking losses:

    rank_scores      1 - (rank - 1) / (n - 1) of a ranking: BiAlign's margin (arXiv 2312.17055) is
                     the difference of two ranks over n - 1
    min_max_scores   (score - lowest) / (highest - lowest) of scores: equal scores have margin 0

Rankings are indices of candidates, best first, then -1 as padding. No candidate occurs twice.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch

Ranking = Int[Tensor, "model list position"]
Score = Float[Tensor, "model list position"]


class RankingAgreement(NamedTuple):
    """Common order of two rankings.

    Attributes:
        ranking: candidates of the common order, best first, then -1.
        length: number of candidates in `ranking`.
        fraction: `length` over the number of candidates that both rankings have.
    """

    ranking: Ranking
    length: Int[Tensor, "model list"]
    fraction: Float[Tensor, "model list"]


def rank_candidates(score: Score, candidates: Ranking) -> Int[Tensor, "model list position"]:
    """Candidates from the highest score to the lowest; of equal scores the earlier comes first."""
    valid = candidates >= 0
    order = torch.where(valid, score, -torch.inf).argsort(dim=-1, descending=True, stable=True)
    # A candidate with a score of minus infinity still comes before padding.
    order = order.gather(
        -1, valid.gather(-1, order).int().argsort(dim=-1, descending=True, stable=True)
    )
    return candidates.gather(-1, order)


def longest_common_ranking(first: Ranking, second: Ranking) -> RankingAgreement:
    """The longest common subsequence of two rankings of each list.

    Candidates occur at most once, so this is the longest selection from the first ranking whose
    positions in the second increase.
    """
    positions = first.shape[-1]
    same = (first[..., :, None] == second[..., None, :]) & (first >= 0)[..., :, None]
    common = same.any(-1)
    second_position = same.int().argmax(-1)  # of the candidate at each position of the first
    length = torch.zeros_like(second_position)  # of the longest subsequence that ends at a position
    previous = torch.full_like(second_position, -1)  # position before it in that subsequence
    for position in range(positions):
        current = second_position[..., position : position + 1]
        may_follow = common[..., :position] & (second_position[..., :position] < current)
        reached = torch.where(may_follow, length[..., :position], 0)
        if position:
            best = reached.max(-1)
            previous[..., position] = torch.where(best.values > 0, best.indices, -1)
            length[..., position] = 1 + best.values
        else:
            length[..., position] = 1
        length[..., position] = torch.where(common[..., position], length[..., position], 0)
    longest, end = length.max(-1)
    end = torch.where(longest > 0, end, -1)
    selected = torch.zeros_like(common)
    for _ in range(positions):
        at = end.clamp(min=0)[..., None]
        selected = selected.scatter(-1, at, selected.gather(-1, at) | (end >= 0)[..., None])
        end = torch.where(end >= 0, previous.gather(-1, at)[..., 0], -1)
    fraction = longest / common.sum(-1).clamp(min=1)
    return RankingAgreement(_selected_first(first, selected), longest, fraction)


def rank_scores(ranking: Ranking) -> Float[Tensor, "model list position"]:
    """Scores evenly spaced from 1 (first) to 0 (last); 1 for a single candidate, 0 for padding."""
    valid = ranking >= 0
    intervals = (valid.sum(-1, keepdim=True) - 1).clamp(min=1)
    scaled_rank = (valid.cumsum(-1) - 1) / intervals
    return torch.where(valid, 1.0 - scaled_rank, 0.0)


def min_max_scores(score: Score, valid: Bool[Tensor, "model list position"]) -> Score:
    """Scores scaled to 1 for the best and 0 for the worst of each list; all 0 if all are equal."""
    best = torch.where(valid, score, -torch.inf).amax(-1, keepdim=True)
    worst = torch.where(valid, score, torch.inf).amin(-1, keepdim=True)
    differs = valid & (best > worst)
    scaled = (score - worst) / torch.where(best > worst, best - worst, 1.0)
    return torch.where(differs, scaled, 0.0)


def with_agreed_ranking(batch: FeedbackBatch, first: Ranking, second: Ranking) -> FeedbackBatch:
    """The batch with the common order of two rankings of its samples, and its `rank_scores`."""
    agreed = longest_common_ranking(first, second).ranking
    return batch.replace(candidates=agreed, rank_score=rank_scores(agreed))


def _selected_first(
    ranking: Ranking, selected: Bool[Tensor, "model list position"]
) -> Int[Tensor, "model list position"]:
    """The selected candidates, in their order, then -1."""
    order = selected.int().argsort(dim=-1, descending=True, stable=True)
    return torch.where(selected, ranking, -1).gather(-1, order)
