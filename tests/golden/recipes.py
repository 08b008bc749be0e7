"""Weights after twenty updates of every recipe: stacked policies, from reward or from a record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from mores.agents.learning.recipes.sft import SFT
from mores.core.environment import Game, Player
from mores.core.random_streams import Draws, Worlds
from mores.envs.feedback.token_feedback import Requests
from mores.envs.strategic.matrix_game import MatrixGame
from mores.registry import make_player
from mores.sim.episode_dataset import Diary, Experience
from mores.sim.simulator import Table
from tests.golden.entries import Entry, entry
from tests.learners.small_games import unchecked

UPDATES = 20
NET = {"kind": "mlp", "hidden": [8]}
SMALL = Requests(answers=4, words=6, length=3, features=3, rationality=50)
RECORDED = Requests(answers=4, words=6, length=3, features=3, rationality=50, review=True)
WORLDS = Worlds.grid(2, 2)

AS_THEY_ACT: dict[str, dict[str, Any]] = {
    "ppo": {"horizon": 3, "minibatches": 1, "epochs": 1},
    "reinforce": {},
    "grpo": {},
    "rloo": {},
    "grao": {},
    "expert_iteration": {},
    "online_dpo": {},
}
FROM_A_RECORD: dict[str, dict[str, Any]] = {
    **{kind: {} for kind in ("sft", "dpo", "ipo", "simpo", "cpo", "kto", "cut")},
    "dckd": {"teacher_passes": 2},
    "adpa": {"teacher_passes": 2},
    "dpo/robust": {"robust": True, "annotators": 2},
}
NETWORKS: dict[str, dict[str, Any]] = {
    "gru": {"kind": "gru", "hidden": 8},
    "transformer": {"kind": "transformer", "hidden": 8, "blocks": 1, "heads": 2},
}


def entries() -> Iterator[tuple[str, Entry]]:
    """Every parameter of every recipe after twenty updates."""
    for name, tensor in tensors():
        yield f"recipe/{name}", entry(tensor)


@unchecked()
def tensors() -> Iterator[tuple[str, torch.Tensor]]:
    """The parameters, by recipe and name."""
    for kind, more in AS_THEY_ACT.items():
        player = make_player(kind, network=NET, **more)
        yield from _named(kind, acted(SMALL, "assistant", player, 3))
    for kind, network in NETWORKS.items():
        player = make_player("ppo", network=network, horizon=8, minibatches=1, epochs=1)
        yield from _named(f"ppo/{kind}", acted(MatrixGame(), "player", player, 8))
    pairs = make_player("ppo", network=NET, horizon=8, share="agent")
    yield from _named("ppo/agents", acted(MatrixGame(), "player", pairs, 8))
    for kind, more in FROM_A_RECORD.items():
        player = make_player(kind.split("/")[0], network=NET, **more)
        table, record = recorded(RECORDED, player)
        yield from _named(kind, fitted(table, record, UPDATES))
    yield from _named("restoring", restored())


def acted(game: Game[Any], role: str, player: Player, rounds: int) -> Table:
    """Play until twenty updates were made."""
    table = Table(game, {**game.baseline(), role: player}, worlds=WORLDS, rounds=rounds)
    table.reset(1)
    while int(player.learned(table.memory[role])["updates"].min()) < UPDATES:
        if table.finished:
            table.next_episode()
        table.step()
    return table


def recorded(
    game: Requests, player: Player, memory: Any = None, stage: int = 0
) -> tuple[Table, Experience]:
    """Three episodes in which nobody learns, and their record."""
    diary = Diary(["assistant"])
    table = Table(
        game,
        {"assistant": player},
        worlds=WORLDS,
        rounds=game.length,
        learning=[],
        diary=diary,
        stage=stage,
    )
    table.reset(1, memory)
    for episode in range(3):
        if episode:
            table.next_episode()
        while not table.finished:
            table.step()
    return table, diary.experience("assistant")


def fitted(table: Table, record: Experience, passes: int) -> Table:
    """So many passes over a record."""
    player = table.players["assistant"]
    draws = Draws.of(1, table.worlds, stage=5)
    for number in range(passes):
        now = draws.at(number).within("fit")
        table.memory["assistant"] = player.fit(table.memory["assistant"], record, now)
    return table


class Later(SFT):
    """Another recipe, which does the same: it goes on from what the first one learned."""


def restored() -> Table:
    """Imitate two records, one after the other, and give back what the second took."""
    first = SFT(network=NET, learning_rate=0.02)  # type: ignore[arg-type]
    table = fitted(*recorded(RECORDED, first), UPDATES)
    second = Later(network=NET, learning_rate=0.02)  # type: ignore[arg-type]
    other = RECORDED.model_copy(update={"task": 1})
    table = fitted(*recorded(other, second, table.memory, stage=1), UPDATES)
    player = make_player("restoring", network=NET, allowed=0.5, steps=5)
    return fitted(*recorded(other, player, table.memory, stage=2), 1)


def _named(kind: str, table: Table) -> Iterator[tuple[str, torch.Tensor]]:
    for role, memory in table.memory.items():
        learned = table.players[role].learned(memory)
        if not learned:
            continue
        for name, tensor in learned.items():
            yield f"{kind}/{role}/{name}", tensor
