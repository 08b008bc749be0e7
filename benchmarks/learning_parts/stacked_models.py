"""Updates of many models of one architecture: stacked, a loop over modules, `torch.func.vmap`.

A step is forward, backward, gradient clipping per model, and Adam; the loss is -mean A log π. The
stacked variant is what every recipe uses, `mores.agents.learning.update.run_epochs`. `times_loop`
is the time of the faster loop over modules, which for one model is plain PyTorch, over that of the
stack. All variants start with the same parameters and are compared after some steps before
anything is timed.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmarks.learning_parts.machine import seconds
from mores.agents.learning.adam import Adam
from mores.agents.learning.batch import FeedbackBatch
from mores.agents.learning.gradients import clip_by_norm
from mores.agents.learning.losses import policy_gradient_loss
from mores.agents.learning.networks import MLP
from mores.agents.learning.objective import LossTerm, Objective
from mores.agents.learning.stacked_model import StackedModel
from mores.agents.learning.train_state import OptimizerConfig, TrainState
from mores.agents.learning.update import UpdateBatch, run_epochs
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete

INPUTS, HIDDEN, OPTIONS = 16, 64, 4
LAYERS = {"policy.0": 0, "policy.1": 2, "act.act": 4}  # index in the torch.nn.Sequential
LEARNING_RATE, MAX_GRAD_NORM = 1e-3, 0.5
CHECKED_STEPS = 5
TOLERANCE = 1e-4  # of log-probabilities after these steps
TIMING_SECONDS = 0.1  # of one timing, roughly


class Data(NamedTuple):
    """Training data, the same at every step."""

    observation: Float[Tensor, "model sample input"]
    action: Int[Tensor, "model sample"]
    advantage: Float[Tensor, "model sample"]


class Variant(NamedTuple):
    """A way to train many models.

    Attributes:
        forward: their outputs, `[model, sample, option]`, without gradients.
        step: one training step.
    """

    forward: Callable[[], Tensor]
    step: Callable[[], object]


def make_model() -> StackedModel:
    """Architecture of the models."""
    return StackedModel(MLP(hidden_sizes=[HIDDEN, HIDDEN]), INPUTS, {"act": Discrete(OPTIONS)})


def stacked(initial: dict[str, Tensor], data: Data) -> Variant:
    """All models in one tensor program: the implementation of this library."""
    model, num_models = make_model(), len(data.observation)
    train_state = TrainState.create(
        {name: tensor.clone() for name, tensor in initial.items()}, uses_reference_model=False
    )
    samples = FeedbackBatch(
        data.observation[:, :, None],
        data.action[:, :, None],
        torch.ones_like(data.action[:, :, None], dtype=torch.bool),
        advantage=data.advantage[:, :, None],
    )
    loss_term = LossTerm(policy_gradient_loss, 1.0, {"clip_mode": "none"})
    update_batch = UpdateBatch({"act": samples}, Objective((loss_term,)))
    streams = RandomStreams.of(0, num_models, device=data.observation.device)
    optimizer = OptimizerConfig(Adam(LEARNING_RATE, max_grad_norm=MAX_GRAD_NORM))
    space, empty = Box.of(x=INPUTS), data.observation[..., :0]

    def forward() -> Tensor:
        with torch.no_grad():
            return model.forward_step(train_state.parameters, "act", data.observation, empty)[0]

    def step() -> Tensor:
        args = (train_state, model, space, update_batch, streams, 1, optimizer)
        return run_epochs(*args, round_number=0, epochs=1, num_minibatches=1)["loss"]

    return Variant(forward, step)


def module(initial: dict[str, Tensor], index: int) -> torch.nn.Sequential:
    """Model `index` of the stack as a `torch.nn` module."""
    layers = torch.nn.Sequential(
        torch.nn.Linear(INPUTS, HIDDEN),
        torch.nn.Tanh(),
        torch.nn.Linear(HIDDEN, HIDDEN),
        torch.nn.Tanh(),
        torch.nn.Linear(HIDDEN, OPTIONS),
    ).to(initial["act.act.bias"].device)
    with torch.no_grad():
        for name, layer in LAYERS.items():
            weight = initial[f"{name}.weight"][index].T
            layers[layer].weight.copy_(weight)  # type: ignore[union-attr]
            layers[layer].bias.copy_(initial[f"{name}.bias"][index, 0])  # type: ignore[union-attr]
    return layers


def loss(logits: Tensor, action: Tensor, advantage: Tensor) -> Tensor:
    """-mean A log π of one model."""
    log_prob = logits.log_softmax(-1).gather(-1, action[:, None])[:, 0]
    return -(log_prob * advantage).mean()


def looped(initial: dict[str, Tensor], data: Data, fused: bool) -> Variant:
    """A module and an optimizer for each model, one after another."""
    modules = [module(initial, index) for index in range(len(data.observation))]
    kwargs: dict[str, Any] = {"fused": True} if fused else {}
    optimizers = [torch.optim.Adam(m.parameters(), lr=LEARNING_RATE, **kwargs) for m in modules]

    def forward() -> Tensor:
        with torch.no_grad():
            return torch.stack([m(x) for m, x in zip(modules, data.observation, strict=True)])

    def step() -> None:
        for model, optimizer, *batch in zip(modules, optimizers, *data, strict=True):
            optimizer.zero_grad()
            loss(model(batch[0]), batch[1], batch[2]).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
            optimizer.step()

    return Variant(forward, step)


def vectorized(initial: dict[str, Tensor], data: Data) -> Variant:
    """One module over stacked parameters by `torch.func.vmap`, and one optimizer for all."""
    modules = [module(initial, index) for index in range(len(data.observation))]
    parameters, _ = torch.func.stack_module_state(modules)
    skeleton = modules[0].to("meta")
    optimizer = torch.optim.Adam(parameters.values(), lr=LEARNING_RATE, fused=True)

    def model_logits(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(skeleton, weights, (x,))

    def model_loss(weights: dict[str, Tensor], x: Tensor, action: Tensor, adv: Tensor) -> Tensor:
        return loss(model_logits(weights, x), action, adv)

    gradients = torch.func.vmap(torch.func.grad(model_loss))
    logits = torch.func.vmap(model_logits)

    def forward() -> Tensor:
        with torch.no_grad():
            return logits(parameters, data.observation)

    def step() -> None:
        clipped = clip_by_norm(gradients(parameters, *data), MAX_GRAD_NORM).gradients
        for name, tensor in parameters.items():
            tensor.grad = clipped[name]
        optimizer.step()

    return Variant(forward, step)


VARIANTS: dict[str, Callable[[dict[str, Tensor], Data], Variant]] = {
    "stack": stacked,
    "loop, fused": functools.partial(looped, fused=True),
    "loop": functools.partial(looped, fused=False),
    "vmap": vectorized,
}


def max_difference(initial: dict[str, Tensor], data: Data) -> float:
    """Maximum difference of log-probabilities between the variants after some steps.

    Raises:
        AssertionError: a difference above the tolerance, or a variant that did not train.
    """
    log_probs = {}
    for name, make in VARIANTS.items():
        variant = make(initial, data)
        before = variant.forward().log_softmax(-1)
        for _ in range(CHECKED_STEPS):
            variant.step()
        log_probs[name] = variant.forward().log_softmax(-1)
        change = float((log_probs[name] - before).abs().max())
        assert change > 10 * TOLERANCE, f"{name} did not train: change {change}"
    difference = max(float((x - log_probs["stack"]).abs().max()) for x in log_probs.values())
    assert difference < TOLERANCE, f"the variants differ by {difference}"
    return difference


def row(num_models: int, batch: int, device: str, repeats: int) -> dict[str, Any]:
    """Milliseconds of each variant, and the speed-up of the stack."""
    generator = torch.Generator().manual_seed(num_models + batch)
    data = Data(
        torch.randn(num_models, batch, INPUTS, generator=generator).to(device),
        torch.randint(OPTIONS, (num_models, batch), generator=generator).to(device),
        torch.randn(num_models, batch, generator=generator).to(device),
    )
    initial = make_model().init_parameters(RandomStreams.of(0, num_models, device=device), 1)
    result: dict[str, Any] = {"policies": num_models, "batch": batch}
    result["apart"] = max_difference(initial, data)
    variants = {name: make(initial, data) for name, make in VARIANTS.items()}
    for part in ("forward", "step"):
        calls = {name: getattr(variant, part) for name, variant in variants.items()}
        times = _times(calls, device, repeats)
        loop = [min(pair) for pair in zip(times["loop"], times["loop, fused"], strict=True)]
        result[part] = {
            "ms": {name: round(statistics.median(t) * 1e3, 3) for name, t in times.items()},
            "times_loop": _ratio(loop, times["stack"]),
            "times_vmap": _ratio(times["vmap"], times["stack"]),
        }
    return result


def _times(
    calls: dict[str, Callable[[], object]], device: str, repeats: int
) -> dict[str, list[float]]:
    """Seconds of a call of each variant, in turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    counts = {}
    for name, call in calls.items():
        call()
        counts[name] = max(1, min(200, int(TIMING_SECONDS / max(seconds(call, 1, device), 1e-6))))
    for _ in range(repeats):
        for name, call in calls.items():
            times[name].append(seconds(call, counts[name], device))
    return times


def _ratio(slow: list[float], fast: list[float]) -> float:
    """Median ratio over the repeats."""
    return round(statistics.median(a / b for a, b in zip(slow, fast, strict=True)), 2)
