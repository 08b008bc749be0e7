"""Channels of `TokenFeedback`: exact tests of rates and distributions, with fixed seeds.

Each test has the significance level LEVEL.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import expit, softmax

from mores.agents.channels.choices import BradleyTerryChoice
from mores.agents.channels.critiques import BinaryCritique, TokenCritique
from mores.agents.channels.demonstrations import SoftmaxDemonstration
from mores.envs.feedback.token_completions import one_hot_tokens
from mores.envs.feedback.token_feedback import TokenFeedback
from tests.oracles.test_token_feedback import completion_value, simulate_feedback

LEVEL = 1e-4


def test_annotator_error_rates() -> None:
    """At high rationality each disagreement with the rewards is an annotator's error."""
    rates = (0.0, 0.2, 0.7)
    env = TokenFeedback(choice=BradleyTerryChoice(annotator_error_rates=rates, rationality=1e9))
    _, feedback = simulate_feedback(env, 2000, seed=4)
    reward, preferred = feedback["reward"][..., 0], feedback["preferred"]
    annotator = feedback["annotator"]
    first, second = reward[:, 0::2], reward[:, 1::2]
    assert torch.equal(preferred[:, 0::2], ~preferred[:, 1::2])
    assert torch.equal(annotator[:, 0::2], annotator[:, 1::2])
    wrong, distinct = preferred[:, 0::2] != (first > second), first != second
    for index, rate in enumerate(rates):
        mask = distinct & (annotator[:, 0::2] == index)
        errors, pairs = int((wrong & mask).sum()), int(mask.sum())
        assert stats.binomtest(errors, pairs, rate).pvalue > LEVEL
        assert stats.binomtest(pairs, int(distinct.sum()), 1 / 3).pvalue > LEVEL


def test_preferences_follow_bradley_terry() -> None:
    """By deciles of the reward difference, and overall, where an error of 10 % is significant."""
    rationality = 3.0
    choice = BradleyTerryChoice(rationality=rationality, annotator_error_rates=(0.0,))
    env = TokenFeedback(choice=choice)
    _, feedback = simulate_feedback(env, 5000, seed=5)
    reward = feedback["reward"][..., 0].double().numpy()
    gap = (reward[:, 0::2] - reward[:, 1::2]).ravel()
    preferred = feedback["preferred"][:, 0::2].numpy().ravel()

    def p_value(probability: np.ndarray, indices: np.ndarray) -> float:
        p = probability[indices]
        std = math.sqrt((p * (1 - p)).sum())
        return 2 * stats.norm.sf(abs((preferred[indices] - p).sum()) / std)

    probability = expit(rationality * gap)
    for decile in np.array_split(np.argsort(gap), 10):
        assert p_value(probability, decile) > LEVEL

    def z(rationality: float) -> float:
        """Excess of preferences for the better completion, in standard errors."""
        p = expit(rationality * gap)
        std = math.sqrt((p * (1 - p)).sum())
        return abs(((preferred - p) * np.sign(gap)).sum()) / std

    critical = stats.norm.isf(LEVEL / 2)
    assert z(rationality) < critical
    assert z(0.9 * rationality) > critical
    assert z(1.1 * rationality) > critical


def test_critique_rates() -> None:
    rates = {"detection_rate": 0.8, "false_alarm_rate": 0.15}
    env = TokenFeedback(num_completions=4, critique=TokenCritique(**rates))
    simulator, feedback = simulate_feedback(env, 2000, seed=6)
    env = TokenFeedback(num_completions=4, critique=BinaryCritique(**rates))
    _, binary = simulate_feedback(env, 2000, seed=6)
    critique = feedback["critique"]
    used = one_hot_tokens(simulator.state.tokens, 12).amax(2).bool()
    wrong = simulator.state.inappropriate[:, None].expand_as(used)
    assert not bool(critique[~used].any())
    for mask, rate in ((wrong, 0.8), (~wrong, 0.15)):
        criticized = critique[used & mask]
        assert stats.binomtest(int(criticized.sum()), len(criticized), rate).pvalue > LEVEL
    some = critique.any(-1, keepdim=True).to(torch.float32).expand_as(critique)
    assert torch.equal(binary["critique"], some)


@pytest.mark.parametrize("error_rate", [0.0, 0.3])
def test_demonstration_distribution(error_rate: float) -> None:
    """Frequencies of all completions of three tokens out of four."""
    env = TokenFeedback(
        vocab_size=4,
        completion_length=3,
        num_completions=10_000,
        num_principals=2,
        conflict=1.0,
        principal_weights=(1.0, 3.0),
        penalty=0.5,
        demonstration=SoftmaxDemonstration(rationality=1.5, error_rate=error_rate),
    )
    simulator, feedback = simulate_feedback(env, 1, seed=7)
    principals = feedback["principal"][0].numpy()
    utility = simulator.state.token_utility[0].double().numpy()
    assert stats.binomtest(int(principals.sum()), len(principals), 0.5).pvalue > LEVEL
    cost = 0.5 * simulator.state.inappropriate[0].double().numpy()
    completions = list(itertools.product(range(4), repeat=3))
    for principal in (0, 1):
        logits = 1.5 * (utility[principal] - cost)
        expected = []
        for tokens in completions:
            probability = 1.0
            for step, token in enumerate(tokens):
                unused = [v for v in range(4) if v not in tokens[:step]]
                p = softmax(logits[unused])[unused.index(token)] if token in unused else 0.0
                probability *= (1 - error_rate) * p + error_rate / 4
            expected.append(probability)
        assert sum(expected) == pytest.approx(1.0)
        mask = torch.from_numpy(principals == principal)
        demonstrations = feedback["demonstration"][0][mask].tolist()
        counts = np.array([demonstrations.count(list(tokens)) for tokens in completions])
        possible = np.array(expected) > 0
        assert not counts[~possible].any()
        expected_counts = np.array(expected)[possible] * len(demonstrations)
        assert stats.chisquare(counts[possible], expected_counts).pvalue > LEVEL
        for row in range(20):
            tokens = tuple(feedback["demonstration"][0, row].tolist())
            values = [completion_value(tokens, u, cost > 0, 0.5) for u in utility]
            reward = feedback["demonstration_reward"][0, row].numpy()
            assert reward == pytest.approx(values, abs=1e-5)
            mean = float(feedback["demonstration_return"][0, row])
            assert mean == pytest.approx(0.25 * values[0] + 0.75 * values[1], abs=1e-5)


# --- settings without information -------------------------------------------------------------


def test_an_error_rate_of_one_half_is_a_fair_coin() -> None:
    """Exactly by expectation; in 40,000 pairs the record is independent of the rewards."""
    channel = BradleyTerryChoice(annotator_error_rates=(0.5,), rationality=50)
    utility = torch.randn(3, 40, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert (channel.expected({"utility": utility})["preferred"] == 0.5).all()
    _, feedback = simulate_feedback(TokenFeedback(choice=channel), 10_000, seed=6)
    reward, preferred = feedback["reward"][..., 0], feedback["preferred"][:, 0::2]
    better = reward[:, 0::2] > reward[:, 1::2]
    table = [[int((preferred & b).sum()), int((~preferred & b).sum())] for b in (better, ~better)]
    assert stats.chi2_contingency(table).pvalue > LEVEL
    assert stats.binomtest(int(preferred.sum()), preferred.numel(), 0.5).pvalue > LEVEL


def test_demonstrations_of_errors_alone_are_uniform_tokens() -> None:
    """48,000 tokens: all equally frequent, whether inappropriate or not."""
    env = TokenFeedback(demonstration=SoftmaxDemonstration(error_rate=1.0))
    simulator, feedback = simulate_feedback(env, 1000, seed=8)
    tokens = feedback["demonstration"]
    assert stats.chisquare(tokens.flatten().bincount(minlength=12).numpy()).pvalue > LEVEL
    inappropriate = simulator.state.inappropriate[:, None].expand(-1, 8, -1).gather(2, tokens)
    share = env.num_inappropriate_tokens / env.vocab_size
    count = int(inappropriate.sum())
    assert stats.binomtest(count, inappropriate.numel(), share).pvalue > LEVEL
