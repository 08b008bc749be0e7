"""Step by step advantages: against plain loops, against TorchRL, and on what loops forget."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mores.agents.learning.transforms.advantages import (
    broadcast_to_steps,
    discounted_returns,
    generalized_advantages,
    normalize_advantages,
)
from tests.refusals import refused


def stretches(seed: int, policies: int = 3, samples: int = 4, steps: int = 7) -> dict[str, Tensor]:
    """Stretches with ends inside, cuts inside and padding behind."""
    chance = torch.Generator().manual_seed(seed)
    shape = (policies, samples, steps)
    lengths = torch.randint(1, steps + 1, shape[:2], generator=chance)
    return {
        "reward": torch.randn(shape, generator=chance, dtype=torch.float64),
        "value": torch.randn(shape, generator=chance, dtype=torch.float64),
        "next_value": torch.randn(shape, generator=chance, dtype=torch.float64),
        "terminated": torch.rand(shape, generator=chance) < 0.2,
        "truncated": torch.rand(shape, generator=chance) < 0.2,
        "mask": torch.arange(steps) < lengths[..., None],
    }


def by_loop(x: dict[str, Tensor], discount: list[float], smoothing: list[float]) -> Tensor:
    """The definition: a sum of errors ahead, from each step until something ends it."""
    found = torch.zeros_like(x["reward"])
    policies, samples, steps = found.shape
    for p in range(policies):
        for s in range(samples):
            for start in range(steps):
                if not x["mask"][p, s, start]:
                    continue
                factor, total = 1.0, 0.0
                for t in range(start, steps):
                    last = t + 1 == steps or not x["mask"][p, s, t + 1]
                    if x["terminated"][p, s, t]:
                        ahead = 0.0
                    elif x["truncated"][p, s, t] or last:
                        ahead = float(x["next_value"][p, s, t])
                    else:
                        ahead = float(x["value"][p, s, t + 1])
                    error = float(x["reward"][p, s, t]) + discount[p] * ahead
                    total += factor * (error - float(x["value"][p, s, t]))
                    if x["terminated"][p, s, t] or x["truncated"][p, s, t] or last:
                        break
                    factor *= discount[p] * smoothing[p]
                found[p, s, start] = total
    return found


@given(st.integers(0, 10**6))
def test_advantages_are_the_sum_of_errors_ahead(seed: int) -> None:
    x = stretches(seed)
    discount, smoothing = [0.5, 0.9, 1.0], [0.0, 0.7, 1.0]
    rates = (torch.tensor(r, dtype=torch.float64) for r in (discount, smoothing))
    found = generalized_advantages(**x, **dict(zip(("discount", "smoothing"), rates, strict=True)))
    expected = by_loop(x, discount, smoothing)
    torch.testing.assert_close(found.advantage, expected, atol=1e-12, rtol=1e-12)
    target = torch.where(x["mask"], expected + x["value"], 0.0)
    torch.testing.assert_close(found.value_target, target, atol=1e-12, rtol=1e-12)


def test_as_torchrl() -> None:
    functional = pytest.importorskip("torchrl.objectives.value.functional")
    x = stretches(7, steps=40) | {"mask": torch.ones(3, 4, 40, dtype=torch.bool)}
    found = generalized_advantages(**x, gamma=0.97, gae_lambda=0.9)
    done = x["terminated"] | x["truncated"]
    done[..., -1] = True
    inside = torch.cat([x["value"][..., 1:], x["value"][..., :1]], -1)
    ahead = torch.where(done, x["next_value"], inside)
    theirs = functional.generalized_advantage_estimate(
        torch.tensor(0.97, dtype=torch.float64),  # plain numbers would be rounded to float32
        torch.tensor(0.9, dtype=torch.float64),
        *(y[..., None] for y in (x["value"], ahead, x["reward"], done, x["terminated"])),
    )
    torch.testing.assert_close(found.advantage, theirs[0][..., 0], atol=1e-12, rtol=0)
    torch.testing.assert_close(found.value_target, theirs[1][..., 0], atol=1e-12, rtol=0)


def test_a_constant_reward_for_ever_is_worth_a_geometric_series() -> None:
    """1 each step, bootstrapped with 1 / (1 - g) behind the cut: that value everywhere."""
    reward = torch.ones(1, 1, 5, dtype=torch.float64)
    never = torch.zeros(1, 1, 5, dtype=torch.bool)
    found = discounted_returns(reward, never, never, ~never, 0.9, 10.0 * reward)
    torch.testing.assert_close(found, torch.full_like(reward, 10.0))
    alone = discounted_returns(reward, never, never, ~never, 0.9)
    expected = [(1 - 0.9**n) / 0.1 for n in (5, 4, 3, 2, 1)]
    torch.testing.assert_close(alone[0, 0], torch.tensor(expected, dtype=torch.float64))


def test_what_is_padding_or_next_door_may_be_anything() -> None:
    x = stretches(11)
    clean = generalized_advantages(**x)
    nan = float("nan")
    dirty = {
        name: torch.where(x["mask"], x[name], nan) for name in ("reward", "value", "next_value")
    }
    dirty["reward"] = dirty["reward"].clone()
    dirty["reward"][2] = nan
    found = generalized_advantages(**(x | dirty))
    for one, other in zip(found, clean, strict=True):
        assert torch.equal(one[:2], other[:2])
    scaled = normalize_advantages(found.advantage, x["mask"])
    assert torch.equal(scaled[:2], normalize_advantages(clean.advantage, x["mask"])[:2])
    assert scaled[:2].isfinite().all() and scaled[2].isnan().any()


def test_normalisation_is_each_policys_own_over_real_steps() -> None:
    x = stretches(5)
    found = normalize_advantages(x["reward"], x["mask"])
    for p in range(3):
        real = x["reward"][p][x["mask"][p]]
        expected = (real - real.mean()) / real.std()
        torch.testing.assert_close(found[p][x["mask"][p]], expected, atol=1e-6, rtol=1e-6)
    assert (found[~x["mask"]] == 0).all()


@pytest.mark.parametrize("real_steps", [1, 5, 7])
def test_advantages_that_do_not_differ_are_exactly_nothing(real_steps: int) -> None:
    """A sum of 0.7s divided by their number need not be 0.7; what is left is not blown up."""
    mask = (torch.arange(7) < real_steps)[None, None].repeat(2, 1, 1)
    mask[1] = True
    advantage = torch.stack([torch.full((1, 7), 0.7), torch.arange(7.0)[None].square()])
    found = normalize_advantages(advantage, mask)
    assert (found[0] == 0).all()
    assert found[1].isfinite().all() and float(found[1].std()) == pytest.approx(1.0)


def test_one_advantage_a_sample_stands_at_its_real_steps() -> None:
    mask = torch.tensor([[[True, True], [True, False]]])
    found = broadcast_to_steps(torch.tensor([[2.0, float("nan")]]), mask)
    assert found[0, 0].tolist() == [2.0, 2.0]
    assert found[0, 1, 1] == 0.0


@pytest.mark.parametrize("wrong", [{"discount": 1.5}, {"smoothing": -0.1}])
def test_rates_out_of_range(wrong: dict[str, float]) -> None:
    with refused("out_of_range", path=next(iter(wrong))):
        generalized_advantages(**stretches(1), **wrong)
