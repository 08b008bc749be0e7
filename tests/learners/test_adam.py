"""Stacked Adam against separate `torch.optim.AdamW`; inactive models, NaN gradients, saving."""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor

from mores.agents.learning.adam import Adam
from mores.agents.learning.weights.stacked_weights import squeeze
from mores.core import pytree
from tests.refusals import refused

MODELS = 6
SHAPES = {"in": (3, 5), "bias": (1, 5), "out": (5, 2), "temperature": ()}


def parameters(seed: int, models: int = MODELS) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(models, *shape, generator=generator) for name, shape in SHAPES.items()
    }


def gradients(values: dict[str, Tensor], step: int) -> dict[str, Tensor]:
    """Gradients of a quadratic loss, with noise; the scale of models goes from 1e-3 to 30."""
    generator = torch.Generator().manual_seed(1000 + step)
    size = torch.logspace(-3, 1.5, MODELS)
    return {
        name: (value - 1 + torch.randn(value.shape, generator=generator))
        * size.view(-1, *[1] * (value.dim() - 1))
        for name, value in values.items()
    }


def inactive(model: int, step: int) -> bool:
    """Model m is inactive for 3 + m steps from step 5 m on: the first one at the start."""
    return 5 * model <= step < 5 * model + 3 + model


def test_equals_separate_optimizers() -> None:
    """50 steps with settings and inactive steps per model, against M runs of torch's AdamW."""
    rate = torch.logspace(-4, -1, MODELS)
    decay, eps = torch.linspace(0, 0.3, MODELS), torch.logspace(-8, -3, MODELS)
    clip = torch.tensor([0.01, 0.1, 0.5, 1.0, 5.0, 1e9])
    betas = (torch.linspace(0.5, 0.95, MODELS), torch.linspace(0.9, 0.999, MODELS))
    adam = Adam(rate, betas, eps, decay, clip)

    ours = parameters(0)
    state = adam.init(ours)
    theirs = [
        {name: value[m].clone().requires_grad_() for name, value in ours.items()}
        for m in range(MODELS)
    ]
    optimizers = [
        torch.optim.AdamW(
            values.values(),
            lr=float(rate[m]),
            betas=(float(betas[0][m]), float(betas[1][m])),
            eps=float(eps[m]),
            weight_decay=float(decay[m]),
        )
        for m, values in enumerate(theirs)
    ]
    for step in range(50):
        grads = gradients(ours, step)
        copies = {name: grad.clone() for name, grad in grads.items()}
        active = torch.tensor([not inactive(m, step) for m in range(MODELS)])
        info = adam.step(ours, grads, state, active)
        assert all(torch.equal(grads[name], copies[name]) for name in grads)  # not changed
        for m in range(MODELS):
            for name, value in theirs[m].items():
                value.grad = grads[name][m].clone()
            norm = torch.nn.utils.clip_grad_norm_(theirs[m].values(), float(clip[m]))
            assert info.grad_norm[m] == pytest.approx(float(norm), rel=1e-5)
            if active[m]:
                optimizers[m].step()
        for m in range(MODELS):
            for name, value in theirs[m].items():
                torch.testing.assert_close(ours[name][m], value.detach(), rtol=1e-6, atol=1e-6)
    assert state.step.tolist() == [
        sum(not inactive(m, step) for step in range(50)) for m in range(MODELS)
    ]


def test_one_setting_equals_one_per_model() -> None:
    values, copies = parameters(1), parameters(1)
    shared = Adam(0.01, (0.9, 0.99), 1e-8, 0.1, 1.0)
    rows = [torch.full((MODELS,), x, dtype=torch.float64) for x in (0.01, 0.9, 0.99, 0.1)]
    per_model = Adam(rows[0], (rows[1], rows[2]), 1e-8, rows[3], torch.ones(MODELS))
    states = shared.init(values), per_model.init(copies)
    for step in range(5):
        grads = gradients(values, step)
        shared.step(values, grads, states[0])
        per_model.step(copies, grads, states[1])
    for name, value in values.items():
        torch.testing.assert_close(value, copies[name], rtol=1e-6, atol=1e-7)


def test_inactive_models_do_not_change() -> None:
    adam, values = Adam(0.1, weight_decay=0.1), parameters(2)
    state = adam.init(values)
    adam.step(values, gradients(values, 0), state)  # momentum would move them in plain Adam
    before = {
        k: v.clone() for k, v in pytree.flatten((values, state.exp_avg, state.exp_avg_sq)).items()
    }
    frozen = torch.tensor([True, False] * (MODELS // 2))
    for step in range(1, 4):
        adam.step(values, gradients(values, step), state, ~frozen)
    after = pytree.flatten((values, state.exp_avg, state.exp_avg_sq))
    for name, tensor in after.items():
        assert torch.equal(tensor[frozen], before[name][frozen]), name
        assert not (tensor[~frozen] == before[name][~frozen]).all(), name
    assert state.step.tolist() == [1, 4] * (MODELS // 2)


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 3e38])
def test_non_finite_gradients_affect_one_model(clip: float | None, value: float) -> None:
    """The model skips the step and is reported; no bit of another model changes."""
    adam = Adam(0.1, weight_decay=0.1, max_grad_norm=clip)
    faulty, healthy = parameters(3), parameters(3)
    states = adam.init(faulty), adam.init(healthy)
    for step in range(3):
        grads = gradients(healthy, step)
        adam.step(healthy, grads, states[1])
        grads["out"][2, 1] = value if step == 1 else grads["out"][2, 1]
        before = {name: tensor[2].clone() for name, tensor in faulty.items()}
        info = adam.step(faulty, grads, states[0])
        assert info.finite.tolist() == [m != 2 or step != 1 for m in range(MODELS)]
        unchanged = all(torch.equal(faulty[name][2], old) for name, old in before.items())
        assert unchanged == (step == 1)
    others = torch.arange(MODELS) != 2
    actual, expected = pytree.flatten((faulty, states[0])), pytree.flatten((healthy, states[1]))
    for tensor, other in zip(actual.values(), expected.values(), strict=True):
        assert torch.equal(tensor[others], other[others])
        assert tensor.isfinite().all()


def test_state_is_saved_and_restored() -> None:
    adam, values = Adam(0.05, max_grad_norm=1.0), parameters(4)
    state = adam.init(values)
    for step in range(3):
        adam.step(values, gradients(values, step), state)
    saved = {path: tensor.clone() for path, tensor in pytree.flatten((values, state)).items()}
    assert sorted(saved) == sorted(
        [f"0/{n}" for n in SHAPES]
        + [f"1/{moment}/{n}" for moment in ("exp_avg", "exp_avg_sq") for n in SHAPES]
        + ["1/step"]
    )
    restored, restored_state = pytree.restore((parameters(9), adam.init(values)), saved)
    for step in range(3, 6):
        grads = gradients(values, step)
        adam.step(values, grads, state)
        adam.step(restored, grads, restored_state)
    assert all(torch.equal(values[name], restored[name]) for name in values)


def test_parameters_of_a_module_are_changed_in_place() -> None:
    """The parameters of a torch module as a stack of one model are views of the module."""
    torch.manual_seed(0)
    ours, theirs = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)
    theirs.load_state_dict(ours.state_dict())
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=0.1, weight_decay=0.0)
    adam = Adam(0.1)
    stack = {name: p.detach().unsqueeze(0) for name, p in ours.named_parameters()}
    state = adam.init(stack)
    data = torch.randn(8, 4)
    for _ in range(5):
        for model in (ours, theirs):
            model.zero_grad()
            model(data).square().sum().backward()
        optimizer.step()
        grads = {n: p.grad.unsqueeze(0) for n, p in ours.named_parameters() if p.grad is not None}
        adam.step(stack, grads, state)
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
    for name, value in (
        *(("learning_rate", -1.0), ("betas", (0.9, 1.0)), ("max_grad_norm", 0.0), ("eps", -1e-8)),
        ("max_grad_norm", torch.tensor([1.0, torch.nan])),
    ):
        with refused("out_of_range", path=name):
            Adam(**{name: value})
    grads = gradients(values, 0)
    with refused("missing", path="in"):
        Adam().step(values, {n: g for n, g in grads.items() if n != "in"}, state)
    with refused("unknown_name", path="inn"):
        Adam().step(values, grads | {"inn": grads["in"]}, state)
    with refused("missing", path="new"):
        Adam().step(values | {"new": values["in"]}, grads | {"new": grads["in"]}, state)
    with refused("wrong_shape", path="bias"):
        Adam().init({"weight": torch.ones(3, 4), "bias": torch.ones(4)})


def print_timings(models: int = 64) -> None:
    """Time of a step, in ms on one core: `python tests/learners/test_adam.py`."""
    torch.set_num_threads(1)
    layers = [(16, 64), (64, 64), (64, 4)]
    shapes = [shape for i, o in layers for shape in ((models, i, o), (models, 1, o))]
    grads = [torch.randn(shape) for shape in shapes]

    def best(step, repeats: int = 200) -> float:
        times = []
        for _ in range(repeats):
            start = time.process_time()
            step()
            times.append(time.process_time() - start)
        return min(times) * 1e3

    def torch_step(clip: bool, **kind: bool) -> float:
        values = [torch.randn(shape, requires_grad=True) for shape in shapes]
        optimizer = torch.optim.AdamW(values, lr=1e-3, weight_decay=0.0, **kind)

        def step() -> None:
            for value, grad in zip(values, grads, strict=True):
                value.grad = grad
            if clip:
                torch.nn.utils.clip_grad_norm_(values, 1e9)
            optimizer.step()

        return best(step)

    def stacked_step(adam: Adam) -> float:
        values = {str(index): torch.randn(shape) for index, shape in enumerate(shapes)}
        state, named = adam.init(values), dict(zip(values, grads, strict=True))
        return best(lambda: adam.step(values, named, state))

    def separate_steps() -> float:
        nets = [[torch.randn(shape[1:], requires_grad=True) for shape in shapes] for _ in rates]
        optimizers = [torch.optim.AdamW(net, lr=1e-3, fused=True) for net in nets]

        def step() -> None:
            for model, (net, optimizer) in enumerate(zip(nets, optimizers, strict=True)):
                for value, grad in zip(net, grads, strict=True):
                    value.grad = grad[model]
                torch.nn.utils.clip_grad_norm_(net, 1e9)
                optimizer.step()

        return best(step, 20)

    rates = torch.full((models,), 1e-3)
    for name, milliseconds in {
        "torch fused": torch_step(False, fused=True),
        "torch foreach": torch_step(False, foreach=True),
        "torch fused, clipped": torch_step(True, fused=True),
        "torch foreach, clipped": torch_step(True, foreach=True),
        "torch fused, clipped, separate": separate_steps(),
        "stacked": stacked_step(Adam(1e-3)),
        "stacked, clipped": stacked_step(Adam(1e-3, max_grad_norm=1e9)),
        "stacked, clipped, rates by model": stacked_step(Adam(rates, max_grad_norm=1e9)),
    }.items():
        print(f"{name:35} {milliseconds:6.3f}")


if __name__ == "__main__":
    print_timings()
