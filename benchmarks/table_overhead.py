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

from mores.core.environment import Game
from mores.core.random_streams import Draws
from mores.envs.opinion.coevolution import Coevolution
from mores.envs.opinion.lock_in import LockIn
from mores.envs.strategic.moral_hazard import Commission
from mores.sim.simulator import Table

GAMES: dict[str, Game[Any]] = {
    "coevolution": Coevolution(noise=0.1, history={"drift": 0.01, "carry": 1.0}),
    "lock_in": LockIn(),
    "commission": Commission(quits=0.0),
}


def by_table(game: Game[Any], rounds: int) -> float:
    """Seconds a round through the Table."""
    table = Table(game, game.baseline(), worlds=1, rounds=rounds + 1)
    table.reset(0)
    began = time.process_time()
    for _ in range(rounds):
        table.step()
    return (time.process_time() - began) / rounds


def by_hand(game: Game[Any], rounds: int) -> float:
    """Seconds a round by calling the game and its players directly."""
    players = game.baseline()
    draws = Draws.of(0, 1)
    start = draws.within("start")
    state = game.reset(start.within("game"))
    roles = {role.name: role for role in game.roles}
    memory = {
        n: p.start(roles[n], game.phases, start.within(f"player/{n}")) for n, p in players.items()
    }
    began = time.process_time()
    for round in range(rounds):
        now = draws.at(round)
        for phase in game.phases:
            actions = {}
            for name in phase.acts:
                act = players[name].act(
                    phase,
                    game.observe(state, name, phase.name),
                    game.legal(state, name, phase.name),
                    memory[name],
                    now.within(f"player/{name}/{phase.name}"),
                )
                actions[name], memory[name] = act.action, act.memory
            state = game.step(state, phase.name, actions, now.within("game")).state
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
