"""CPU time of the `Simulator` per round of one world, beyond the environment and the policies.

The same rounds run through the Simulator, and by direct calls of the same functions (observe, act,
step) with the same random streams. The difference is the Simulator's overhead. Both are timed in
turns in one process, on one thread, in CPU time. The minimum over the repeats counts: other
processes on the machine only add time.

    python benchmarks/simulator_overhead.py
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
from mores.registry.specs import policies_from_specs
from mores.sim.simulator import Simulator

ENVIRONMENTS: dict[str, Environment[Any]] = {
    "coevolution": Coevolution(
        human="idealised", noise_std=0.1, history={"drift": 0.01, "drift_share": 1.0}
    ),
    "lock_in": LockIn(),
    "moral_hazard": MoralHazard(termination_probability=0.0),
}


def simulator_seconds(environment: Environment[Any], rounds: int) -> float:
    """Seconds per round through the Simulator."""
    simulator = Simulator(environment, environment.default_policies(), worlds=1, rounds=rounds + 1)
    simulator.reset(0)
    start = time.process_time()
    for _ in range(rounds):
        simulator.step()
    return (time.process_time() - start) / rounds


def direct_seconds(environment: Environment[Any], rounds: int) -> float:
    """Seconds per round by direct calls of the environment and its policies."""
    policies = policies_from_specs(environment.default_policies())
    streams = RandomStreams.of(0, 1)
    start_streams = streams.child("start")
    state = environment.reset(start_streams.child("game"))
    roles = {role.name: role for role in environment.roles}
    policy_states = {
        n: p.initial_state(roles[n], environment.phases, start_streams.child(f"player/{n}"))
        for n, p in policies.items()
    }
    start = time.process_time()
    for round in range(rounds):
        now = streams.at(round)
        for phase in environment.phases:
            actions = {}
            for name in phase.action_spaces:
                output = policies[name].act(
                    phase,
                    environment.observe(state, name, phase.name),
                    environment.action_mask(state, name, phase.name),
                    policy_states[name],
                    now.child(f"player/{name}/{phase.name}"),
                )
                actions[name], policy_states[name] = output.action, output.state
            state = environment.step(state, phase.name, actions, now.child("game")).state
    return (time.process_time() - start) / rounds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--out", type=Path, default=None, help="write the results as JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = {}
    for name, environment in ENVIRONMENTS.items():
        pairs = [
            (simulator_seconds(environment, args.rounds), direct_seconds(environment, args.rounds))
            for _ in range(args.repeats)
        ]
        simulator, direct = (min(column) * 1e6 for column in zip(*pairs, strict=True))
        overhead = simulator - direct
        rows[name] = {
            "simulator_us": round(simulator, 1),
            "direct_us": round(direct, 1),
            "overhead_us": round(overhead, 1),
            "ratio": round(simulator / direct, 3),
        }
        print(f"{name:12} {simulator:.1f} us per round, direct {direct:.1f}, +{overhead:.1f} us")
    if args.out is not None:
        machine = {
            "processor": platform.processor() or platform.machine(),
            "threads": 1,
            "torch": torch.__version__,
        }
        args.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
