"""Many policies of one make: a stack, a loop over modules, one module vectorised by torch.func.

A step is forward, backward, a clip of each policy's gradient, and Adam; the loss is -mean A log π.
Ours is what every recipe goes through, `mores.agents.learning.update.run_epochs`. All three begin with
the same numbers, and must have come to the same after some steps before anything is timed.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmarks.learned.machine import seconds
from mores.agents.learning.adam import Adam
from mores.agents.learning.batch import FeedbackBatch
from mores.agents.learning.gradients import clip_by_norm
from mores.agents.learning.losses import policy_gradient_loss
from mores.agents.learning.networks import MLP
from mores.agents.learning.objective import LossTerm, Objective
from mores.agents.learning.stacked_model import StackedModel
from mores.agents.learning.train_state import OptimizerConfig, TrainState
from mores.agents.learning.update import UpdateBatch, run_epochs
from mores.core.environment import Box, Discrete
from mores.core.random_streams import RandomStreams

INPUTS, HIDDEN, OPTIONS = 16, 64, 4
PLACES = {"policy.0": 0, "policy.1": 2, "act.act": 4}  # of our layers in a torch.nn.Sequential
RATE, CLIP = 1e-3, 0.5
CHECKED = 5  # steps
CLOSE = 1e-4  # log-probabilities after them
TURN = 0.1  # seconds of a timing, roughly


class Data(NamedTuple):
    """What is learned from, the same at every step."""

    seen: Float[Tensor, "policy sample input"]
    acted: Int[Tensor, "policy sample"]
    advantage: Float[Tensor, "policy sample"]


class Side(NamedTuple):
    """A way to train many policies.

    Attributes:
        forward: their outputs, `[policy, sample, option]`, without gradients.
        step: one training step.
    """

    forward: Callable[[], Tensor]
    step: Callable[[], object]


def stack() -> StackedModel:
    """The make of the policies."""
    return StackedModel(MLP(hidden_sizes=[HIDDEN, HIDDEN]), INPUTS, {"act": Discrete(OPTIONS)})


def stacked(first: dict[str, Tensor], data: Data) -> Side:
    """All policies in one program: the way of this library."""
    make, policies = stack(), len(data.seen)
    pupil = TrainState.create(
        {name: tensor.clone() for name, tensor in first.items()}, uses_reference_model=False
    )
    samples = FeedbackBatch(
        data.seen[:, :, None],
        data.acted[:, :, None],
        torch.ones_like(data.acted[:, :, None], dtype=torch.bool),
        advantage=data.advantage[:, :, None],
    )
    lesson = UpdateBatch(
        {"act": samples}, Objective((LossTerm(policy_gradient_loss, 1.0, {"clip_mode": "none"}),))
    )
    draws, how = (
        RandomStreams.of(0, policies, device=data.seen.device),
        OptimizerConfig(Adam(RATE, max_grad_norm=CLIP)),
    )
    sees, nothing = Box.of(x=INPUTS), data.seen[..., :0]

    def forward() -> Tensor:
        with torch.no_grad():
            return make.forward_step(pupil.parameters, "act", data.seen, nothing)[0]

    def step() -> Tensor:
        return run_epochs(
            pupil, make, sees, lesson, draws, 1, how, round_number=0, epochs=1, num_minibatches=1
        )

    return Side(forward, step)


def module(first: dict[str, Tensor], policy: int) -> torch.nn.Sequential:
    """One policy of the stack as a module of torch."""
    layers = torch.nn.Sequential(
        torch.nn.Linear(INPUTS, HIDDEN),
        torch.nn.Tanh(),
        torch.nn.Linear(HIDDEN, HIDDEN),
        torch.nn.Tanh(),
        torch.nn.Linear(HIDDEN, OPTIONS),
    ).to(first["act.act.bias"].device)
    with torch.no_grad():
        for name, place in PLACES.items():
            weight = first[f"{name}.weight"][policy].T
            layers[place].weight.copy_(weight)  # type: ignore[union-attr]
            layers[place].bias.copy_(first[f"{name}.bias"][policy, 0])  # type: ignore[union-attr]
    return layers


def loss(logits: Tensor, acted: Tensor, advantage: Tensor) -> Tensor:
    """-mean A log π of one policy."""
    chosen = logits.log_softmax(-1).gather(-1, acted[:, None])[:, 0]
    return -(chosen * advantage).mean()


def looped(first: dict[str, Tensor], data: Data, fused: bool) -> Side:
    """A module and an optimiser for each policy, one after another."""
    modules = [module(first, policy) for policy in range(len(data.seen))]
    kind: dict[str, Any] = {"fused": True} if fused else {}
    optimisers = [torch.optim.Adam(one.parameters(), lr=RATE, **kind) for one in modules]

    def forward() -> Tensor:
        with torch.no_grad():
            return torch.stack([one(x) for one, x in zip(modules, data.seen, strict=True)])

    def step() -> None:
        for one, optimiser, *own in zip(modules, optimisers, *data, strict=True):
            optimiser.zero_grad()
            loss(one(own[0]), own[1], own[2]).backward()
            torch.nn.utils.clip_grad_norm_(one.parameters(), CLIP)
            optimiser.step()

    return Side(forward, step)


def vectorised(first: dict[str, Tensor], data: Data) -> Side:
    """One module over stacked parameters by `torch.func.vmap`, and one optimiser for all."""
    modules = [module(first, policy) for policy in range(len(data.seen))]
    parameters, _ = torch.func.stack_module_state(modules)
    bare = modules[0].to("meta")
    optimiser = torch.optim.Adam(parameters.values(), lr=RATE, fused=True)

    def say(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(bare, weights, (x,))

    def cost(weights: dict[str, Tensor], x: Tensor, acted: Tensor, advantage: Tensor) -> Tensor:
        return loss(say(weights, x), acted, advantage)

    slopes, said = torch.func.vmap(torch.func.grad(cost)), torch.func.vmap(say)

    def forward() -> Tensor:
        with torch.no_grad():
            return said(parameters, data.seen)

    def step() -> None:
        found = clip_by_norm(slopes(parameters, *data), CLIP).gradients
        for name, tensor in parameters.items():
            tensor.grad = found[name]
        optimiser.step()

    return Side(forward, step)


SIDES: dict[str, Callable[[dict[str, Tensor], Data], Side]] = {
    "stack": stacked,
    "loop, fused": functools.partial(looped, fused=True),
    "loop": functools.partial(looped, fused=False),
    "vmap": vectorised,
}


def checked(first: dict[str, Tensor], data: Data) -> float:
    """By how much log-probabilities differ between the sides after some steps, at most.

    Raises:
        AssertionError: by too much, or nothing was learned.
    """
    found = {}
    for name, make in SIDES.items():
        side = make(first, data)
        before = side.forward().log_softmax(-1)
        for _ in range(CHECKED):
            side.step()
        found[name] = side.forward().log_softmax(-1)
        moved = float((found[name] - before).abs().max())
        assert moved > 10 * CLOSE, f"{name} has not moved: {moved}"
    apart = max(float((said - found["stack"]).abs().max()) for said in found.values())
    assert apart < CLOSE, f"the sides differ by {apart}"
    return apart


def row(policies: int, batch: int, device: str, repeats: int) -> dict[str, Any]:
    """Milliseconds of each side, and by how much the stack is faster."""
    generator = torch.Generator().manual_seed(policies + batch)
    data = Data(
        torch.randn(policies, batch, INPUTS, generator=generator).to(device),
        torch.randint(OPTIONS, (policies, batch), generator=generator).to(device),
        torch.randn(policies, batch, generator=generator).to(device),
    )
    first = stack().init_parameters(RandomStreams.of(0, policies, device=device), 1)
    found: dict[str, Any] = {"policies": policies, "batch": batch, "apart": checked(first, data)}
    sides = {name: make(first, data) for name, make in SIDES.items()}
    for what in ("forward", "step"):
        times = _times({name: getattr(side, what) for name, side in sides.items()}, device, repeats)
        loop = [min(pair) for pair in zip(times["loop"], times["loop, fused"], strict=True)]
        found[what] = {
            "ms": {name: round(statistics.median(t) * 1e3, 3) for name, t in times.items()},
            "times_loop": _ratio(loop, times["stack"]),
            "times_vmap": _ratio(times["vmap"], times["stack"]),
        }
    return found


def _times(
    calls: dict[str, Callable[[], object]], device: str, repeats: int
) -> dict[str, list[float]]:
    """Seconds of a call of each, in turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    many = {}
    for name, call in calls.items():
        call()
        many[name] = max(1, min(200, int(TURN / max(seconds(call, 1, device), 1e-6))))
    for _ in range(repeats):
        for name, call in calls.items():
            times[name].append(seconds(call, many[name], device))
    return times


def _ratio(slow: list[float], fast: list[float]) -> float:
    """Median over turns."""
    return round(statistics.median(a / b for a, b in zip(slow, fast, strict=True)), 2)
