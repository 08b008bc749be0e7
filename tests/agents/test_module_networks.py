"""Any `torch.nn.Module` as a network: its outputs, its initial parameters, what is refused.

`test_networks.py` compares sequences with single steps, and acting with training.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mores.agents.learning.networks.module_network import ModuleNetwork, as_network
from mores.core.random_streams import RandomStreams, Worlds
from mores.envs.strategic.matrix_game import MatrixGame
from mores.registry import REGISTRIES, make_policy, to_spec
from mores.sim.simulator import Simulator
from tests.agents.user_networks import LSTM, Attention, GatedCell, followed_by
from tests.refusals import refused

INPUTS = 5


def network_of(module_class: type[nn.Module], **parameters: Any) -> ModuleNetwork:
    return as_network("mine", module_class)(**parameters)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRIES["network"], "my_cell", GatedCell)


@pytest.mark.parametrize("module_class", [GatedCell, LSTM, Attention])
@pytest.mark.parametrize("models", [1, 3])
def test_a_stack_equals_the_modules(module_class: type[nn.Module], models: int) -> None:
    network = network_of(module_class)
    streams = RandomStreams.of(0, models)
    parameters = network.init_other_parameters("policy", INPUTS, streams, 1)
    generator = torch.Generator().manual_seed(1)
    length = network.recurrent_state_size(INPUTS)
    observation = torch.randn(models, 2, INPUTS, generator=generator)
    state = torch.randn(models, 2, length, generator=generator)
    features, after = network.forward_step(parameters, "policy", observation, state)
    assert features.shape == (models, 2, network.features_dim(INPUTS))
    for model in range(models):
        module = module_class(input_size=INPUTS)
        named = {name.removeprefix("policy."): tensor[model] for name, tensor in parameters.items()}
        module.load_state_dict(named, strict=False)
        inputs = (observation[model], state[model]) if length else (observation[model],)
        expected = module(*inputs)
        torch.testing.assert_close(features[model], expected[0] if length else expected)
        torch.testing.assert_close(after[model], expected[1] if length else state[model])


@pytest.mark.parametrize("module_class", [GatedCell, LSTM, Attention])
def test_initial_parameters_depend_on_their_streams_alone(module_class: type[nn.Module]) -> None:
    """Neither on other replicates nor on torch's generator, whose state does not change."""

    def initial(seed: int, replicates: list[int]) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        streams = RandomStreams.of(7, Worlds.grid(replicates, 1))
        parameters = network_of(module_class).init_other_parameters("policy", INPUTS, streams, 2)
        assert torch.equal(torch.get_rng_state(), before)
        return dict(parameters)

    alone, together = initial(0, [3]), initial(1, [0, 1, 2, 3, 4])
    for name, tensor in alone.items():
        assert torch.equal(tensor, together[name][6:8]), name
    weights = [tensor for tensor in together.values() if tensor.std(0).max() > 0]
    assert weights and all(len(tensor.flatten(1).unique(dim=0)) == 10 for tensor in weights)


def test_it_trains_with_parameters_of_a_file(registered: None) -> None:
    spec = {"kind": "my_cell", "hidden": 4, "layers": 2}
    policy = make_policy("ppo", network=spec, num_steps=8, num_minibatches=1)
    assert to_spec("policy", policy)["network"] == spec
    environment = MatrixGame()

    def trained(replicates: list[int]) -> dict[str, torch.Tensor]:
        policies = {**environment.default_policies(), "player": policy}
        simulator = Simulator(environment, policies, worlds=Worlds.grid(replicates, 2), rounds=8)
        simulator.reset(1)
        for _ in range(2):
            while not simulator.all_finished:
                simulator.step()
            simulator.next_episode()
        return dict(policy.state_dict(simulator.policy_states["player"]))

    alone, together = trained([1]), trained([0, 1])
    assert together["num_updates"].tolist() == [8, 8]
    assert together["policy.new.1.weight"].shape == (2, 4, 9)
    for name, tensor in alone.items():
        torch.testing.assert_close(tensor, together[name][1:], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("network", "code", "path"),
    [
        ({"kind": "my_cell", "hiden": 4}, "unknown_name", "ppo.network.hiden"),
        ({"kind": "my_cell", "hidden": "wide"}, "wrong_type", "ppo.network.hidden"),
    ],
)
def test_wrong_parameters(registered: None, network: dict[str, Any], code: str, path: str) -> None:
    with refused(code, path):
        make_policy("ppo", network=network)


class NoInputSize(nn.Module):
    def __init__(self, hidden: int = 3) -> None:
        super().__init__()


class Unnamed(nn.Module):
    def __init__(self, input_size: int, *sizes: int) -> None:
        super().__init__()


@pytest.mark.parametrize("module_class", [NoInputSize, Unnamed])
def test_constructors_that_are_refused(module_class: type[nn.Module]) -> None:
    with refused("wrong_type", "mine"):
        as_network("mine", module_class)


class NumpyNoise(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + float(np.random.normal())


class NumpyWeight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(np.random.normal(size=6), dtype=torch.float32))


class RandomBuffer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("features", torch.randn(6))


class Counter(nn.Module):
    calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x + self.calls


class Frozen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(6), requires_grad=False)


@pytest.mark.parametrize(
    ("layer", "code"),
    [
        (lambda: nn.Dropout(0.1), "unsupported"),  # draws random numbers
        (NumpyNoise, "unsupported"),
        (NumpyWeight, "unsupported"),  # drawn outside of torch's generator
        (RandomBuffer, "unsupported"),
        (Frozen, "unsupported"),
        (Counter, "unsupported"),  # a hidden state
        (lambda: nn.BatchNorm1d(6), "unsupported"),  # changes its buffers
        (lambda: nn.BatchNorm1d(6, track_running_stats=False), "unsupported"),  # mixes samples
        (lambda: nn.Unflatten(1, (2, 3)), "wrong_shape"),
        (lambda: nn.Linear(7, 2), "failed"),  # raises an exception
    ],
)
def test_modules_that_are_refused(layer: Any, code: str) -> None:
    with refused(code, "network"):
        network_of(followed_by(layer)).features_dim(INPUTS)
