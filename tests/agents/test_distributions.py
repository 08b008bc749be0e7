"""Heads against `torch.distributions`: how likely acts are, how drawn, and what the game gets."""

from __future__ import annotations

import math

import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from mores.agents.learning.action_distributions import ActionDistribution
from mores.core.environment import Box, Discrete, MultiDiscrete, Part
from mores.core.random_streams import RandomStreams

ROW = (2, 5)
SEVERAL = (3, 2, 4)


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def some_legal(options: int, seed: int = 0) -> torch.Tensor:
    """A mask `[*ROW, option]` that leaves the first option open, and some others."""
    legal = numbers(*ROW, options, seed=seed + 50) > 0
    legal[..., 0] = True
    return legal


@pytest.mark.parametrize("masked", [False, True])
def test_one_choice_is_torchs_categorical(masked):
    raw, legal = 3 * numbers(*ROW, 6), some_legal(6) if masked else None
    theirs = torch.where(legal, raw, -torch.inf) if masked else raw
    theirs = torch.distributions.Categorical(logits=theirs)
    acted = theirs.sample()
    said = ActionDistribution(Discrete(6)).log_probs(raw, acted, legal)
    torch.testing.assert_close(said.logp, theirs.log_prob(acted))
    spread = theirs.probs * theirs.probs.clamp(min=1e-30).log()  # theirs is NaN where masked
    torch.testing.assert_close(said.entropy, -spread.sum(-1))
    torch.testing.assert_close(said.logits.exp(), theirs.probs)


@pytest.mark.parametrize("masked", [False, True])
def test_several_choices_are_a_product_of_categoricals(masked):
    raw = 2 * numbers(*ROW, sum(SEVERAL))
    masks = [some_legal(n, i) for i, n in enumerate(SEVERAL)]
    legal = torch.cat(masks, -1) if masked else None
    parts = torch.where(legal, raw, -torch.inf) if masked else raw
    theirs = [torch.distributions.Categorical(logits=x) for x in parts.split(SEVERAL, -1)]
    acted = torch.stack([one.sample() for one in theirs], -1)
    said = ActionDistribution(MultiDiscrete(SEVERAL)).log_probs(raw, acted, legal)
    logp = sum(one.log_prob(acted[..., i]) for i, one in enumerate(theirs))
    torch.testing.assert_close(said.logp, logp)
    spread = sum(-(d.probs * d.probs.clamp(min=1e-30).log()).sum(-1) for d in theirs)
    torch.testing.assert_close(said.entropy, spread)
    assert said.logits is None


def test_a_point_is_torchs_normal():
    mean, log_std, acted = numbers(*ROW, 3), 0.4 * numbers(1, 3, seed=1), numbers(*ROW, 3, seed=2)
    theirs = torch.distributions.Normal(mean, log_std.exp().expand_as(mean))
    said = ActionDistribution(Box.of(at=3)).log_probs(mean, acted, None, log_std)
    torch.testing.assert_close(said.logp, theirs.log_prob(acted).sum(-1))
    torch.testing.assert_close(said.entropy, theirs.entropy().sum(-1))


# --- drawn --------------------------------------------------------------------------------------


def test_choices_follow_the_softmax():
    """Chi-squared of 20 000 draws, seed 5, at a level of .001: a probability wrong by .03 shows."""
    many = 20_000
    draws, head = RandomStreams.of(5, many), ActionDistribution(MultiDiscrete((4, 3)))
    raw = torch.tensor([1.0, 0.0, -1.0, 2.0, 0.5, 0.0, -0.5]).expand(many, 1, -1)
    legal = torch.tensor([True, True, True, False, True, True, True]).expand(many, 1, -1)
    acted = head.sample(raw, draws.gumbel("act", 1, head.noise_size), legal)[:, 0]
    first = torch.where(legal, raw, -torch.inf)[0, 0, :4].softmax(-1)
    second = raw[0, 0, 4:].softmax(-1)
    assert (acted[:, 0] != 3).all()
    joint = first[:3, None] * second  # the two choices are independent
    counts = torch.zeros(3, 3).index_put_(tuple(acted.T), torch.ones(many), accumulate=True)
    test = scipy.stats.chisquare(counts.flatten(), joint.flatten() / joint.sum() * many)
    assert test.pvalue > 0.001


def test_points_follow_the_normal():
    """Kolmogorov and Smirnov, 5 000 draws, seed 5, at a level of .001."""
    draws, head = RandomStreams.of(5, 5000), ActionDistribution(Box.of(at=1))
    mean, log_std = torch.full((5000, 1, 1), 0.7), torch.full((5000, 1, 1), math.log(2.0))
    acted = head.sample(mean, draws.normal("act", 1, 1), None, log_std)
    assert scipy.stats.kstest(acted.flatten().numpy(), "norm", (0.7, 2.0)).pvalue > 0.001


def test_temperature_sharpens_and_zero_is_greedy():
    draws = RandomStreams.of(6, 20_000)
    raw = torch.tensor([0.0, 1.0]).expand(20_000, 1, -1)
    head, chance = ActionDistribution(Discrete(2)), draws.gumbel("act", 1, 2)
    share = head.sample(raw, chance, None, temperature=0.5).double().mean()
    expected = 1 / (1 + math.exp(-1.0 / 0.5))
    assert abs(share - expected) < 4 * (expected * (1 - expected) / 20_000) ** 0.5  # seed 6
    assert head.sample(raw, chance, None, temperature=0.0).all()
    closed = torch.tensor([True, False]).expand(20_000, 1, -1)
    assert not head.sample(raw, chance, closed, temperature=0.0).any()
    point, mean = ActionDistribution(Box.of(at=2)), numbers(*ROW, 2)
    assert torch.equal(point.sample(mean, numbers(*ROW, 2, seed=3), None, 0 * mean, 0.0), mean)


@given(st.integers(0, 10_000), st.floats(-1e4, 1e4), st.floats(0, 100))
def test_what_is_closed_is_never_done(seed, size, temperature):
    """Whatever the head says, and however much chance there is."""
    head = ActionDistribution(MultiDiscrete(SEVERAL))
    legal = torch.cat([some_legal(n, seed + i) for i, n in enumerate(SEVERAL)], -1)
    raw = size * numbers(*ROW, sum(SEVERAL), seed=seed)
    chance = -(-numbers(*ROW, sum(SEVERAL), seed=seed + 1).sigmoid().log()).log()
    acted = head.sample(raw, chance, legal, temperature=temperature)
    for i, part in enumerate(legal.split(SEVERAL, -1)):
        assert part.gather(-1, acted[..., i : i + 1]).all()
    assert head.log_probs(raw, acted, legal).logp.isfinite().all()


def test_what_is_closed_gets_no_gradient():
    raw = numbers(*ROW, 6).requires_grad_()
    legal = some_legal(6)
    said = ActionDistribution(Discrete(6)).log_probs(
        raw, torch.zeros(ROW, dtype=torch.int64), legal
    )
    (said.logp + said.entropy).sum().backward()
    assert raw.grad.isfinite().all() and not raw.grad[~legal].any() and raw.grad[legal].any()


# --- what the game gets -------------------------------------------------------------------------

MIXED = Box.of(share=Part(2, 0.0, 1.0), place=Part(1, -4.0, 2.0), free=2, above=Part(1, 1.0))


def test_the_game_gets_its_own_units():
    head = ActionDistribution(MIXED)
    centre, edge = head.unscale_action(torch.zeros(6)), head.unscale_action(torch.full((6,), 1.0))
    assert centre.tolist() == [0.5, 0.5, -1.0, 0.0, 0.0, 1.0]  # unbounded above: cut off at 1
    assert edge.tolist() == [1.0, 1.0, 2.0, 1.0, 1.0, 1.0]
    assert head.unscale_action(torch.full((6,), 9.0)).tolist() == [1.0, 1.0, 2.0, 9.0, 9.0, 9.0]


@given(st.lists(st.floats(0, 1, width=32), min_size=6, max_size=6))
def test_there_and_back_again(shares):
    """Within the bounds, what was drawn follows from what the game got, and the reverse."""
    head, share = ActionDistribution(MIXED), torch.tensor(shares)
    low, high = torch.tensor([0.0, 0, -4, -50, -50, 1]), torch.tensor([1.0, 1, 2, 50, 50, 60])
    action = low + share * (high - low)
    drawn = head.scale_action(action)
    torch.testing.assert_close(
        head.unscale_action(drawn), action.clamp(low, high), atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(
        head.scale_action(head.unscale_action(drawn)), drawn, atol=1e-5, rtol=1e-5
    )


def test_choices_are_as_they_are():
    acted = torch.tensor([[0, 2]])
    for space in (Discrete(3), MultiDiscrete((1, 3))):
        assert ActionDistribution(space).unscale_action(acted) is acted
        assert ActionDistribution(space).scale_action(acted) is acted
