"""What supervisors say of answers: how often, by exact tests of rates and of whole distributions.

Every single test is at LEVEL; seeds are fixed, so that they say the same always.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import expit, softmax

from mores.envs.feedback import token_completions as rules
from mores.envs.feedback.token_feedback import TokenFeedback
from tests.oracles.test_requests import told, value_of

LEVEL = 1e-4


def test_annotators_err_as_often_as_they_are_said_to() -> None:
    """Without noise in choices each disagreement with the truth is an annotator's error."""
    rates = (0.0, 0.2, 0.7)
    _, found = told(TokenFeedback(annotator_error_rates=rates, rationality=1e9), 2000, seed=4)
    reward, preferred, who = found["reward"][..., 0], found["preferred"], found["annotator"]
    first, second = reward[:, 0::2], reward[:, 1::2]
    assert torch.equal(preferred[:, 0::2], ~preferred[:, 1::2])
    assert torch.equal(who[:, 0::2], who[:, 1::2])
    wrong, clear = preferred[:, 0::2] != (first > second), first != second
    for annotator, rate in enumerate(rates):
        theirs = clear & (who[:, 0::2] == annotator)
        errors, pairs = int((wrong & theirs).sum()), int(theirs.sum())
        assert stats.binomtest(errors, pairs, rate).pvalue > LEVEL
        assert stats.binomtest(pairs, int(clear.sum()), 1 / 3).pvalue > LEVEL


def test_choices_between_answers_are_those_of_bradley_and_terry() -> None:
    """In tenths of pairs by difference, and in all, where a rationality 10 % off is noticed."""
    rationality = 3.0
    _, found = told(
        TokenFeedback(rationality=rationality, annotator_error_rates=(0.0,)), 5000, seed=5
    )
    reward = found["reward"][..., 0].double().numpy()
    gap = (reward[:, 0::2] - reward[:, 1::2]).ravel()
    won = found["preferred"][:, 0::2].numpy().ravel()

    def surprise(chance: np.ndarray, which: np.ndarray) -> float:
        odd = (won[which] - chance[which]).sum()
        spread = math.sqrt((chance[which] * (1 - chance[which])).sum())
        return 2 * stats.norm.sf(abs(odd) / spread)

    chance = expit(rationality * gap)
    for tenth in np.array_split(np.argsort(gap), 10):
        assert surprise(chance, tenth) > LEVEL

    def off(rationality: float) -> float:
        """How much oftener than by that rationality the better one won, in standard errors."""
        chance = expit(rationality * gap)
        spread = math.sqrt((chance * (1 - chance)).sum())
        return abs(((won - chance) * np.sign(gap)).sum()) / spread

    critical = stats.norm.isf(LEVEL / 2)
    assert off(rationality) < critical
    assert off(0.9 * rationality) > critical
    assert off(1.1 * rationality) > critical


def test_judgements_name_what_is_wrong_as_often_as_they_are_said_to() -> None:
    noise = {"detection": 0.8, "false_alarm": 0.15, "answers": 4}
    table, found = told(TokenFeedback(**noise), 2000, seed=6)
    _, as_bits = told(TokenFeedback(critique_detail="bit", **noise), 2000, seed=6)
    named = found["judgement"]
    said = rules.one_hot_tokens(table.state.said, 12).amax(2).bool()
    wrong = table.state.inappropriate[:, None].expand_as(said)
    assert not bool(named[~said].any())
    for which, rate in ((wrong, 0.8), (~wrong, 0.15)):
        criticised = named[said & which]
        assert stats.binomtest(int(criticised.sum()), len(criticised), rate).pvalue > LEVEL
    anything = named.any(-1, keepdim=True).to(torch.float32).expand_as(named)
    assert torch.equal(as_bits["judgement"], anything)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_demonstrations_are_drawn_word_by_word(noise: float) -> None:
    """All answers of three words out of four by their probabilities, summed over every path."""
    game = TokenFeedback(
        vocab_size=4,
        completion_length=3,
        num_completions=10_000,
        num_principals=2,
        conflict=1.0,
        principal_weights=(1.0, 3.0),
        penalty=0.5,
        demonstration_rationality=1.5,
        demonstration_error_rate=noise,
    )
    table, found = told(game, 1, seed=7)
    whose, liking = found["principal"][0].numpy(), table.state.token_utility[0].double().numpy()
    assert stats.binomtest(int(whose.sum()), len(whose), 0.5).pvalue > LEVEL
    cost = 0.5 * table.state.inappropriate[0].double().numpy()
    every = list(itertools.product(range(4), repeat=3))
    for principal in (0, 1):
        logits = 1.5 * (liking[principal] - cost)
        expected = []
        for said in every:
            chance = 1.0
            for step, word in enumerate(said):
                left = [v for v in range(4) if v not in said[:step]]
                by_choice = softmax(logits[left])[left.index(word)] if word in left else 0.0
                chance *= (1 - noise) * by_choice + noise / 4
            expected.append(chance)
        assert sum(expected) == pytest.approx(1.0)
        theirs = found["demonstration"][0][torch.from_numpy(whose == principal)].tolist()
        seen = np.array([theirs.count(list(said)) for said in every])
        possible = np.array(expected) > 0
        assert not seen[~possible].any()
        wanted = np.array(expected)[possible] * len(theirs)
        assert stats.chisquare(seen[possible], wanted).pvalue > LEVEL
        for row in range(20):
            said = tuple(found["demonstration"][0, row].tolist())
            worth = [value_of(said, of, cost > 0, 0.5) for of in liking]
            reported = found["demonstration_reward"][0, row].numpy()
            assert reported == pytest.approx(worth, abs=1e-5)
            to_a_seat = float(found["demonstration_worth"][0, row])
            assert to_a_seat == pytest.approx(0.25 * worth[0] + 0.75 * worth[1], abs=1e-5)
