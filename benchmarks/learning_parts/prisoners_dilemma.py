"""A whole training: pairs of PPO agents in the repeated prisoner's dilemma, many pairs at once.

A pair is a replicate with its own worlds and two models that train against each other. The same
training of a single pair gives the time of training one pair after another.
"""

from __future__ import annotations

import statistics
from typing import Any

import torch

from benchmarks.learning_parts.machine import Clock
from mores.agents.learning.learner_state import PersistentState
from mores.core.random_streams import Worlds
from mores.envs.strategic.matrix_game import MatrixGame
from mores.registry import make_policy
from mores.sim.simulator import Simulator

WORLDS = 8  # per pair
ROUNDS = 64  # per episode
SETTINGS: dict[str, Any] = {
    "network": {"kind": "mlp", "hidden_sizes": [64, 64]},
    "parameter_sharing": "agent",
    "num_steps": 32,
    "update_epochs": 4,
    "num_minibatches": 4,
    "learning_rate": 0.003,
}
UPDATES = 3  # per timing


class Training:
    """Training of several pairs."""

    def __init__(self, pairs: int, device: str) -> None:
        self.pairs, self.device = pairs, device
        self.simulator = Simulator(
            MatrixGame(),
            {"player": make_policy("ppo", **SETTINGS)},
            worlds=Worlds.grid(pairs, WORLDS),
            rounds=ROUNDS,
            autoreset_mode="same_step",
            device=device,
        )
        self.simulator.reset(0)
        self.timed_updates()  # warm-up

    def timed_updates(self) -> float:
        """Seconds of `UPDATES` updates and their rollouts."""
        clock = Clock(self.device)
        clock.start()
        for _ in range(UPDATES * SETTINGS["num_steps"]):
            self.simulator.step()
        clock.stop()
        return clock.seconds

    @property
    def steps(self) -> int:
        """Steps of all worlds in one timing."""
        return UPDATES * SETTINGS["num_steps"] * self.pairs * WORLDS

    @property
    def persistent_state(self) -> PersistentState:
        """Models and optimizer state."""
        return self.simulator.policy_states["player"].persistent_state


def measure(pairs: int, device: str, repeats: int) -> dict[str, Any]:
    """Steps per second of all pairs and of one pair, and the speed-up of training all at once."""
    batched, single = Training(pairs, device), Training(1, device)
    times = [(batched.timed_updates(), single.timed_updates()) for _ in range(repeats)]
    state = batched.persistent_state
    stopped = int((~state.train_state.active).sum())
    assert not stopped, f"{stopped} models stopped at NaN or infinity"
    fresh = Training(pairs, device).persistent_state.train_state.parameters
    assert all(
        not torch.equal(parameter, fresh[name])
        for name, parameter in state.train_state.parameters.items()
    ), "parameters did not change"
    return {
        "pairs": pairs,
        "policies": state.mapping.num_models,
        "worlds": pairs * WORLDS,
        "steps_a_second": round(batched.steps / statistics.median(t for t, _ in times)),
        "steps_a_second_of_one_pair": round(single.steps / statistics.median(t for _, t in times)),
        "times_one_after_another": round(statistics.median(pairs * o / t for t, o in times), 1),
    }
