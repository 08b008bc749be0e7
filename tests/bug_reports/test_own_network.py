"""A learner trains the user's own network, and no other one in its place.

Report about a peer: a custom features extractor is constructed and its `forward` is never called,
https://github.com/DLR-RM/stable-baselines3/issues/1501
"""

from __future__ import annotations

import pytest
import torch

import mores
from mores.registry import REGISTRIES

WIDTH = 7  # no layer of mores has this width


class OwnNetwork(torch.nn.Module):
    """Counts the calls of `forward`."""

    calls = 0

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.own_layer = torch.nn.Linear(input_size, WIDTH)

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        OwnNetwork.calls += 1
        return torch.tanh(self.own_layer(observation))


def test_own_network_acts_and_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its `forward` runs every round, and its parameters change with every update."""
    monkeypatch.setitem(REGISTRIES["network"], "own", OwnNetwork)
    monkeypatch.setattr(OwnNetwork, "calls", 0)
    network = {"kind": "own"}
    policy = {"kind": "ppo", "network": network, "num_steps": 4, "num_minibatches": 1}
    result = mores.train("matrix_game", {"player": policy}, episodes=1, rounds=4, seed=0)
    assert OwnNetwork.calls >= 4
    before = parameters(result)
    after = parameters(result.train(1))
    assert set(before) == {f"{name}.own_layer.weight" for name in ("policy", "critic")}
    assert all(weight.shape[-2] == WIDTH for weight in before.values())
    assert not any(torch.equal(before[name], after[name]) for name in before)


def parameters(result: TrainingResult) -> dict[str, torch.Tensor]:
    """Weights of the own layer in the networks of the policy and of its critic."""
    state_dict = result.policies["player"].state_dict(result.policy_states["player"])
    return {name: x for name, x in state_dict.items() if name.endswith("own_layer.weight")}
