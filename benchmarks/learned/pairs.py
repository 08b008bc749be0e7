"""A whole training: pairs of PPO learners in the repeated prisoner's dilemma, many pairs at once.

Each pair is a replicate with worlds of its own, and two policies that learn against each other. The
same training of a single pair says what it would take to train one pair after another.
"""

from __future__ import annotations

import statistics
from typing import Any

import torch

from benchmarks.learned.machine import Clock
from mores.core.random_streams import Worlds
from mores.envs.strategic.matrix_game import MatrixGame
from mores.registry import make_policy
from mores.sim.simulator import Simulator

WORLDS = 8  # of a pair
ROUNDS = 64  # of an episode
SETTINGS = {
    "network": {"kind": "mlp", "hidden": [64, 64]},
    "share": "agent",
    "horizon": 32,
    "epochs": 4,
    "minibatches": 4,
    "learning_rate": 0.003,
}
UPDATES = 3  # in a turn


class Training:
    """Pairs that learn."""

    def __init__(self, pairs: int, device: str) -> None:
        self.pairs, self.device = pairs, device
        self.player = make_policy("ppo", **SETTINGS)
        self.table = Simulator(
            MatrixGame(),
            {"player": self.player},
            worlds=Worlds.grid(pairs, WORLDS),
            rounds=ROUNDS,
            autoreset=True,
            device=device,
        )
        self.table.reset(0)
        self.turn()  # not timed

    def turn(self) -> float:
        """Seconds of some updates and the rounds before them."""
        clock = Clock(self.device)
        clock.start()
        for _ in range(UPDATES * SETTINGS["horizon"]):  # type: ignore[operator]
            self.table.step()
        clock.stop()
        return clock.seconds

    @property
    def steps(self) -> int:
        """Rounds of worlds in a turn."""
        return UPDATES * SETTINGS["horizon"] * self.pairs * WORLDS  # type: ignore[operator]


def measured(pairs: int, device: str, repeats: int) -> dict[str, Any]:
    """Steps a second of all pairs, of one pair, and how many times faster all at once are."""
    together, alone = Training(pairs, device), Training(1, device)
    times = [(together.turn(), alone.turn()) for _ in range(repeats)]
    memory = together.table.policy_states["player"]
    stopped = int((~memory.learned.train_state.active).sum())
    assert not stopped, f"{stopped} learners met a number that is none"
    moved = [
        not torch.equal(now, before)
        for now, before in zip(
            memory.learned.train_state.parameters.values(),
            Training(pairs, device)
            .table.policy_states["player"]
            .learned.train_state.parameters.values(),
            strict=True,
        )
    ]
    assert all(moved), "nothing was learned"
    return {
        "pairs": pairs,
        "policies": memory.learned.mapping.num_models,
        "worlds": pairs * WORLDS,
        "steps_a_second": round(together.steps / statistics.median(t for t, _ in times)),
        "steps_a_second_of_one_pair": round(alone.steps / statistics.median(t for _, t in times)),
        "times_one_after_another": round(statistics.median(pairs * o / t for t, o in times), 1),
    }
