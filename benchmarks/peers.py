"""The same model in Mesa and in mores: Friedkin-Johnsen opinion dynamics on one network.

`kernel` is the update alone. `environment` is the whole `coevolution` environment through the
Simulator (people answer and influence each other), with equally many people and 10 neighbors each.

Both have the same network, initial opinions and parameters; results are compared before anything
is timed. Only steps are timed (no set-up), in turns, in one process, on one thread, in CPU time.
Report the ratios; absolute numbers depend on the machine.

    python -m venv peers && peers/bin/pip install mesa==3.3.1 -c constraints.txt -e .
    peers/bin/python benchmarks/peers.py
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import mesa
import networkx as nx
import numpy as np
import torch

from mores.envs.dynamics.degroot import degroot_step
from mores.envs.dynamics.friedkin_johnsen import friedkin_johnsen_step
from mores.envs.graphs.influence_graph import from_matrix, random_walk_matrix
from mores.envs.opinion.coevolution import Coevolution
from mores.sim.simulator import Simulator

SUSCEPTIBILITY = 0.9


class Person(mesa.Agent):
    def __init__(self, model: mesa.Model, opinion: float) -> None:
        super().__init__(model)
        self.initial_opinion = self.opinion = self.next_opinion = opinion
        self.neighbors: list[Person] = []

    def compute(self) -> None:
        mean = self.opinion + sum(neighbor.opinion for neighbor in self.neighbors)
        mean /= len(self.neighbors) + 1
        anchor = (1 - SUSCEPTIBILITY) * self.initial_opinion
        self.next_opinion = SUSCEPTIBILITY * mean + anchor

    def update(self) -> None:
        self.opinion = self.next_opinion


class FriedkinJohnsenModel(mesa.Model):
    def __init__(self, graph: nx.Graph, opinions: np.ndarray) -> None:
        super().__init__(seed=0)
        people = Person.create_agents(self, len(graph), opinions.tolist())
        self.people = list(people)
        for a, b in graph.edges:
            self.people[a].neighbors.append(self.people[b])
            self.people[b].neighbors.append(self.people[a])

    def step(self) -> None:
        self.agents.do("compute")
        self.agents.do("update")


def seconds(step: Callable[[], object], steps: int) -> float:
    start = time.process_time()
    for _ in range(steps):
        step()
    return (time.process_time() - start) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--worlds", type=int, nargs="+", default=[1, 16, 256])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for people in args.people:
        graph = nx.watts_strogatz_graph(people, 10, 0.1, seed=1)
        network = from_matrix(random_walk_matrix(graph))
        opinions = np.random.default_rng(0).normal(size=people)
        for worlds in args.worlds:
            anchor = torch.from_numpy(opinions).to(torch.float32).expand(worlds, people)[..., None]
            state = {"values": anchor.clone()}

            def kernel(state=state, anchor=anchor, network=network) -> None:
                mean = degroot_step(state["values"], state["values"], network)
                state["values"] = friedkin_johnsen_step(mean, anchor, SUSCEPTIBILITY)

            peers = {"rule": "friedkin_johnsen", "degree": 10, "susceptibility": SUSCEPTIBILITY}
            env = Coevolution(num_people=people, num_values=1, num_assistants=0, peers=peers)
            simulator = Simulator(env, env.default_policies(), worlds=worlds, rounds=100_000)
            simulator.reset(0)
            model = FriedkinJohnsenModel(graph, opinions)
            for _ in range(10):
                model.step()
                kernel()
            expected = np.array([person.opinion for person in model.people])
            assert np.allclose(state["values"][0, :, 0].numpy(), expected, atol=1e-5)
            kernel_ratios, environment_ratios, rates = [], [], []
            for _ in range(args.repeats):
                mesa_time = seconds(model.step, max(3, 20_000 // people)) / people
                kernel_time = seconds(kernel, 100) / (people * worlds)
                simulator_time = seconds(simulator.step, 100) / (people * worlds)
                kernel_ratios.append(mesa_time / kernel_time)
                environment_ratios.append(mesa_time / simulator_time)
                rates.append(1 / kernel_time / 1e6)
            row = {
                "people": people,
                "worlds": worlds,
                "kernel_times_mesa": round(statistics.median(kernel_ratios), 1),
                "environment_times_mesa": round(statistics.median(environment_ratios), 1),
                "million_updates_a_second": round(statistics.median(rates), 2),
            }
            rows.append(row)
            print(row)
    if args.out is not None:
        machine = {
            "processor": platform.processor() or platform.machine(),
            "threads": 1,
            "torch": torch.__version__,
            "mesa": mesa.__version__,
        }
        args.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
