"""Costs of the two bridges to Mesa, in CPU time on one thread.

One: `coevolution` with 100 people as a Mesa model, against the same simulation without Mesa and in
256 worlds at once. Other: Schelling's model of tests/mesa as an environment of 20 worlds, against
20 models in a plain Mesa loop that collects data after every step.

    pip install mores[mesa]
    python benchmarks/mesa_bridge.py --out benchmarks/results/mesa_bridge.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mesa
import torch

import mores
from mores.clients.mesa import MoresModel
from mores.registry import REGISTRIES
from mores.registry.plugins import load_plugins
from mores.sim.simulator import Simulator

PEOPLE, WORLDS, MODELS, ROUNDS = 100, 256, 20, 10
SCHELLING = Path(__file__).parents[1] / "tests" / "mesa" / "schelling_user.py"


def milliseconds(run: Callable[[], object], repeats: int) -> float:
    """Median CPU time of a call."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(1000 * (time.process_time() - start))
    return statistics.median(times)


def started(worlds: int) -> Simulator:
    environment = mores.make_environment("coevolution", num_people=PEOPLE)
    policies = environment.default_policies()
    simulator = Simulator(environment, policies, worlds=worlds, rounds=1_000_000)
    simulator.reset(0)
    simulator.step()
    return simulator


def environment_in_mesa(repeats: int) -> dict[str, float]:
    """Milliseconds for a round of one world."""
    model = MoresModel("coevolution", seed=0, rounds=1_000_000, num_people=PEOPLE)
    model.step()
    return {
        "mesa_model": milliseconds(model.step, repeats),
        "simulator": milliseconds(started(1).step, repeats),
        "simulator_of_many_worlds": milliseconds(started(WORLDS).step, repeats) / WORLDS,
    }


def mesa_in_environment(repeats: int) -> dict[str, float]:
    """Milliseconds for a round of one world."""
    load_plugins([SCHELLING])
    model_class: Any = REGISTRIES["environment"]["schelling"]
    parameters = {"size": 12, "homophily": 0.6}
    environment = mores.make_environment("schelling", **parameters)

    def plain() -> None:
        for seed in range(MODELS):
            model = model_class(**parameters, seed=seed)
            while model.running and model.steps < ROUNDS:
                model.step()

    def as_environment() -> None:
        metrics = ["segregation", "happy", "mean_moves"]
        mores.simulate(environment, worlds=MODELS, rounds=ROUNDS, metrics=metrics)

    count = MODELS * ROUNDS
    return {
        "plain_mesa": milliseconds(plain, repeats) / count,
        "environment": milliseconds(as_environment, repeats) / count,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    torch.set_num_threads(1)
    in_mesa = environment_in_mesa(20 * args.repeats)
    of_mesa = mesa_in_environment(args.repeats)
    results = {
        "mesa": mesa.__version__,
        "torch": torch.__version__,
        "environment_in_mesa": {name: float(f"{t:.2g}") for name, t in in_mesa.items()},
        "mesa_model_times_simulator": round(in_mesa["mesa_model"] / in_mesa["simulator"], 1),
        "mesa_model_times_many_worlds": round(
            in_mesa["mesa_model"] / in_mesa["simulator_of_many_worlds"]
        ),
        "mesa_in_environment": {name: float(f"{t:.2g}") for name, t in of_mesa.items()},
        "environment_times_plain_mesa": round(of_mesa["environment"] / of_mesa["plain_mesa"], 1),
    }
    print(json.dumps(results, indent=2))
    if args.out is not None:
        args.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
