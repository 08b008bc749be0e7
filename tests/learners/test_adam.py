"""Stacked Adam against separate `torch.optim.AdamW`; freezing, broken gradients, saving."""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor

from mores.agents.learning.adam import Adam
from mores.agents.learning.weights.stacked_weights import squeeze
from mores.core import pytree
from tests.refusals import refused

POLICIES = 6
SHAPES = {"in": (3, 5), "bias": (1, 5), "out": (5, 2), "temperature": ()}


def parameters(seed: int, policies: int = POLICIES) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(policies, *shape, generator=generator) for name, shape in SHAPES.items()
    }


def gradients(values: dict[str, Tensor], step: int) -> dict[str, Tensor]:
    """Of a bowl around a goal, with noise: sizes from 1e-3 to 30 between policies."""
    generator = torch.Generator().manual_seed(1000 + step)
    size = torch.logspace(-3, 1.5, POLICIES)
    return {
        name: (value - 1 + torch.randn(value.shape, generator=generator))
        * size.view(-1, *[1] * (value.dim() - 1))
        for name, value in values.items()
    }


def frozen(policy: int, step: int) -> bool:
    """Policy p rests for some steps from step 5 p on; the first is frozen at the very start."""
    return 5 * policy <= step < 5 * policy + 3 + policy


def test_as_many_separate_optimisers() -> None:
    """50 steps with rates, decays, clips and rests of their own, as P runs of torch's AdamW."""
    rate = torch.logspace(-4, -1, POLICIES)
    decay, eps = torch.linspace(0, 0.3, POLICIES), torch.logspace(-8, -3, POLICIES)
    clip = torch.tensor([0.01, 0.1, 0.5, 1.0, 5.0, 1e9])
    betas = (torch.linspace(0.5, 0.95, POLICIES), torch.linspace(0.9, 0.999, POLICIES))
    adam = Adam(rate, betas, eps, decay, clip)

    ours = parameters(0)
    state = adam.init(ours)
    theirs = [
        {name: value[p].clone().requires_grad_() for name, value in ours.items()}
        for p in range(POLICIES)
    ]
    optimisers = [
        torch.optim.AdamW(
            own.values(),
            lr=float(rate[p]),
            betas=(float(betas[0][p]), float(betas[1][p])),
            eps=float(eps[p]),
            weight_decay=float(decay[p]),
        )
        for p, own in enumerate(theirs)
    ]
    for step in range(50):
        slopes = gradients(ours, step)
        given = {name: slope.clone() for name, slope in slopes.items()}
        active = torch.tensor([not frozen(p, step) for p in range(POLICIES)])
        update = adam.step(ours, slopes, state, active)
        assert all(torch.equal(slopes[name], given[name]) for name in slopes)  # left as they were
        for p in range(POLICIES):
            for name, value in theirs[p].items():
                value.grad = slopes[name][p].clone()
            norm = torch.nn.utils.clip_grad_norm_(theirs[p].values(), float(clip[p]))
            assert update.grad_norm[p] == pytest.approx(float(norm), rel=1e-5)
            if active[p]:
                optimisers[p].step()
        for p in range(POLICIES):
            for name, value in theirs[p].items():
                torch.testing.assert_close(ours[name][p], value.detach(), rtol=1e-6, atol=1e-6)
    assert state.step.tolist() == [
        sum(not frozen(p, step) for step in range(50)) for p in range(POLICIES)
    ]


def test_one_number_means_the_same_as_one_a_policy() -> None:
    one, many = parameters(1), parameters(1)
    plain = Adam(0.01, (0.9, 0.99), 1e-8, 0.1, 1.0)
    full = [torch.full((POLICIES,), x, dtype=torch.float64) for x in (0.01, 0.9, 0.99, 0.1)]
    spread = Adam(full[0], (full[1], full[2]), 1e-8, full[3], torch.ones(POLICIES))
    states = plain.init(one), spread.init(many)
    for step in range(5):
        slopes = gradients(one, step)
        plain.step(one, slopes, states[0])
        spread.step(many, slopes, states[1])
    assert all(torch.equal(one[name], many[name]) for name in one)


def test_a_frozen_policy_keeps_parameters_and_moments() -> None:
    adam, values = Adam(0.1, weight_decay=0.1), parameters(2)
    state = adam.init(values)
    adam.step(values, gradients(values, 0), state)  # momentum that would carry it on
    before = {
        k: v.clone() for k, v in pytree.flatten((values, state.exp_avg, state.exp_avg_sq)).items()
    }
    resting = torch.tensor([True, False] * (POLICIES // 2))
    for step in range(1, 4):
        adam.step(values, gradients(values, step), state, ~resting)
    after = pytree.flatten((values, state.exp_avg, state.exp_avg_sq))
    for name, tensor in after.items():
        assert torch.equal(tensor[resting], before[name][resting]), name
        assert not (tensor[~resting] == before[name][~resting]).all(), name
    assert state.step.tolist() == [1, 4] * (POLICIES // 2)


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf, 3e38])
def test_broken_gradients_stay_their_own_trouble(clip: float | None, broken: float) -> None:
    """The policy sits out and is reported; not a bit of another changes."""
    adam, sick, well = Adam(0.1, weight_decay=0.1, max_grad_norm=clip), parameters(3), parameters(3)
    states = adam.init(sick), adam.init(well)
    for step in range(3):
        slopes = gradients(well, step)
        adam.step(well, slopes, states[1])
        slopes["out"][2, 1] = broken if step == 1 else slopes["out"][2, 1]
        before = {name: value[2].clone() for name, value in sick.items()}
        update = adam.step(sick, slopes, states[0])
        assert update.finite.tolist() == [p != 2 or step != 1 for p in range(POLICIES)]
        stood = all(torch.equal(sick[name][2], old) for name, old in before.items())
        assert stood == (step == 1)
    others = torch.arange(POLICIES) != 2
    for one, other in zip(
        pytree.flatten((sick, states[0])).values(),
        pytree.flatten((well, states[1])).values(),
        strict=True,
    ):
        assert torch.equal(one[others], other[others])
        assert one.isfinite().all()


def test_state_is_saved_and_restored() -> None:
    adam, values = Adam(0.05, max_grad_norm=1.0), parameters(4)
    state = adam.init(values)
    for step in range(3):
        adam.step(values, gradients(values, step), state)
    saved = {path: tensor.clone() for path, tensor in pytree.flatten((values, state)).items()}
    assert sorted(saved) == sorted(
        [f"0/{n}" for n in SHAPES]
        + [f"1/{moment}/{n}" for moment in ("first", "second") for n in SHAPES]
        + ["1/steps"]
    )
    again, other = pytree.restore((parameters(9), adam.init(values)), saved)
    for step in range(3, 6):
        slopes = gradients(values, step)
        adam.step(values, slopes, state)
        adam.step(again, slopes, other)
    assert all(torch.equal(values[name], again[name]) for name in values)


def test_leaves_of_autograd_and_a_state_dict() -> None:
    """A module's own parameters, as a stack of one policy: views, so the module learns."""
    torch.manual_seed(0)
    ours, theirs = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)
    theirs.load_state_dict(ours.state_dict())
    other = torch.optim.AdamW(theirs.parameters(), lr=0.1, weight_decay=0.0)
    adam = Adam(0.1)
    stack = {name: p.detach().unsqueeze(0) for name, p in ours.named_parameters()}
    state = adam.init(stack)
    data = torch.randn(8, 4)
    for _ in range(5):
        for model in (ours, theirs):
            model.zero_grad()
            model(data).square().sum().backward()
        other.step()
        slopes = {n: p.grad.unsqueeze(0) for n, p in ours.named_parameters() if p.grad is not None}
        adam.step(stack, slopes, state)
    for name, value in squeeze(stack).items():
        torch.testing.assert_close(value, theirs.get_parameter(name).detach())
        assert torch.equal(value, ours.get_parameter(name).detach())

    leaf = {"w": torch.ones(2, 3, requires_grad=True)}
    leaf["w"].square().sum().backward()
    assert leaf["w"].grad is not None
    Adam(0.5).step(leaf, {"w": leaf["w"].grad}, Adam().init(leaf))
    torch.testing.assert_close(leaf["w"].detach(), torch.full((2, 3), 0.5))


def test_bad_input() -> None:
    values = parameters(0)
    state = Adam().init(values)
    for wrong in ({"learning_rate": -1.0}, {"betas": (0.9, 1.0)}, {"clip": 0.0}, {"eps": -1e-8}):
        with refused("out_of_range", path=next(iter(wrong))):
            Adam(**wrong)
    with refused("out_of_range", path="clip"):
        Adam(max_grad_norm=torch.tensor([1.0, torch.nan]))
    slopes = gradients(values, 0)
    with refused("missing", path="in"):
        Adam().step(values, {n: g for n, g in slopes.items() if n != "in"}, state)
    with refused("unknown_name", path="inn"):
        Adam().step(values, slopes | {"inn": slopes["in"]}, state)
    with refused("missing", path="new"):
        Adam().step(values | {"new": values["in"]}, slopes | {"new": slopes["in"]}, state)
    with refused("wrong_shape", path="bias"):
        Adam().init({"weight": torch.ones(3, 4), "bias": torch.ones(4)})


def timings(policies: int = 64) -> None:
    """What a step costs, in ms of one core: `python tests/learners/test_adam.py`."""
    torch.set_num_threads(1)
    layers = [(16, 64), (64, 64), (64, 4)]
    shapes = [shape for i, o in layers for shape in ((policies, i, o), (policies, 1, o))]
    slopes = [torch.randn(shape) for shape in shapes]

    def best(step, times: int = 200) -> float:
        taken = []
        for _ in range(times):
            start = time.process_time()
            step()
            taken.append(time.process_time() - start)
        return min(taken) * 1e3

    def theirs(clip: bool, **kind: bool) -> float:
        values = [torch.randn(shape, requires_grad=True) for shape in shapes]
        optimiser = torch.optim.AdamW(values, lr=1e-3, weight_decay=0.0, **kind)

        def step() -> None:
            for value, slope in zip(values, slopes, strict=True):
                value.grad = slope
            if clip:
                torch.nn.utils.clip_grad_norm_(values, 1e9)
            optimiser.step()

        return best(step)

    def ours(adam: Adam) -> float:
        values = {str(number): torch.randn(shape) for number, shape in enumerate(shapes)}
        state, given = adam.init(values), dict(zip(values, slopes, strict=True))
        return best(lambda: adam.step(values, given, state))

    def separate() -> float:
        nets = [[torch.randn(shape[1:], requires_grad=True) for shape in shapes] for _ in rates]
        optimisers = [torch.optim.AdamW(net, lr=1e-3, fused=True) for net in nets]

        def step() -> None:
            for number, (net, optimiser) in enumerate(zip(nets, optimisers, strict=True)):
                for value, slope in zip(net, slopes, strict=True):
                    value.grad = slope[number]
                torch.nn.utils.clip_grad_norm_(net, 1e9)
                optimiser.step()

        return best(step, 20)

    rates = torch.full((policies,), 1e-3)
    for name, cost in {
        "torch fused": theirs(False, fused=True),
        "torch foreach": theirs(False, foreach=True),
        "torch fused, clipped": theirs(True, fused=True),
        "torch foreach, clipped": theirs(True, foreach=True),
        "torch fused, clipped, separate": separate(),
        "stacked": ours(Adam(1e-3)),
        "stacked, clipped": ours(Adam(1e-3, max_grad_norm=1e9)),
        "stacked, clipped, rates by policy": ours(Adam(rates, max_grad_norm=1e9)),
    }.items():
        print(f"{name:35} {cost:6.3f}")


if __name__ == "__main__":
    timings()
