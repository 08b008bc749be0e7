"""Checks of a module before it is stacked, by running it on a few observations.

Refused is a module that has another output than its inputs and parameters determine: one that draws
random numbers (dropout), changes its buffers (batch normalization), or mixes the samples of a
batch. Also one whose features have a wrong shape, that keeps parameters where
`torch.func.functional_call` cannot replace them, or whose construction is not determined by the
seed of torch's generator.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import random
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mores.core.errors import UserError

SAMPLES = 3
TOLERANCE = 1e-4  # relative and absolute, of a sample alone against the same in a batch


@dataclasses.dataclass(frozen=True)
class CheckedModule:
    """A module that passed the checks.

    Attributes:
        module: the module on the CPU; its parameters have no meaning.
        features_dim: number of features.
        recurrent_state_size: length of the recurrent state, 0 without memory.
        vectorized: whether `torch.func.vmap` runs it for several models at once.
    """

    module: torch.nn.Module
    features_dim: int
    recurrent_state_size: int
    vectorized: bool

    @functools.cached_property
    def parameter_names(self) -> list[str]:
        """Names of the parameters."""
        return [name for name, _ in self.module.named_parameters()]

    @functools.lru_cache(maxsize=8)  # noqa: B019  (a few modules, for the life of the process)
    def on(self, device: torch.device) -> torch.nn.Module:
        """The module on a device."""
        return self.module if device.type == "cpu" else copy.deepcopy(self.module).to(device)


def check_module(
    name: str, construct: Callable[[int], torch.nn.Module], input_size: int
) -> CheckedModule:
    """Construct a module and check it.

    Args:
        name: name of its class, for messages.
        construct: makes a module from a seed of torch's generator.
        input_size: length of an observation.

    Raises:
        UserError: the module cannot be a network; the message names the reason.
    """
    module, other = _constructed(name, construct)
    length = getattr(module, "recurrent_state_size", 0)
    if not isinstance(length, int) or length < 0:
        _refuse(module, f"recurrent_state_size must be a whole number, not {length!r}")
    # Numbers of both signs without symmetry.
    observation = torch.arange(SAMPLES * input_size).mul(0.7).sin().view(SAMPLES, input_size)
    state = torch.arange(SAMPLES * length).mul(0.3).cos().view(SAMPLES, length)
    inputs = (observation, state) if length else (observation,)
    width = _check_forward(module, inputs)
    _check_weights(module, other, inputs)
    return CheckedModule(module, width, length, _is_vectorized(module, inputs))


def _constructed(
    name: str,
    construct: Callable[[int], torch.nn.Module],
) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Modules of two seeds, after a check that seeds of torch's generator determine them."""
    module, again, other = (_guarded(name, construct, seed) for seed in (0, 0, 1))
    for part, tensor in module.state_dict().items():
        if not torch.equal(tensor, again.state_dict()[part]):
            _refuse(
                module, f"{part} is drawn from another source than torch's generator", "unsupported"
            )
    for part, buffer in other.named_buffers():
        if not torch.equal(buffer, module.get_buffer(part)):
            _refuse(module, f"the buffer {part} is random; make it a parameter")
    for part, parameter in module.named_parameters():
        if not parameter.requires_grad or parameter.dtype != torch.float32:
            _refuse(
                module,
                f"the parameter {part} is {parameter.dtype}, requires_grad="
                f"{parameter.requires_grad}; parameters must be float32 and trained, constants "
                "buffers",
            )
    return module, other


def _check_forward(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """Number of features, after checks of two runs of one model."""
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    before = _generator_states()
    outputs = _guarded(module, module, *inputs)
    if _generator_states() != before:
        _refuse(
            module,
            "draws random numbers in forward, as dropout does, from a generator that all models "
            "and worlds share",
        )
    for name, buffer in module.named_buffers():
        if not torch.equal(buffer, buffers[name]):
            _refuse(
                module,
                f"the buffer {name} changes in forward, as in batch normalization",
            )
    first = _outputs(module, inputs, outputs)
    again = _outputs(module, inputs, _guarded(module, module, *inputs))
    fewer = tuple(x[:-1] for x in inputs)
    part = _outputs(module, fewer, _guarded(module, module, *fewer))
    for x, y, z in zip(first, again, part, strict=True):
        if not torch.equal(x, y):
            _refuse(module, "two calls with the same inputs differ")
        if not torch.allclose(x[:-1], z, rtol=TOLERANCE, atol=TOLERANCE):
            _refuse(module, "the features of a sample depend on other samples of the batch")
    return first[0].shape[-1]


def _outputs(
    module: torch.nn.Module, inputs: tuple[Tensor, ...], outputs: Any
) -> list[Float[Tensor, "sample size"]]:
    """Features, and the next recurrent state if the network has memory."""
    tensors: list[Any] = list(outputs) if isinstance(outputs, tuple) else [outputs]
    samples, state_shapes = len(inputs[0]), [list(x.shape) for x in inputs[1:]]
    wanted = f"features [{samples}, width]"
    wanted += "".join(f" and recurrent state {shape}" for shape in state_shapes)
    fits = all(
        isinstance(x, Tensor) and x.dtype == torch.float32 and x.dim() == 2 and len(x) == samples
        for x in tensors
    )
    if not fits or not tensors or [list(x.shape) for x in tensors[1:]] != state_shapes:
        found = [
            f"{x.dtype} {list(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            for x in tensors
        ]
        _refuse(
            module,
            f"forward must return {wanted}, float32, not {', '.join(found)}",
            "wrong_shape",
        )
    return tensors


def _check_weights(
    module: torch.nn.Module, other: torch.nn.Module, inputs: tuple[Tensor, ...]
) -> None:
    """Check that the module with the parameters of another one equals the other one."""
    weights = dict(other.named_parameters())
    outputs = _guarded(module, torch.func.functional_call, module, weights, inputs)
    pairs = zip(
        _outputs(module, inputs, outputs),
        _outputs(other, inputs, _guarded(other, other, *inputs)),
        strict=True,
    )
    if not all(torch.allclose(x, y, rtol=TOLERANCE, atol=TOLERANCE) for x, y in pairs):
        _refuse(module, "torch.func.functional_call does not replace all of its parameters")


def _is_vectorized(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> bool:
    """Whether `vmap` runs two models."""
    weights = {name: torch.stack([p.detach()] * 2) for name, p in module.named_parameters()}
    stacked = [torch.stack([x] * 2) for x in inputs]

    def forward(weights: dict[str, Tensor], *inputs: Tensor) -> Any:
        return torch.func.functional_call(module, weights, inputs)

    try:
        torch.func.vmap(forward, randomness="error")(weights, *stacked)
    except Exception:  # many kinds, of operations and of control flow that vmap does not support
        return False
    return True


def _guarded(module: str | torch.nn.Module, function: Callable[..., Any], *arguments: Any) -> Any:
    """Result of a user's function without gradients.

    Raises:
        UserError: the function raised an exception.
    """
    try:
        with torch.no_grad():
            return function(*arguments)
    except Exception as error:
        _refuse(module, f"{type(error).__name__}: {error}", "failed")


def _generator_states() -> tuple[Any, ...]:
    """States of the generators that code uses without passing one."""
    kind, keys, position, *rest = np.random.get_state()
    numpy_state = (kind, np.asarray(keys).tobytes(), position, *rest)
    return torch.get_rng_state().numpy().tobytes(), numpy_state, random.getstate()


def _refuse(module: str | torch.nn.Module, reason: str, code: str = "unsupported") -> NoReturn:
    name = module if isinstance(module, str) else type(module).__name__
    text = " ".join(reason.split())
    raise UserError(f"network {name}: {text:.400}", code=code, path="network")
