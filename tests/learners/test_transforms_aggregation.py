"""Rewards of several principals combined: formulas, GDPO as in TRL, and the benefit of LSC."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from mores.agents.learning.transforms.aggregation import (
    log_sigmoid_centered,
    minimum,
    nash_product,
    normalize_then_sum,
    reference_rewards,
    sum_log_sigmoid_centered,
    sum_then_normalize,
    weighted_sum,
)
from mores.agents.learning.transforms.groups import SampleGroups
from tests.refusals import refused

DOUBLE = torch.float64


def rewards(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def test_gdpo_and_sum_then_normalize_equal_trl() -> None:
    """TRL 1.16's two `multi_objective_aggregation`s, for one model and equal groups."""
    reward, weight = rewards(1, 20, 3), torch.tensor([1.0, 0.5, 2.0], dtype=DOUBLE)
    groups = SampleGroups.from_ids((torch.arange(20) // 5)[None])
    rows = reward.view(4, 5, 3)
    each = (rows - rows.mean(1, keepdim=True)) / (rows.std(1, keepdim=True) + 1e-4)
    summed = (each.view(20, 3) * weight).sum(1)
    expected = (summed - summed.mean()) / (summed.std() + 1e-4)
    torch.testing.assert_close(normalize_then_sum(reward[None], groups, weight)[0], expected)
    once = normalize_then_sum(reward[None], groups, weight, normalize_sum=False)
    torch.testing.assert_close(once[0], summed)
    total = (reward * weight).sum(1).view(4, 5)
    expected = (total - total.mean(1, keepdim=True)) / (total.std(1, keepdim=True) + 1e-4)
    advantage = sum_then_normalize(reward[None], groups, weight)
    torch.testing.assert_close(advantage[0], expected.flatten())


def test_normalizing_first_ignores_the_scale_of_a_principal() -> None:
    reward, groups = rewards(2, 1, 12, 2), SampleGroups.from_ids((torch.arange(12) // 6)[None])
    scaled = reward * torch.tensor([1.0, 1000.0], dtype=DOUBLE)
    expected = normalize_then_sum(reward, groups, epsilon=0.0)
    torch.testing.assert_close(normalize_then_sum(scaled, groups, epsilon=0.0), expected)
    summed_first = sum_then_normalize(scaled, groups, epsilon=0.0)
    second_only = sum_then_normalize(reward[..., 1:], groups, epsilon=0.0)
    torch.testing.assert_close(summed_first, second_only, atol=0.02, rtol=0)


def test_weights_per_model_and_ignored_rewards_of_weight_zero() -> None:
    reward = torch.tensor([[[1.0, 2.0]], [[3.0, float("nan")]]])
    summed = weighted_sum(reward, torch.tensor([[1.0, 10.0], [2.0, 0.0]]))
    assert summed.tolist() == [[21.0], [6.0]]


def test_minimum_and_nash_product() -> None:
    reward = torch.tensor([[[1.0, 4.0], [3.0, 2.5]]])
    assert minimum(reward).tolist() == [[1.0, 2.5]]
    disagreement = torch.tensor([[0.0, 2.0]])
    product = nash_product(reward, disagreement)
    torch.testing.assert_close(product, torch.tensor([[2.0**0.5, 1.5**0.5]]))
    assert nash_product(reward, torch.tensor([[1.0, 2.0]])).tolist()[0][0] == 0.0
    unequal = nash_product(reward, disagreement, torch.tensor([3.0, 1.0]))
    torch.testing.assert_close(unequal, torch.tensor([[2.0**0.25, (27 * 0.5) ** 0.25]]))
    ignored = nash_product(reward, torch.tensor([[0.0, 9.0]]), torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(ignored, torch.tensor([[1.0, 3.0]]))


def test_log_sigmoid_centered() -> None:
    """Log-probabilities at the level, above it, and at both extremes."""
    reward = torch.tensor([[[0.0], [2.0], [900.0], [-900.0]]])
    level = torch.tensor([[0.0]])
    logp = log_sigmoid_centered(reward, level, scale=2.0)[0, :, 0]
    expected = torch.tensor([np.log(0.5), -np.log1p(np.exp(-1.0)), 0.0, -450.0])
    torch.testing.assert_close(logp, expected.float())
    with refused("out_of_range", path="scale"):
        log_sigmoid_centered(reward, level, scale=0.0)


class AlignmentResult(NamedTuple):
    """Probability that an output is good for all, after alignment at a given divergence."""

    mean: float
    worst_decile: float


def tilted(utility: Tensor, divergence: float) -> Tensor:
    """softmax(utility / temperature) over samples, with a temperature of the given mean KL."""
    low, high = 0.0, 1e3
    for _ in range(60):
        middle = 0.5 * (low + high)
        logp = torch.log_softmax(middle * utility, 1)
        kl = (logp.exp() * (logp + np.log(utility.shape[1]))).sum(1).mean()
        low, high = (middle, high) if kl < divergence else (low, middle)
    return torch.log_softmax(low * utility, 1).exp()


def aligned(utility: Tensor, good: Tensor, divergence: float) -> AlignmentResult:
    probability = (tilted(utility, divergence) * good).sum(1)
    return AlignmentResult(float(probability.mean()), float(probability.quantile(0.1)))


@pytest.mark.parametrize("seed", range(20, 25))
def test_lsc_is_good_for_all_more_often_than_the_sum(seed: int) -> None:
    """Preferences of 100 prompts x 1000 outputs x 2 principals, exact tilts of equal mean KL 3.

    Margins were set before these seeds were run: good for all at least .05 more often, in the worst
    decile of prompts .08; and if 1 % of outputs exploit the proxy (+5 for a principal, true reward
    -3), at least three times as often. At KL 1 the sum is no worse, so no gain is claimed there.
    """
    reward = rewards(seed, 100, 1000, 2)
    single_group = SampleGroups.single_group(torch.ones(100, 1000, dtype=torch.bool))
    level = reference_rewards(reward, single_group)
    good = (reward > level).all(-1)
    summed = aligned(weighted_sum(reward), good, 3.0)
    centered = aligned(sum_log_sigmoid_centered(reward, level), good, 3.0)
    assert centered.mean >= summed.mean + 0.05
    assert centered.worst_decile >= summed.worst_decile + 0.08

    generator = torch.Generator().manual_seed(1000 + seed)
    exploited = torch.rand(100, 1000, generator=generator) < 0.01
    principal = torch.randint(0, 2, (100, 1000), generator=generator)
    affected = exploited[..., None] & (principal[..., None] == torch.arange(2))
    proxy, truth = reward + 5.0 * affected, reward - 3.0 * affected
    good = (truth > reference_rewards(truth, single_group)).all(-1)
    level = reference_rewards(proxy, single_group)
    summed = aligned(weighted_sum(proxy), good, 3.0)
    centered = aligned(sum_log_sigmoid_centered(proxy, level), good, 3.0)
    assert centered.mean >= 3.0 * summed.mean
