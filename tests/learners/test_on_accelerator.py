"""Learning on an accelerator: the same game, the same learners, the same numbers to rounding."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import mores
from mores.core.random_streams import Draws, Worlds
from mores.registry import make_game, make_player
from mores.sim.episode_dataset import Diary
from mores.sim.simulator import Table

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
    assert not found.troubles
    return found.learned(role)


@pytest.mark.parametrize("kind", IMPROVING)
def test_learns_the_same_there(kind: str) -> None:
    here, there = trained(kind, "cpu"), trained(kind, "cuda")
    for name, tensor in here.items():
        assert there[name].is_cuda
        torch.testing.assert_close(there[name].cpu(), tensor, rtol=5e-3, atol=5e-3)


def fitted(kind: str, device: str) -> dict[str, torch.Tensor]:
    more: dict[str, Any] = {"teacher_passes": 2} if kind in ("dckd", "adpa") else {}
    player, game = make_player(kind, **more), make_game("requests")
    diary, worlds = Diary(["assistant"]), Worlds.grid(2, 2)
    table = Table(
        game,
        {"assistant": player},
        worlds=worlds,
        rounds=6,
        learning=(),
        diary=diary,
        device=device,
    )
    table.reset(0)
    while not table.finished:
        table.step()
    draws = Draws.of(0, worlds, stage=1, device=device)
    memory = player.fit(table.memory["assistant"], diary.experience("assistant"), draws)
    assert not player.troubles(memory)
    return dict(player.learned(memory))


@pytest.mark.parametrize("kind", FITTING)
def test_fits_the_same_there(kind: str) -> None:
    here, there = fitted(kind, "cpu"), fitted(kind, "cuda")
    for name, tensor in here.items():
        torch.testing.assert_close(there[name].cpu(), tensor, rtol=5e-3, atol=5e-3)
