"""The same model in Mesa and in mores: Friedkin-Johnsen opinion dynamics on one network.

`equilibrium_matrix` is the update alone. `environment` is all of `coevolution` through the Table (people who
are asked, answer and listen), with as many people, each listening to 10 others.

Both sides get the same network, start and parameters; the results are compared before anything is
timed. Steps only are timed (no set-up), in turns, in one process, on one thread, in processor time.
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

from mores.envs.dynamics import degroot, friedkin_johnsen
from mores.envs.graphs.influence_graph import from_matrix, random_walk_matrix
from mores.envs.opinion.coevolution import Coevolution
from mores.sim.simulator import Simulator

SUSCEPTIBILITY = 0.9


class Person(mesa.Agent):
    def __init__(self, model: mesa.Model, opinion: float) -> None:
        super().__init__(model)
        self.start = self.opinion = self.next = opinion
        self.friends: list[Person] = []

    def listen(self) -> None:
        heard = self.opinion + sum(friend.opinion for friend in self.friends)
        heard /= len(self.friends) + 1
        self.next = SUSCEPTIBILITY * heard + (1 - SUSCEPTIBILITY) * self.start

    def move(self) -> None:
        self.opinion = self.next


class Club(mesa.Model):
    def __init__(self, graph: nx.Graph, start: np.ndarray) -> None:
        super().__init__(seed=0)
        people = Person.create_agents(self, len(graph), start.tolist())
        self.people = list(people)
        for a, b in graph.edges:
            self.people[a].friends.append(self.people[b])
            self.people[b].friends.append(self.people[a])

    def step(self) -> None:
        self.agents.do("listen")
        self.agents.do("move")


def seconds(step: Callable[[], object], steps: int) -> float:
    began = time.process_time()
    for _ in range(steps):
        step()
    return (time.process_time() - began) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--worlds", type=int, nargs="+", default=[1, 16, 256])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=None)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for people in asked.people:
        graph = nx.watts_strogatz_graph(people, 10, 0.1, seed=1)
        network = from_matrix(random_walk_matrix(graph))
        start = np.random.default_rng(0).normal(size=people)
        for worlds in asked.worlds:
            anchor = torch.from_numpy(start).to(torch.float32).expand(worlds, people)[..., None]
            held = {"values": anchor.clone()}

            def ours(held=held, anchor=anchor, network=network) -> None:
                heard = degroot.degroot_step(held["values"], held["values"], network)
                held["values"] = friedkin_johnsen.friedkin_johnsen_step(
                    heard, anchor, SUSCEPTIBILITY
                )

            peers = {"rule": "friedkin_johnsen", "ties": 10, "susceptibility": SUSCEPTIBILITY}
            game = Coevolution(num_people=people, num_values=1, num_assistants=0, peers=peers)
            table = Simulator(game, game.default_policies(), worlds=worlds, rounds=100_000)
            table.reset(0)
            club = Club(graph, start)
            for _ in range(10):
                club.step()
                ours()
            theirs = np.array([person.opinion for person in club.people])
            assert np.allclose(held["values"][0, :, 0].numpy(), theirs, atol=1e-5)
            ratios, whole, rates = [], [], []
            for _ in range(asked.repeats):
                mesa_time = seconds(club.step, max(3, 20_000 // people)) / people
                our_time = seconds(ours, 100) / (people * worlds)
                table_time = seconds(table.step, 100) / (people * worlds)
                ratios.append(mesa_time / our_time)
                whole.append(mesa_time / table_time)
                rates.append(1 / our_time / 1e6)
            row = {
                "people": people,
                "worlds": worlds,
                "kernel_times_mesa": round(statistics.median(ratios), 1),
                "environment_times_mesa": round(statistics.median(whole), 1),
                "million_updates_a_second": round(statistics.median(rates), 2),
            }
            rows.append(row)
            print(row)
    if asked.out is not None:
        machine = {
            "processor": platform.processor() or platform.machine(),
            "threads": 1,
            "torch": torch.__version__,
            "mesa": mesa.__version__,
        }
        asked.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
