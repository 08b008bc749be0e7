"""Action distributions against `torch.distributions`; sampling, and scaling of box actions."""

from __future__ import annotations

import math

import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from mores.agents.learning.action_distributions import ActionDistribution
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete, MultiDiscrete, Part

ROW = (2, 5)
OPTIONS = (3, 2, 4)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def random_mask(options: int, seed: int = 0) -> torch.Tensor:
    """A mask `[*ROW, option]` with the first option and some others legal."""
    legal = normal(*ROW, options, seed=seed + 50) > 0
    legal[..., 0] = True
    return legal


@pytest.mark.parametrize("masked", [False, True])
def test_discrete_actions_equal_torchs_categorical(masked):
    raw, legal = 3 * normal(*ROW, 6), random_mask(6) if masked else None
    theirs = torch.where(legal, raw, -torch.inf) if masked else raw
    theirs = torch.distributions.Categorical(logits=theirs)
    action = theirs.sample()
    ours = ActionDistribution(Discrete(6)).log_probs(raw, action, legal)
    torch.testing.assert_close(ours.logp, theirs.log_prob(action))
    entropy = theirs.probs * theirs.probs.clamp(min=1e-30).log()  # torch's is NaN where masked
    torch.testing.assert_close(ours.entropy, -entropy.sum(-1))
    torch.testing.assert_close(ours.logits.exp(), theirs.probs)


@pytest.mark.parametrize("masked", [False, True])
def test_multi_discrete_actions_equal_a_product_of_categoricals(masked):
    raw = 2 * normal(*ROW, sum(OPTIONS))
    masks = [random_mask(n, i) for i, n in enumerate(OPTIONS)]
    legal = torch.cat(masks, -1) if masked else None
    parts = torch.where(legal, raw, -torch.inf) if masked else raw
    theirs = [torch.distributions.Categorical(logits=x) for x in parts.split(OPTIONS, -1)]
    action = torch.stack([d.sample() for d in theirs], -1)
    ours = ActionDistribution(MultiDiscrete(OPTIONS)).log_probs(raw, action, legal)
    logp = sum(d.log_prob(action[..., i]) for i, d in enumerate(theirs))
    torch.testing.assert_close(ours.logp, logp)
    entropy = sum(-(d.probs * d.probs.clamp(min=1e-30).log()).sum(-1) for d in theirs)
    torch.testing.assert_close(ours.entropy, entropy)
    assert ours.logits is None


def test_box_actions_equal_torchs_normal():
    mean, log_std, action = normal(*ROW, 3), 0.4 * normal(1, 3, seed=1), normal(*ROW, 3, seed=2)
    theirs = torch.distributions.Normal(mean, log_std.exp().expand_as(mean))
    ours = ActionDistribution(Box.of(at=3)).log_probs(mean, action, None, log_std)
    torch.testing.assert_close(ours.logp, theirs.log_prob(action).sum(-1))
    torch.testing.assert_close(ours.entropy, theirs.entropy().sum(-1))


# --- sampling -----------------------------------------------------------------------------------


def test_discrete_samples_follow_the_softmax():
    """Chi-squared of 20 000 draws, seed 5, level .001; detects a probability wrong by .03."""
    n = 20_000
    streams, distribution = RandomStreams.of(5, n), ActionDistribution(MultiDiscrete((4, 3)))
    raw = torch.tensor([1.0, 0.0, -1.0, 2.0, 0.5, 0.0, -0.5]).expand(n, 1, -1)
    legal = torch.tensor([True, True, True, False, True, True, True]).expand(n, 1, -1)
    noise = streams.gumbel("act", 1, distribution.noise_size)
    action = distribution.sample(raw, noise, legal)[:, 0]
    first = torch.where(legal, raw, -torch.inf)[0, 0, :4].softmax(-1)
    second = raw[0, 0, 4:].softmax(-1)
    assert (action[:, 0] != 3).all()
    joint = first[:3, None] * second  # the two choices are independent
    counts = torch.zeros(3, 3).index_put_(tuple(action.T), torch.ones(n), accumulate=True)
    test = scipy.stats.chisquare(counts.flatten(), joint.flatten() / joint.sum() * n)
    assert test.pvalue > 0.001


def test_box_samples_follow_the_normal_distribution():
    """Kolmogorov-Smirnov, 5 000 draws, seed 5, level .001."""
    streams, distribution = RandomStreams.of(5, 5000), ActionDistribution(Box.of(at=1))
    mean, log_std = torch.full((5000, 1, 1), 0.7), torch.full((5000, 1, 1), math.log(2.0))
    action = distribution.sample(mean, streams.normal("act", 1, 1), None, log_std)
    assert scipy.stats.kstest(action.flatten().numpy(), "norm", (0.7, 2.0)).pvalue > 0.001


def test_temperature_sharpens_and_zero_is_greedy():
    streams, discrete = RandomStreams.of(6, 20_000), ActionDistribution(Discrete(2))
    raw, noise = torch.tensor([0.0, 1.0]).expand(20_000, 1, -1), streams.gumbel("act", 1, 2)
    share = discrete.sample(raw, noise, None, temperature=0.5).double().mean()
    expected = 1 / (1 + math.exp(-1.0 / 0.5))
    assert abs(share - expected) < 4 * (expected * (1 - expected) / 20_000) ** 0.5  # seed 6
    assert discrete.sample(raw, noise, None, temperature=0.0).all()
    legal = torch.tensor([True, False]).expand(20_000, 1, -1)
    assert not discrete.sample(raw, noise, legal, temperature=0.0).any()
    box, mean = ActionDistribution(Box.of(at=2)), normal(*ROW, 2)
    assert torch.equal(box.sample(mean, normal(*ROW, 2, seed=3), None, 0 * mean, 0.0), mean)


@given(st.integers(0, 10_000), st.floats(-1e4, 1e4), st.floats(0, 100))
def test_illegal_options_are_never_sampled(seed, size, temperature):
    """For all logits and temperatures."""
    distribution = ActionDistribution(MultiDiscrete(OPTIONS))
    legal = torch.cat([random_mask(n, seed + i) for i, n in enumerate(OPTIONS)], -1)
    raw = size * normal(*ROW, sum(OPTIONS), seed=seed)
    noise = -(-normal(*ROW, sum(OPTIONS), seed=seed + 1).sigmoid().log()).log()
    action = distribution.sample(raw, noise, legal, temperature=temperature)
    for i, part in enumerate(legal.split(OPTIONS, -1)):
        assert part.gather(-1, action[..., i : i + 1]).all()
    assert distribution.log_probs(raw, action, legal).logp.isfinite().all()


def test_illegal_options_have_no_gradient():
    raw, legal = normal(*ROW, 6).requires_grad_(), random_mask(6)
    action = torch.zeros(ROW, dtype=torch.int64)
    ours = ActionDistribution(Discrete(6)).log_probs(raw, action, legal)
    (ours.logp + ours.entropy).sum().backward()
    assert raw.grad.isfinite().all() and not raw.grad[~legal].any() and raw.grad[legal].any()


# --- scaling ------------------------------------------------------------------------------------

MIXED = Box.of(share=Part(2, 0.0, 1.0), place=Part(1, -4.0, 2.0), free=2, above=Part(1, 1.0))


def test_actions_are_scaled_to_the_units_of_the_environment():
    distribution = ActionDistribution(MIXED)
    center, edge, outside = (
        distribution.unscale_action(torch.full((6,), x)).tolist() for x in (0.0, 1.0, 9.0)
    )
    assert center == [0.5, 0.5, -1.0, 0.0, 0.0, 1.0]  # unbounded above: clipped at 1
    assert edge == [1.0, 1.0, 2.0, 1.0, 1.0, 1.0]
    assert outside == [1.0, 1.0, 2.0, 9.0, 9.0, 9.0]


@given(st.lists(st.floats(0, 1, width=32), min_size=6, max_size=6))
def test_scaling_is_the_inverse_of_unscaling(shares):
    """Within the bounds."""
    distribution, share = ActionDistribution(MIXED), torch.tensor(shares)
    low, high = torch.tensor([0.0, 0, -4, -50, -50, 1]), torch.tensor([1.0, 1, 2, 50, 50, 60])
    action = low + share * (high - low)
    scaled = distribution.scale_action(action)
    unscaled = distribution.unscale_action(scaled)
    torch.testing.assert_close(unscaled, action.clamp(low, high), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(distribution.scale_action(unscaled), scaled, atol=1e-5, rtol=1e-5)


def test_discrete_actions_are_not_scaled():
    action = torch.tensor([[0, 2]])
    for space in (Discrete(3), MultiDiscrete((1, 3))):
        assert ActionDistribution(space).unscale_action(action) is action
        assert ActionDistribution(space).scale_action(action) is action
