"""Training on an accelerator: equal to training on the CPU up to rounding."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import mores
from mores.core.random_streams import RandomStreams, Worlds
from mores.registry import make_environment, make_policy
from mores.sim.episode_recorder import EpisodeRecorder
from mores.sim.simulator import Simulator
from tests.learners.small_environments import stop_reasons

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator"),
]

PPO = {"parameter_sharing": "agent", "num_steps": 8, "gamma": 0.96}
GRU = {"kind": "gru", "hidden_size": 16}
ONLINE = {
    "ppo": ("matrix_game", "player", PPO),
    "reinforce": ("matrix_game", "player", {"parameter_sharing": "agent"}),
    "grpo": ("token_feedback", "assistant", {"kl_coef": 0.1}),
    "grao": ("token_feedback", "assistant", {}),
    "rloo": ("token_feedback", "assistant", {"network": GRU}),
    "online_dpo": ("token_feedback", "assistant", {"network": {"kind": "transformer"}}),
}
OFFLINE = ("sft", "dpo", "ipo", "simpo", "cpo", "kto", "cut", "dckd", "adpa")


def train_online(kind: str, device: str) -> dict[str, torch.Tensor]:
    environment, role, parameters = ONLINE[kind]
    policies = {role: {"kind": kind, **parameters}}
    options: dict[str, Any] = {"episodes": 2, "rounds": 8, "replicates": 3, "worlds": 2}
    result = mores.train(environment, policies, device=device, **options)
    assert not result.diagnostics
    return result.state_dict(role)


@pytest.mark.parametrize("kind", ONLINE)
def test_online_training_equals_that_on_the_cpu(kind: str) -> None:
    cpu, cuda = train_online(kind, "cpu"), train_online(kind, "cuda")
    for name, tensor in cpu.items():
        assert cuda[name].is_cuda
        torch.testing.assert_close(cuda[name].cpu(), tensor, rtol=5e-3, atol=5e-3)


def train_offline(kind: str, device: str) -> dict[str, torch.Tensor]:
    fields: dict[str, Any] = {"teacher_epochs": 2} if kind in ("dckd", "adpa") else {}
    policy, environment = make_policy(kind, **fields), make_environment("token_feedback")
    recorder, worlds = EpisodeRecorder(["assistant"]), Worlds.grid(2, 2)
    simulator = Simulator(
        environment,
        {"assistant": policy},
        worlds=worlds,
        rounds=6,
        roles_to_train=(),
        recorder=recorder,
        device=device,
    )
    simulator.reset(0)
    while not simulator.all_finished:
        simulator.step()
    streams = RandomStreams.of(0, worlds, stage=1, device=device)
    dataset = recorder.dataset("assistant")
    state = policy.fit_offline(simulator.policy_states["assistant"], dataset, streams)
    assert not stop_reasons(policy, state)
    return dict(policy.state_dict(state))


@pytest.mark.parametrize("kind", OFFLINE)
def test_offline_training_equals_that_on_the_cpu(kind: str) -> None:
    cpu, cuda = train_offline(kind, "cpu"), train_offline(kind, "cuda")
    for name, tensor in cpu.items():
        torch.testing.assert_close(cuda[name].cpu(), tensor, rtol=5e-3, atol=5e-3)
