"""Weights after twenty updates of every recipe: stacked policies, from reward or from a record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from mores.agents.learning.recipes.sft import SFT
from mores.core.environment import Environment
from mores.core.episode_dataset import EpisodeDataset
from mores.core.policy import Policy
from mores.core.random_streams import RandomStreams, Worlds
from mores.envs.feedback.token_feedback import TokenFeedback
from mores.envs.strategic.matrix_game import MatrixGame
from mores.registry import make_policy
from mores.sim.episode_recorder import EpisodeRecorder
from mores.sim.simulator import Simulator
from tests.golden.entries import Entry, entry
from tests.learners.small_environments import unchecked

UPDATES = 20
NET = {"kind": "mlp", "hidden_sizes": [8]}
SMALL = TokenFeedback(
    num_completions=4, vocab_size=6, completion_length=3, num_prompt_features=3, rationality=50
)
RECORDED = TokenFeedback(
    num_completions=4,
    vocab_size=6,
    completion_length=3,
    num_prompt_features=3,
    rationality=50,
    review=True,
)
WORLDS = Worlds.grid(2, 2)

AS_THEY_ACT: dict[str, dict[str, Any]] = {
    "ppo": {"num_steps": 3, "num_minibatches": 1, "update_epochs": 1},
    "reinforce": {},
    "grpo": {},
    "rloo": {},
    "grao": {},
    "expert_iteration": {},
    "online_dpo": {},
}
FROM_A_RECORD: dict[str, dict[str, Any]] = {
    **{kind: {} for kind in ("sft", "dpo", "ipo", "simpo", "cpo", "kto", "cut")},
    "dckd": {"teacher_epochs": 2},
    "adpa": {"teacher_epochs": 2},
    "dpo/robust": {"estimate_reliability": True, "num_annotators": 2},
}
NETWORKS: dict[str, dict[str, Any]] = {
    "gru": {"kind": "gru", "hidden_size": 8},
    "transformer": {"kind": "transformer", "hidden_size": 8, "num_layers": 1, "num_heads": 2},
}


def entries() -> Iterator[tuple[str, Entry]]:
    """Every parameter of every recipe after twenty updates."""
    for name, tensor in tensors():
        yield f"recipe/{name}", entry(tensor)


@unchecked()
def tensors() -> Iterator[tuple[str, torch.Tensor]]:
    """The parameters, by recipe and name."""
    for kind, more in AS_THEY_ACT.items():
        player = make_policy(kind, network=NET, **more)
        yield from _named(kind, acted(SMALL, "assistant", player, 3))
    for kind, network in NETWORKS.items():
        options = {"num_steps": 8, "num_minibatches": 1, "update_epochs": 1}
        player = make_policy("ppo", network=network, **options)
        yield from _named(f"ppo/{kind}", acted(MatrixGame(), "player", player, 8))
    pairs = make_policy("ppo", network=NET, num_steps=8, parameter_sharing="agent")
    yield from _named("ppo/agents", acted(MatrixGame(), "player", pairs, 8))
    for kind, more in FROM_A_RECORD.items():
        player = make_policy(kind.split("/")[0], network=NET, **more)
        table, record = recorded(RECORDED, player)
        yield from _named(kind, fitted(table, record, UPDATES))
    yield from _named("restoring", restored())


def acted(game: Environment[Any], role: str, player: Policy, rounds: int) -> Simulator:
    """Play until twenty updates were made."""
    table = Simulator(game, {**game.default_policies(), role: player}, worlds=WORLDS, rounds=rounds)
    table.reset(1)
    while int(player.state_dict(table.policy_states[role])["num_updates"].min()) < UPDATES:
        if table.all_finished:
            table.next_episode()
        table.step()
    return table


def recorded(
    game: TokenFeedback, player: Policy, memory: Any = None, stage: int = 0
) -> tuple[Simulator, EpisodeDataset]:
    """Three episodes in which nobody learns, and their record."""
    diary = EpisodeRecorder(["assistant"])
    table = Simulator(
        game,
        {"assistant": player},
        worlds=WORLDS,
        rounds=game.completion_length,
        roles_to_train=[],
        recorder=diary,
        stage=stage,
    )
    table.reset(1, memory)
    for episode in range(3):
        if episode:
            table.next_episode()
        while not table.all_finished:
            table.step()
    return table, diary.dataset("assistant")


def fitted(table: Simulator, record: EpisodeDataset, passes: int) -> Simulator:
    """So many passes over a record."""
    player = table.policies["assistant"]
    draws = RandomStreams.of(1, table.worlds, stage=5)
    for number in range(passes):
        now = draws.at(number).child("fit")
        table.policy_states["assistant"] = player.fit_offline(
            table.policy_states["assistant"], record, now
        )
    return table


class Later(SFT):
    """Another recipe, which does the same: it goes on from what the first one learned."""


def restored() -> Simulator:
    """Imitate two records, one after the other, and give back what the second took."""
    first = SFT(network=NET, learning_rate=0.02)  # type: ignore[arg-type]
    table = fitted(*recorded(RECORDED, first), UPDATES)
    second = Later(network=NET, learning_rate=0.02)  # type: ignore[arg-type]
    other = RECORDED.model_copy(update={"task_seed": 1})
    table = fitted(*recorded(other, second, table.policy_states, stage=1), UPDATES)
    player = make_policy("alignment_recovery", network=NET, max_loss_increase=0.5, steps=5)
    return fitted(*recorded(other, player, table.policy_states, stage=2), 1)


def _named(kind: str, table: Simulator) -> Iterator[tuple[str, torch.Tensor]]:
    for role, memory in table.policy_states.items():
        learned = table.policies[role].state_dict(memory)
        if not learned:
            continue
        for name, tensor in learned.items():
            yield f"{kind}/{role}/{name}", tensor
