"""Several principals' rewards made one: formulas, GDPO as in TRL, and what LSC is for."""

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


def test_gdpo_and_sum_then_normalise_as_in_trl() -> None:
    """TRL 1.16's two `multi_objective_aggregation`s, for one policy and equal groups."""
    reward, weight = rewards(1, 20, 3), torch.tensor([1.0, 0.5, 2.0], dtype=DOUBLE)
    groups = SampleGroups.from_ids((torch.arange(20) // 5)[None])
    rows = reward.view(4, 5, 3)
    each = (rows - rows.mean(1, keepdim=True)) / (rows.std(1, keepdim=True) + 1e-4)
    summed = (each.view(20, 3) * weight).sum(1)
    theirs = (summed - summed.mean()) / (summed.std() + 1e-4)
    torch.testing.assert_close(normalize_then_sum(reward[None], groups, weight)[0], theirs)
    once = normalize_then_sum(reward[None], groups, weight, normalize_sum=False)
    torch.testing.assert_close(once[0], summed)
    total = (reward * weight).sum(1).view(4, 5)
    theirs = (total - total.mean(1, keepdim=True)) / (total.std(1, keepdim=True) + 1e-4)
    found = sum_then_normalize(reward[None], groups, weight)
    torch.testing.assert_close(found[0], theirs.flatten())


def test_normalising_first_gives_a_loud_principal_no_more_say() -> None:
    reward, groups = rewards(2, 1, 12, 2), SampleGroups.from_ids((torch.arange(12) // 6)[None])
    loud = reward * torch.tensor([1.0, 1000.0], dtype=DOUBLE)
    quiet = normalize_then_sum(reward, groups, epsilon=0.0)
    torch.testing.assert_close(normalize_then_sum(loud, groups, epsilon=0.0), quiet)
    deafened = sum_then_normalize(loud, groups, epsilon=0.0)
    only_loud = sum_then_normalize(reward[..., 1:], groups, epsilon=0.0)
    torch.testing.assert_close(deafened, only_loud, atol=0.02, rtol=0)


def test_weights_are_each_policys_own_and_zero_asks_nobody() -> None:
    reward = torch.tensor([[[1.0, 2.0]], [[3.0, float("nan")]]])
    found = weighted_sum(reward, torch.tensor([[1.0, 10.0], [2.0, 0.0]]))
    assert found.tolist() == [[21.0], [6.0]]


def test_the_rest_by_hand() -> None:
    reward = torch.tensor([[[1.0, 4.0], [3.0, 2.5]]])
    assert minimum(reward).tolist() == [[1.0, 2.5]]
    fallback = torch.tensor([[0.0, 2.0]])
    gains = nash_product(reward, fallback)
    torch.testing.assert_close(gains, torch.tensor([[2.0**0.5, 1.5**0.5]]))
    assert nash_product(reward, torch.tensor([[1.0, 2.0]])).tolist()[0][0] == 0.0
    unequal = nash_product(reward, fallback, torch.tensor([3.0, 1.0]))
    torch.testing.assert_close(unequal, torch.tensor([[2.0**0.25, (27 * 0.5) ** 0.25]]))
    ignored = nash_product(reward, torch.tensor([[0.0, 9.0]]), torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(ignored, torch.tensor([[1.0, 3.0]]))


def test_log_sigmoid_is_a_probability_of_being_good() -> None:
    """Twice as likely to be good by odds: one log 2 of reward more; certain at the far end."""
    reward = torch.tensor([[[0.0], [2.0], [900.0], [-900.0]]])
    level = torch.tensor([[0.0]])
    found = log_sigmoid_centered(reward, level, scale=2.0)[0, :, 0]
    expected = torch.tensor([np.log(0.5), -np.log1p(np.exp(-1.0)), 0.0, -450.0])
    torch.testing.assert_close(found, expected.float())
    with refused("out_of_range", path="scale"):
        log_sigmoid_centered(reward, level, scale=0.0)


class Outcome(NamedTuple):
    """After aligning as far as a divergence allows: chance that all is good, mean and worst."""

    mean: float
    worst_decile: float


def tilted(utility: Tensor, divergence: float) -> Tensor:
    """softmax(utility / temperature) over samples, temperature such that mean KL is as asked."""
    low, high = 0.0, 1e3
    for _ in range(60):
        middle = 0.5 * (low + high)
        logp = torch.log_softmax(middle * utility, 1)
        reached = (logp.exp() * (logp + np.log(utility.shape[1]))).sum(1).mean()
        low, high = (middle, high) if reached < divergence else (low, middle)
    return torch.log_softmax(low * utility, 1).exp()


def aligned(utility: Tensor, good: Tensor, divergence: float) -> Outcome:
    chance = (tilted(utility, divergence) * good).sum(1)
    return Outcome(float(chance.mean()), float(chance.quantile(0.1)))


@pytest.mark.parametrize("seed", range(20, 25))
def test_lsc_serves_more_prompts_than_the_sum(seed: int) -> None:
    """Preferences of 100 prompts x 1000 outputs x 2 principals, exact tilts of equal mean KL 3.

    Margins set before these seeds were run: all good at least .05 more often, the worst decile of
    prompts at least .08; and where 1 % of outputs pretend (+5 for a principal, in truth -3), at
    least three times as often. At KL 1 the sum is no worse, which is why no gain is claimed there.
    """
    reward = rewards(seed, 100, 1000, 2)
    everybody = SampleGroups.single_group(torch.ones(100, 1000, dtype=torch.bool))
    level = reference_rewards(reward, everybody)
    good = (reward > level).all(-1)
    added = aligned(weighted_sum(reward), good, 3.0)
    centred = aligned(sum_log_sigmoid_centered(reward, level), good, 3.0)
    assert centred.mean >= added.mean + 0.05
    assert centred.worst_decile >= added.worst_decile + 0.08

    chance = torch.Generator().manual_seed(1000 + seed)
    fooled = torch.rand(100, 1000, generator=chance) < 0.01
    whom = torch.randint(0, 2, (100, 1000), generator=chance)
    hit = fooled[..., None] & (whom[..., None] == torch.arange(2))
    proxy, truth = reward + 5.0 * hit, reward - 3.0 * hit
    good = (truth > reference_rewards(truth, everybody)).all(-1)
    level = reference_rewards(proxy, everybody)
    added = aligned(weighted_sum(proxy), good, 3.0)
    centred = aligned(sum_log_sigmoid_centered(proxy, level), good, 3.0)
    assert centred.mean >= 3.0 * added.mean
