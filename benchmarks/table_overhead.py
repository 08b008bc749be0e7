"""What the Table costs a round at one world, beyond the tensor step itself.

The same rounds are played twice: through the Table, and by calling the same functions (observe,
act, step) by hand with the same draws. The difference is the Table's own cost. Both are timed in
turns in one process, on one thread, in processor time; of many repeats the smallest counts, since
what lies above it is other work on the machine.

    python benchmarks/table_overhead.py
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import torch

from mores.core.environment import Environment
from mores.core.random_streams import RandomStreams
from mores.envs.opinion.coevolution import Coevolution
from mores.envs.opinion.lock_in import LockIn
from mores.envs.strategic.moral_hazard import MoralHazard
from mores.sim.simulator import Simulator

GAMES: dict[str, Environment[Any]] = {
    "coevolution": Coevolution(noise_std=0.1, history={"drift": 0.01, "carry": 1.0}),
    "lock_in": LockIn(),
    "commission": MoralHazard(termination_probability=0.0),
}


def by_table(game: Environment[Any], rounds: int) -> float:
    """Seconds a round through the Table."""
    table = Simulator(game, game.default_policies(), worlds=1, rounds=rounds + 1)
    table.reset(0)
    began = time.process_time()
    for _ in range(rounds):
        table.step()
    return (time.process_time() - began) / rounds


def by_hand(game: Environment[Any], rounds: int) -> float:
    """Seconds a round by calling the game and its players directly."""
    players = game.default_policies()
    draws = RandomStreams.of(0, 1)
    start = draws.child("start")
    state = game.reset(start.child("game"))
    roles = {role.name: role for role in game.roles}
    memory = {
        n: p.initial_state(roles[n], game.phases, start.child(f"player/{n}"))
        for n, p in players.items()
    }
    began = time.process_time()
    for round in range(rounds):
        now = draws.at(round)
        for phase in game.phases:
            actions = {}
            for name in phase.action_spaces:
                act = players[name].act(
                    phase,
                    game.observe(state, name, phase.name),
                    game.action_mask(state, name, phase.name),
                    memory[name],
                    now.child(f"player/{name}/{phase.name}"),
                )
                actions[name], memory[name] = act.action, act.state
            state = game.step(state, phase.name, actions, now.child("game")).state
    return (time.process_time() - began) / rounds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--out", type=Path, default=None, help="write the figures as JSON")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = {}
    for name, game in GAMES.items():
        pairs = [
            (by_table(game, asked.rounds), by_hand(game, asked.rounds))
            for _ in range(asked.repeats)
        ]
        through, hand = (min(column) * 1e6 for column in zip(*pairs, strict=True))
        cost = through - hand
        rows[name] = {
            "table_us": round(through, 1),
            "by_hand_us": round(hand, 1),
            "cost_us": round(cost, 1),
            "ratio": round(through / hand, 3),
        }
        print(f"{name:12} {through:7.1f} us a round, by hand {hand:7.1f}: the Table {cost:5.1f} us")
    if asked.out is not None:
        machine = {
            "processor": platform.processor() or platform.machine(),
            "threads": 1,
            "torch": torch.__version__,
        }
        asked.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
