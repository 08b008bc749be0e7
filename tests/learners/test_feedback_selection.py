"""What to learn from: turns of strata, balance over principals, and conflicts left out."""

from __future__ import annotations

from collections import Counter

import torch
from hypothesis import given
from hypothesis import strategies as st

from mores.agents.learning.batch import FeedbackBatch
from mores.agents.learning.transforms.selection import (
    drop_conflicting_pairs,
    gradient_agreement,
    label_agreement,
    mean_action_probability,
    select_balanced,
    select_best_in_strata,
)
from tests.refusals import refused


@given(st.integers(0, 10**6), st.integers(1, 10))
def test_strata_take_turns_the_better_first(seed: int, tenths: int) -> None:
    chance = torch.Generator().manual_seed(seed)
    score = torch.randn(2, 11, 1, generator=chance)
    stratum = torch.randint(0, 4, (2, 11), generator=chance)
    real = torch.rand(2, 11, generator=chance) < 0.8
    found = select_best_in_strata(score, tenths / 10, stratum, real)
    assert found.shape[1] == -(-11 * tenths // 10)
    for p in range(2):
        waiting = {
            kind: sorted(
                (i for i in range(11) if stratum[p, i] == kind and real[p, i]),
                key=lambda i: -float(score[p, i]),
            )
            for kind in range(4)
        }
        expected: list[int] = []
        while any(waiting.values()):
            turn = [queue.pop(0) for queue in waiting.values() if queue]
            expected += sorted(turn, key=lambda i: -float(score[p, i]))
        some = min(len(expected), found.shape[1])
        assert found[p, :some].tolist() == expected[:some]
        assert not real[p, found[p, some:]].any()


def test_every_value_calls_its_best_in_the_first_turn() -> None:
    """Sample 2 is best by no single value's measure but the third; the all-rounder waits."""
    score = torch.tensor([[[9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 1.0], [8.0, 8.0, 0.5]]])
    assert sorted(select_best_in_strata(score, 0.75)[0].tolist()) == [0, 1, 2]
    assert select_best_in_strata(score, 1.0)[0, -1] == 3


def test_confidence_is_the_geometric_mean_of_probabilities() -> None:
    logp = torch.tensor([[[0.5, 0.125], [0.3, float("nan")]]]).log()
    mask = torch.tensor([[[True, True], [True, False]]])
    found = mean_action_probability(logp, mask)
    torch.testing.assert_close(found, torch.tensor([[[0.25], [0.3]]]))
    assert select_best_in_strata(found, 0.5).tolist() == [[1]]


@given(st.integers(0, 10**6), st.integers(1, 20))
def test_principals_are_equally_heard(seed: int, count: int) -> None:
    chance = torch.Generator().manual_seed(seed)
    principal = torch.randint(0, 4, (2, 9), generator=chance) * 100 - 50
    real = torch.rand(2, 9, generator=chance) < 0.7
    real[:, 0] = True
    uniform = torch.rand(2, 9, generator=chance)
    found = select_balanced(principal, uniform, count, real)
    for p in range(2):
        taken = found[p].tolist()
        assert real[p, taken].all()
        sent = Counter(principal[p][real[p]].tolist())
        heard = Counter(principal[p, taken].tolist())
        numbers = [heard[who] for who in sent]
        assert max(numbers) - min(numbers) <= 1
        for who, number in sent.items():  # nobody's sample comes again before all have come
            own = Counter(i for i in taken if principal[p, i] == who)
            most = max(own.values(), default=0)
            assert most <= -(-heard[who] // number)
            assert heard[who] < number or len(own) == number


def test_which_sample_comes_first_is_chance() -> None:
    principal = torch.tensor([[1, 1, 1, 2]])
    uniform = torch.tensor([[0.9, 0.1, 0.5, 0.3]])
    assert select_balanced(principal, uniform, 6).tolist() == [[1, 3, 2, 3, 0, 3]]


def test_agreement_of_votes_and_of_gradients() -> None:
    votes = torch.tensor([[[1, 1, 1], [1, 0, 1], [1, 0, 0], [0, 0, 0]]]).bool()
    asked = torch.tensor([[[1, 1, 1], [1, 1, 1], [1, 1, 0], [0, 0, 0]]]).bool()
    torch.testing.assert_close(
        label_agreement(votes, asked), torch.tensor([[1.0, 2 / 3, 0.5, 1.0]])
    )
    gradient = torch.randn(2, 5, 3, 7, generator=torch.Generator().manual_seed(9))
    found = gradient_agreement(gradient)
    a, b, c = gradient.unbind(2)
    cosine = torch.nn.functional.cosine_similarity
    worst = torch.stack([cosine(a, b, -1), cosine(b, c, -1), cosine(a, c, -1)]).amin(0)
    torch.testing.assert_close(found, worst)
    assert torch.equal(gradient_agreement(gradient[:, :, :1]), torch.ones(2, 5))


def test_pairs_in_conflict_weigh_nothing() -> None:
    batch = FeedbackBatch(
        observation=torch.zeros(1, 6, 1, 1),
        action=torch.zeros(1, 6, 1, dtype=torch.int64),
        mask=torch.ones(1, 6, 1, dtype=torch.bool),
    )
    agreement = torch.tensor([[0.9, 0.5, 0.7]])
    once = drop_conflicting_pairs(batch, agreement, 0.6)
    assert once.require("pair_weight", "the test").tolist() == [[1.0, 0.0, 1.0]]
    weighed = once.replace(pair_weight=torch.tensor([[2.0, float("nan"), 3.0]]))
    twice = drop_conflicting_pairs(weighed, agreement, 0.7)
    torch.testing.assert_close(twice.pair_weight, torch.tensor([[2.0, 0.0, 3.0]]))


def test_what_a_user_may_get_wrong() -> None:
    with refused("out_of_range", path="share"):
        select_best_in_strata(torch.zeros(1, 3, 1), 0.0)
    with refused("out_of_range", path="count"):
        select_balanced(torch.zeros(1, 3, dtype=torch.int64), torch.zeros(1, 3), 0)
