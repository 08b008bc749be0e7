"""Networks stacked by hand against the same networks as modules stacked by `torch.func`.

Forward over sequences of several steps, and backward. Both have the same sizes; `times_module` is
the time of the module over that of the network by hand, which is kept where the ratio is at least
1.15 for one model or for many. The transformer by hand sees a sequence at once; as a module it
takes one step at a time, since that is the protocol of modules.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.learning_parts.machine import seconds
from mores.agents.learning.networks import GRU, MLP, Network, Transformer
from mores.agents.learning.networks.layers import init_linear_parameters
from mores.agents.learning.networks.module_network import as_network
from mores.core.random_streams import RandomStreams

INPUTS, SAMPLES, STEPS, WIDTH = 16, 8, 8, 64
TIMING_SECONDS = 0.1  # of one timing, roughly


class ModuleMLP(nn.Module):
    """Two layers of tanh."""

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(input_size, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh()
        )

    def forward(self, observation: Tensor) -> Tensor:
        return self.layers(observation)


class ModuleGRU(nn.Module):
    """A gated recurrent unit of operations that `vmap` supports; `nn.GRUCell` is slower there."""

    recurrent_state_size = WIDTH

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.input_gates = nn.Linear(input_size, 3 * WIDTH)
        self.hidden_gates = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, observation: Tensor, recurrent_state: Tensor) -> tuple[Tensor, Tensor]:
        input_r, input_z, input_n = self.input_gates(observation).chunk(3, -1)
        hidden_r, hidden_z, hidden_n = self.hidden_gates(recurrent_state).chunk(3, -1)
        reset, update = torch.sigmoid(input_r + hidden_r), torch.sigmoid(input_z + hidden_z)
        new = torch.tanh(input_n + reset * hidden_n)
        state = (1 - update) * new + update * recurrent_state
        return state, state


class ModuleTransformer(nn.Module):
    """Blocks of torch over the observations of an episode, which the recurrent state holds."""

    recurrent_state_size = STEPS * (INPUTS + 1)

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.embed = nn.Linear(input_size, WIDTH)
        self.position = nn.Parameter(torch.zeros(STEPS, WIDTH))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                WIDTH, 2, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True
            )
            for _ in range(2)
        )
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, observation: Tensor, recurrent_state: Tensor) -> tuple[Tensor, Tensor]:
        one = torch.ones_like(observation[:, :1])
        row = torch.cat([observation, one], -1)[:, None]
        window = torch.cat([recurrent_state.unflatten(1, (STEPS, -1))[:, 1:], row], 1)
        x = self.embed(window[..., :-1]) + self.position
        for block in self.blocks:
            x = block(x, src_key_padding_mask=(1 - window[..., -1]) * -1e9)
        return self.norm(x[:, -1]), window.flatten(1)


PAIRS: dict[str, tuple[Network, type[nn.Module]]] = {
    "mlp": (MLP(hidden_sizes=[WIDTH, WIDTH]), ModuleMLP),
    "gru": (GRU(hidden_size=WIDTH), ModuleGRU),
    "transformer": (Transformer(hidden_size=WIDTH, context_length=STEPS), ModuleTransformer),
}


def row(kind: str, num_models: int, device: str, repeats: int) -> dict[str, Any]:
    """Milliseconds of both variants of a network, and their ratio."""
    by_hand, module_class = PAIRS[kind]
    variants = {"by hand": by_hand, "module": as_network(kind, module_class)()}
    calls = {name: _step(network, num_models, device) for name, network in variants.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    counts = {}
    for name, call in calls.items():
        call()
        counts[name] = max(1, int(TIMING_SECONDS / max(seconds(call, 1, device), 1e-6)))
    for _ in range(repeats):
        for name, call in calls.items():
            times[name].append(seconds(call, counts[name], device))
    pairs = zip(times["module"], times["by hand"], strict=True)
    return {
        "network": kind,
        "policies": num_models,
        "ms": {name: round(statistics.median(t) * 1e3, 3) for name, t in times.items()},
        "times_module": round(statistics.median(a / b for a, b in pairs), 2),
    }


def _step(network: Network, num_models: int, device: str) -> Callable[[], object]:
    """Forward and backward over sequences."""
    streams = RandomStreams.of(0, num_models, device=device)
    parameters = {
        **init_linear_parameters(network.layers("policy", INPUTS), streams, 1),
        **network.init_other_parameters("policy", INPUTS, streams, 1),
    }
    leaves = {name: tensor.requires_grad_() for name, tensor in parameters.items()}
    generator = torch.Generator().manual_seed(0)
    shape = (num_models, SAMPLES, STEPS, INPUTS)
    observation = torch.randn(shape, generator=generator).to(device)
    starts = torch.zeros(shape[:3], dtype=torch.bool, device=device)
    starts[:, :, 0] = True

    def step() -> object:
        features = network.forward_sequence(leaves, "policy", observation, starts, None)
        return torch.autograd.grad(features.square().sum(), list(leaves.values()))

    return step
