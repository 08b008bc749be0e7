"""Selection: turns of strata, balance over principals, and conflicting pairs."""

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
def test_strata_take_turns_and_better_samples_come_first(seed: int, tenths: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    score = torch.randn(2, 11, 1, generator=generator)
    stratum = torch.randint(0, 4, (2, 11), generator=generator)
    valid = torch.rand(2, 11, generator=generator) < 0.8
    selected = select_best_in_strata(score, tenths / 10, stratum, valid)
    assert selected.shape[1] == -(-11 * tenths // 10)
    for p in range(2):
        queues = {
            s: sorted(
                (i for i in range(11) if stratum[p, i] == s and valid[p, i]),
                key=lambda i: -float(score[p, i]),
            )
            for s in range(4)
        }
        expected: list[int] = []
        while any(queues.values()):
            turn = [queue.pop(0) for queue in queues.values() if queue]
            expected += sorted(turn, key=lambda i: -float(score[p, i]))
        count = min(len(expected), selected.shape[1])
        assert selected[p, :count].tolist() == expected[:count]
        assert not valid[p, selected[p, count:]].any()


def test_every_value_selects_its_best_sample_in_the_first_turn() -> None:
    """Sample 2 is best by the third value only; sample 3, good by all, comes later."""
    score = torch.tensor([[[9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 1.0], [8.0, 8.0, 0.5]]])
    assert sorted(select_best_in_strata(score, 0.75)[0].tolist()) == [0, 1, 2]
    assert select_best_in_strata(score, 1.0)[0, -1] == 3


def test_confidence_is_the_geometric_mean_of_probabilities() -> None:
    logp = torch.tensor([[[0.5, 0.125], [0.3, float("nan")]]]).log()
    mask = torch.tensor([[[True, True], [True, False]]])
    confidence = mean_action_probability(logp, mask)
    torch.testing.assert_close(confidence, torch.tensor([[[0.25], [0.3]]]))
    assert select_best_in_strata(confidence, 0.5).tolist() == [[1]]


@given(st.integers(0, 10**6), st.integers(1, 20))
def test_principals_are_balanced(seed: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    principal = torch.randint(0, 4, (2, 9), generator=generator) * 100 - 50
    valid = torch.rand(2, 9, generator=generator) < 0.7
    valid[:, 0] = True
    uniform = torch.rand(2, 9, generator=generator)
    index = select_balanced(principal, uniform, count, valid)
    for p in range(2):
        selected = index[p].tolist()
        assert valid[p, selected].all()
        available = Counter(principal[p][valid[p]].tolist())
        chosen = Counter(principal[p, selected].tolist())
        counts = [chosen[name] for name in available]
        assert max(counts) - min(counts) <= 1
        for name, number in available.items():  # all samples come once before any comes again
            own = Counter(i for i in selected if principal[p, i] == name)
            most = max(own.values(), default=0)
            assert most <= -(-chosen[name] // number)
            assert chosen[name] < number or len(own) == number


def test_samples_of_a_principal_come_in_random_order() -> None:
    principal = torch.tensor([[1, 1, 1, 2]])
    uniform = torch.tensor([[0.9, 0.1, 0.5, 0.3]])
    assert select_balanced(principal, uniform, 6).tolist() == [[1, 3, 2, 3, 0, 3]]


def test_agreement_of_votes_and_of_gradients() -> None:
    votes = torch.tensor([[[1, 1, 1], [1, 0, 1], [1, 0, 0], [0, 0, 0]]]).bool()
    valid = torch.tensor([[[1, 1, 1], [1, 1, 1], [1, 1, 0], [0, 0, 0]]]).bool()
    agreement = label_agreement(votes, valid)
    torch.testing.assert_close(agreement, torch.tensor([[1.0, 2 / 3, 0.5, 1.0]]))
    gradient = torch.randn(2, 5, 3, 7, generator=torch.Generator().manual_seed(9))
    agreement = gradient_agreement(gradient)
    a, b, c = gradient.unbind(2)
    cosine = torch.nn.functional.cosine_similarity
    smallest = torch.stack([cosine(a, b, -1), cosine(b, c, -1), cosine(a, c, -1)]).amin(0)
    torch.testing.assert_close(agreement, smallest)
    assert torch.equal(gradient_agreement(gradient[:, :, :1]), torch.ones(2, 5))


def test_conflicting_pairs_have_weight_zero() -> None:
    batch = FeedbackBatch(
        observation=torch.zeros(1, 6, 1, 1),
        action=torch.zeros(1, 6, 1, dtype=torch.int64),
        mask=torch.ones(1, 6, 1, dtype=torch.bool),
    )
    agreement = torch.tensor([[0.9, 0.5, 0.7]])
    once = drop_conflicting_pairs(batch, agreement, 0.6)
    assert once.require("pair_weight", "the test").tolist() == [[1.0, 0.0, 1.0]]
    weighted = once.replace(pair_weight=torch.tensor([[2.0, float("nan"), 3.0]]))
    twice = drop_conflicting_pairs(weighted, agreement, 0.7)
    torch.testing.assert_close(twice.pair_weight, torch.tensor([[2.0, 0.0, 3.0]]))


def test_invalid_arguments() -> None:
    with refused("out_of_range", path="fraction"):
        select_best_in_strata(torch.zeros(1, 3, 1), 0.0)
    with refused("out_of_range", path="count"):
        select_balanced(torch.zeros(1, 3, dtype=torch.int64), torch.zeros(1, 3), 0)
