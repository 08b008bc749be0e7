"""Agreement of two rankings against exhaustive search, and scores of ranks."""

from __future__ import annotations

import itertools

import torch
from hypothesis import given
from hypothesis import strategies as st

from mores.agents.learning.batch import FeedbackBatch, ModelOutput
from mores.agents.learning.losses import ranking_loss
from mores.agents.learning.transforms.ranking_agreement import (
    longest_common_ranking,
    min_max_scores,
    rank_candidates,
    rank_scores,
    with_agreed_ranking,
)

POSITIONS = 6
rankings = st.permutations(range(8)).flatmap(
    lambda order: st.integers(0, POSITIONS).map(lambda n: list(order)[:n])
)


def padded(rows: list[list[int]]) -> torch.Tensor:
    return torch.tensor([[row + [-1] * (POSITIONS - len(row)) for row in rows]])


def is_subsequence(short: tuple[int, ...], long: list[int]) -> bool:
    rest = iter(long)
    return all(any(other == one for other in rest) for one in short)


@given(st.lists(st.tuples(rankings, rankings), min_size=1, max_size=3))
def test_agreement_is_a_longest_common_subsequence(pairs: list[tuple[list, list]]) -> None:
    first, second = ([pair[k] for pair in pairs] for k in (0, 1))
    agreement = longest_common_ranking(padded(first), padded(second))
    for i, (one, other) in enumerate(pairs):
        longest = max(
            n
            for n in range(len(one) + 1)
            if any(is_subsequence(some, other) for some in itertools.combinations(one, n))
        )
        assert agreement.length[0, i] == longest
        agreed = [c for c in agreement.ranking[0, i].tolist() if c >= 0]
        assert len(agreed) == longest
        assert is_subsequence(tuple(agreed), one) and is_subsequence(tuple(agreed), other)
        both = len(set(one) & set(other))
        assert abs(float(agreement.fraction[0, i]) - longest / max(both, 1)) < 1e-6


def test_agreed_order_and_its_scores() -> None:
    first, second = padded([[4, 1, 3, 0]]), padded([[1, 4, 3, 2, 0]])
    agreement = longest_common_ranking(first, second)
    assert agreement.ranking.tolist() == [[[4, 3, 0, -1, -1, -1]]]
    assert rank_scores(agreement.ranking).tolist() == [[[1.0, 0.5, 0.0, 0.0, 0.0, 0.0]]]
    assert rank_scores(padded([[5], []])).tolist() == [[[1.0] + [0.0] * 5, [0.0] * 6]]


def test_ranking_by_score() -> None:
    """The highest first, ties by position; minus infinity comes last, but before padding."""
    score = torch.tensor([[[0.0, -torch.inf, 2.0, 2.0, 9.0]]])
    candidates = torch.tensor([[[10, 11, 12, 13, -1]]])
    assert rank_candidates(score, candidates).tolist() == [[[12, 13, 10, 11, -1]]]


def test_min_max_scores() -> None:
    score = torch.tensor([[[3.0, 1.0, 2.5, 2.5, float("nan")], [4.0, 4.0, 0.0, 0.0, 0.0]]])
    valid = torch.tensor([[[True, True, True, True, False], [True, True, False, False, False]]])
    assert min_max_scores(score, valid).tolist() == [[[1.0, 0.0, 0.75, 0.75, 0.0], [0.0] * 5]]


def test_rank_scores_are_margins_of_bialign() -> None:
    """Its ranking loss is 0 only if a policy's scores have the distances of these."""
    first, second = padded([[4, 1, 3, 0]]), padded([[1, 4, 3, 2, 0]])
    batch = FeedbackBatch(
        observation=torch.zeros(1, 5, 1, 1),
        action=torch.zeros(1, 5, 1, dtype=torch.int64),
        mask=torch.ones(1, 5, 1, dtype=torch.bool),
    )
    batch = with_agreed_ranking(batch, first, second)
    score = torch.zeros(1, 5, 1)
    score[0, [4, 3, 0], 0] = rank_scores(batch.require("candidates", "the test"))[0, 0, :3]
    spaced = ranking_loss(ModelOutput(3.0 * score - 7.0), batch, loss_type="spaced")
    torch.testing.assert_close(spaced, torch.zeros(1), atol=1e-6, rtol=0)
    score[0, 3, 0] = 0.9  # the right order, other distances
    assert ranking_loss(ModelOutput(score), batch, loss_type="spaced") > 0.1
