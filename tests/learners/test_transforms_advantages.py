"""Advantages per step: against plain loops, against TorchRL, and edge cases."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mores.agents.learning.transforms.advantages import (
    broadcast_to_steps,
    discounted_returns,
    explained_variance,
    generalized_advantages,
    normalize_advantages,
)
from tests.refusals import refused


def ragged(seed: int, models: int = 3, samples: int = 4, steps: int = 7) -> dict[str, Tensor]:
    """Samples with terminations, truncations and padding."""
    generator = torch.Generator().manual_seed(seed)
    shape = (models, samples, steps)
    lengths = torch.randint(1, steps + 1, shape[:2], generator=generator)
    return {
        "reward": torch.randn(shape, generator=generator, dtype=torch.float64),
        "value": torch.randn(shape, generator=generator, dtype=torch.float64),
        "next_value": torch.randn(shape, generator=generator, dtype=torch.float64),
        "terminated": torch.rand(shape, generator=generator) < 0.2,
        "truncated": torch.rand(shape, generator=generator) < 0.2,
        "mask": torch.arange(steps) < lengths[..., None],
    }


def by_loop(x: dict[str, Tensor], gamma: list[float], gae_lambda: list[float]) -> Tensor:
    """The definition: a discounted sum of errors, from each step to the end of its episode."""
    advantage = torch.zeros_like(x["reward"])
    models, samples, steps = advantage.shape
    for p in range(models):
        for s in range(samples):
            for start in range(steps):
                if not x["mask"][p, s, start]:
                    continue
                factor, total = 1.0, 0.0
                for t in range(start, steps):
                    last = t + 1 == steps or not x["mask"][p, s, t + 1]
                    if x["terminated"][p, s, t]:
                        bootstrap = 0.0
                    elif x["truncated"][p, s, t] or last:
                        bootstrap = float(x["next_value"][p, s, t])
                    else:
                        bootstrap = float(x["value"][p, s, t + 1])
                    error = float(x["reward"][p, s, t]) + gamma[p] * bootstrap
                    total += factor * (error - float(x["value"][p, s, t]))
                    if x["terminated"][p, s, t] or x["truncated"][p, s, t] or last:
                        break
                    factor *= gamma[p] * gae_lambda[p]
                advantage[p, s, start] = total
    return advantage


@given(st.integers(0, 10**6))
def test_advantages_equal_the_definition(seed: int) -> None:
    x = ragged(seed)
    gamma, gae_lambda = [0.5, 0.9, 1.0], [0.0, 0.7, 1.0]
    rates = [torch.tensor(r, dtype=torch.float64) for r in (gamma, gae_lambda)]
    estimate = generalized_advantages(**x, gamma=rates[0], gae_lambda=rates[1])
    expected = by_loop(x, gamma, gae_lambda)
    torch.testing.assert_close(estimate.advantage, expected, atol=1e-12, rtol=1e-12)
    target = torch.where(x["mask"], expected + x["value"], 0.0)
    torch.testing.assert_close(estimate.value_target, target, atol=1e-12, rtol=1e-12)


def test_equal_to_torchrl() -> None:
    functional = pytest.importorskip("torchrl.objectives.value.functional")
    x = ragged(7, steps=40) | {"mask": torch.ones(3, 4, 40, dtype=torch.bool)}
    estimate = generalized_advantages(**x, gamma=0.97, gae_lambda=0.9)
    done = x["terminated"] | x["truncated"]
    done[..., -1] = True
    following = torch.cat([x["value"][..., 1:], x["value"][..., :1]], -1)
    bootstrap = torch.where(done, x["next_value"], following)
    expected = functional.generalized_advantage_estimate(
        torch.tensor(0.97, dtype=torch.float64),  # plain numbers would be rounded to float32
        torch.tensor(0.9, dtype=torch.float64),
        *(y[..., None] for y in (x["value"], bootstrap, x["reward"], done, x["terminated"])),
    )
    torch.testing.assert_close(estimate.advantage, expected[0][..., 0], atol=1e-12, rtol=0)
    torch.testing.assert_close(estimate.value_target, expected[1][..., 0], atol=1e-12, rtol=0)


def test_returns_of_a_constant_reward_are_a_geometric_series() -> None:
    """Reward 1, bootstrapped with 1 / (1 - g) after the cut: this value at every step."""
    reward = torch.ones(1, 1, 5, dtype=torch.float64)
    never = torch.zeros(1, 1, 5, dtype=torch.bool)
    returns = discounted_returns(reward, never, never, ~never, 0.9, 10.0 * reward)
    torch.testing.assert_close(returns, torch.full_like(reward, 10.0))
    returns = discounted_returns(reward, never, never, ~never, 0.9)
    expected = [(1 - 0.9**n) / 0.1 for n in (5, 4, 3, 2, 1)]
    torch.testing.assert_close(returns[0, 0], torch.tensor(expected, dtype=torch.float64))


def test_padding_and_nan_of_other_models_are_ignored() -> None:
    x = ragged(11)
    clean = generalized_advantages(**x)
    nan = float("nan")
    dirty = {
        name: torch.where(x["mask"], x[name], nan) for name in ("reward", "value", "next_value")
    }
    dirty["reward"] = dirty["reward"].clone()
    dirty["reward"][2] = nan
    estimate = generalized_advantages(**(x | dirty))
    for field, clean_field in zip(estimate, clean, strict=True):
        assert torch.equal(field[:2], clean_field[:2])
    scaled = normalize_advantages(estimate.advantage, x["mask"])
    assert torch.equal(scaled[:2], normalize_advantages(clean.advantage, x["mask"])[:2])
    assert scaled[:2].isfinite().all() and scaled[2].isnan().any()


def test_normalization_per_model_over_valid_steps() -> None:
    x = ragged(5)
    normalized = normalize_advantages(x["reward"], x["mask"])
    for p in range(3):
        valid = x["reward"][p][x["mask"][p]]
        expected = (valid - valid.mean()) / valid.std()
        torch.testing.assert_close(normalized[p][x["mask"][p]], expected, atol=1e-6, rtol=1e-6)
    assert (normalized[~x["mask"]] == 0).all()


@pytest.mark.parametrize("valid_steps", [1, 5, 7])
def test_equal_advantages_normalize_to_exactly_zero(valid_steps: int) -> None:
    """A sum of 0.7s divided by their number need not be 0.7; the remainder is not amplified."""
    mask = (torch.arange(7) < valid_steps)[None, None].repeat(2, 1, 1)
    mask[1] = True
    advantage = torch.stack([torch.full((1, 7), 0.7), torch.arange(7.0)[None].square()])
    normalized = normalize_advantages(advantage, mask)
    assert (normalized[0] == 0).all()
    assert normalized[1].isfinite().all() and float(normalized[1].std()) == pytest.approx(1.0)


def test_explained_variance():
    """As of `numpy.var` over valid steps; NaN for equal targets, which are equal up to rounding."""
    x = ragged(4)
    target = x["value"] + 0.3 * x["next_value"]
    explained = explained_variance(x["value"], target, x["mask"])
    for model, mask in enumerate(x["mask"]):
        value, goal = x["value"][model][mask], target[model][mask]
        expected = 1 - (goal - value).var(correction=0) / goal.var(correction=0)
        torch.testing.assert_close(explained[model], expected)
    value, mask = x["value"].float(), x["mask"]
    reward, false = torch.full_like(value, 0.1), torch.zeros_like(mask)
    target = generalized_advantages(reward, value, value, false, false, mask, 0.0).value_target
    assert explained_variance(value, target, mask).isnan().all()


def test_broadcast_to_steps() -> None:
    mask = torch.tensor([[[True, True], [True, False]]])
    advantage = broadcast_to_steps(torch.tensor([[2.0, float("nan")]]), mask)
    assert advantage[0, 0].tolist() == [2.0, 2.0]
    assert advantage[0, 1, 1] == 0.0


@pytest.mark.parametrize("kwargs", [{"gamma": 1.5}, {"gae_lambda": -0.1}])
def test_rates_out_of_range(kwargs: dict[str, float]) -> None:
    with refused("out_of_range", path=next(iter(kwargs))):
        generalized_advantages(**ragged(1), **kwargs)
