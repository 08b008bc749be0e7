"""Extrapolated votes against enumeration and the recursion of ProgressGym's repository."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from mores.agents.scripted.extrapolation import extrapolation_weights
from mores.agents.scripted.progressgym import Lifelong
from mores.agents.scripted.vote_extrapolation import VoteExtrapolative, best_position
from mores.registry import make_policy
from tests.oracles.progress_reference import extrapolated_vote, score_policy, value_by_votes
from tests.refusals import refused


@pytest.mark.parametrize("horizon", range(1, 7))
def test_order_1_flips_no_label(horizon: int) -> None:
    for votes in itertools.product((-1, 1), repeat=2):
        label, copies = extrapolated_vote(votes, 1, horizon)
        assert label == votes[-1]
        assert copies == (1 if votes[0] == votes[1] else min(2 * horizon + 1, 5))


def test_order_2_flips_the_pairs_that_turned_two_rounds_ago() -> None:
    flipped = [
        votes
        for votes in itertools.product((-1, 1), repeat=3)
        if extrapolated_vote(votes, 2, 1)[0] != votes[-1]
    ]
    assert flipped == [(-1, 1, 1), (1, -1, -1)]


@pytest.mark.parametrize(("order", "horizon"), itertools.product(range(6), range(1, 5)))
def test_recursion_equals_weights_and_is_never_zero(order: int, horizon: int) -> None:
    weights = extrapolation_weights(order, horizon)
    for votes in itertools.product((-1, 1), repeat=order + 1):
        result = sum(w * v for w, v in zip(weights, votes, strict=True)) * votes[-1]
        assert result % 2 == 1
        label, copies = extrapolated_vote(votes, order, horizon)
        assert (label, copies) == (votes[-1] * np.sign(result), min(abs(result), 5))


@pytest.mark.parametrize("seed", range(30))
def test_best_position_against_all_positions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, copies = rng.choice([-1, 1], 9), rng.integers(1, 6, 9)
    nearest = int(rng.integers(0, 10))

    def rank(cut: int) -> tuple[int, int, int]:
        wrong = (np.arange(9) < cut) != (labels > 0)
        return int(copies[wrong].sum()), abs(cut - nearest), cut

    position = best_position(
        torch.tensor(labels, dtype=torch.float32)[None, None, None],
        torch.tensor(copies, dtype=torch.float32)[None, None, None],
        torch.tensor([[[nearest]]]),
    )
    assert position.item() == min(range(10), key=rank)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("challenge", ["follow", "coevolve"])
def test_order_1_equals_training_on_the_last_answers(order: int, challenge: str) -> None:
    """Orders 0 and 1 agree bit for bit, and with `lifelong` to the distance of thresholds."""
    lifelong, votes = (
        score_policy(policy, challenge, 1).state.challenge_record.advice[0]
        for policy in (Lifelong(), VoteExtrapolative(order=order, forecast_horizon=1))
    )
    without = VoteExtrapolative(order=0)
    assert torch.equal(votes, score_policy(without, challenge, 1).state.challenge_record.advice[0])
    distance = (lifelong - votes).abs().max()
    assert 0 < distance <= 1 / 128


def test_target_between_thresholds() -> None:
    """Targets are multiples of 1 / 128, the nearest to the answer; thresholds are halfway."""
    for answers, value in (([0.25], 32), ([0.2538], 32), ([0.2540], 33), ([-1.0], 0)):
        assert value_by_votes(answers, 1, 1) == value / 128


def test_empty_range_is_refused() -> None:
    with refused("out_of_range", "vote_extrapolative.high"):
        make_policy("vote_extrapolative", low=1.0, high=1.0)
