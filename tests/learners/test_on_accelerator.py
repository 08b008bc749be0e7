"""Learning on an accelerator: the same game, the same learners, the same numbers to rounding."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import mores
from mores.core.random_streams import RandomStreams, Worlds
from mores.registry import make_environment, make_policy
from mores.sim.episode_dataset import EpisodeRecorder
from mores.sim.simulator import Simulator

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator here"),
]

IMPROVING = {
    "ppo": ("matrix_game", "player", {"share": "agent", "horizon": 8, "discount": 0.96}),
    "reinforce": ("matrix_game", "player", {"share": "agent"}),
    "grpo": ("requests", "assistant", {"kl_weight": 0.1}),
    "grao": ("requests", "assistant", {}),
    "rloo": ("requests", "assistant", {"network": {"kind": "gru", "hidden": 16}}),
    "online_dpo": ("requests", "assistant", {"network": {"kind": "transformer"}}),
}
FITTING = ("sft", "dpo", "ipo", "simpo", "cpo", "kto", "cut", "dckd", "adpa")


def trained(kind: str, device: str) -> dict[str, torch.Tensor]:
    game, role, parameters = IMPROVING[kind]
    found = mores.train(
        game,
        {role: {"kind": kind, **parameters}},
        episodes=2,
        rounds=8,
        replicates=3,
        worlds=2,
        device=device,
    )
    assert not found.diagnostics
    return found.state_dict(role)


@pytest.mark.parametrize("kind", IMPROVING)
def test_learns_the_same_there(kind: str) -> None:
    here, there = trained(kind, "cpu"), trained(kind, "cuda")
    for name, tensor in here.items():
        assert there[name].is_cuda
        torch.testing.assert_close(there[name].cpu(), tensor, rtol=5e-3, atol=5e-3)


def fitted(kind: str, device: str) -> dict[str, torch.Tensor]:
    more: dict[str, Any] = {"teacher_passes": 2} if kind in ("dckd", "adpa") else {}
    player, game = make_policy(kind, **more), make_environment("requests")
    diary, worlds = EpisodeRecorder(["assistant"]), Worlds.grid(2, 2)
    table = Simulator(
        game,
        {"assistant": player},
        worlds=worlds,
        rounds=6,
        roles_to_train=(),
        recorder=diary,
        device=device,
    )
    table.reset(0)
    while not table.all_finished:
        table.step()
    draws = RandomStreams.of(0, worlds, stage=1, device=device)
    memory = player.fit_offline(table.policy_states["assistant"], diary.dataset("assistant"), draws)
    assert not player.stop_reasons(memory)
    return dict(player.state_dict(memory))


@pytest.mark.parametrize("kind", FITTING)
def test_fits_the_same_there(kind: str) -> None:
    here, there = fitted(kind, "cpu"), fitted(kind, "cuda")
    for name, tensor in here.items():
        torch.testing.assert_close(there[name].cpu(), tensor, rtol=5e-3, atol=5e-3)
