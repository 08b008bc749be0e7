"""The same model in Mesa, in scipy and in mores: Friedkin-Johnsen opinions on one network.

`rule` is the update alone, on tensors. `environment` is the whole `coevolution` environment through
the Simulator: people observe, answer and influence each other. scipy is the strong baseline: one
float32 CSR matrix for the weighted mean, worlds as columns, with the anchor added in place.

All have the same network (Watts-Strogatz, ten neighbors each), initial opinions and parameters;
results are compared before anything is timed. Only steps are timed (no set-up), in turns, in one
process, on one thread, in CPU time. Report the ratios; absolute numbers depend on the machine.

`--stream` builds a networkx graph of a million nodes and five million edges and reports the time
and the peak of memory above that graph for reading it into arrays and playing one round.

    pip install --no-deps --target mesa_site mesa==3.3.1
    PYTHONPATH=mesa_site python benchmarks/peers.py --out benchmarks/results/peers.json
    python benchmarks/peers.py --stream --out benchmarks/results/peers.json
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import scipy
import torch

import mores
from mores.core.people import People, Population
from mores.core.random_streams import RandomStreams
from mores.core.update_rule import PeerInputs
from mores.envs.dynamics.friedkin_johnsen import FriedkinJohnsen
from mores.envs.dynamics.peers import Peers
from mores.envs.graphs.csr_graph import CsrGraph
from mores.envs.opinion.coevolution import Coevolution
from mores.sim.simulator import Simulator

SUSCEPTIBILITY = 0.9
RULE = FriedkinJohnsen(susceptibility=SUSCEPTIBILITY)
GENERATOR = {"kind": "networkx", "generator": "watts_strogatz", "graph_seed": 1}
GRAPH = {**GENERATOR, "parameters": {"k": 10, "p": 0.1}}
HOMOPHILY = {"kind": "homophily", "degree": 10}
MEGABYTE = 2**20


def mesa_model(graph: nx.Graph, opinions: np.ndarray) -> Any:
    """The model as Mesa's documentation writes models: one object per person."""
    import mesa  # pyright: ignore[reportMissingImports]

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
        def __init__(self) -> None:
            super().__init__(seed=0)
            self.people = list(Person.create_agents(self, len(graph), opinions.tolist()))
            for a, b in graph.edges:
                self.people[a].neighbors.append(self.people[b])
                self.people[b].neighbors.append(self.people[a])

        def step(self) -> None:
            self.agents.do("compute")
            self.agents.do("update")

    return FriedkinJohnsenModel()


class ScipyModel:
    """The same by one sparse matrix product, worlds as columns."""

    def __init__(self, csr: CsrGraph, opinions: np.ndarray, worlds: int) -> None:
        self.matrix = csr.influence_graph().matrix().astype(np.float32)
        self.opinions = np.repeat(opinions.astype(np.float32)[:, None], worlds, 1)
        if worlds == 1:
            self.opinions = self.opinions[:, 0]
        self.anchor = np.float32(1 - SUSCEPTIBILITY) * self.opinions

    def step(self) -> None:
        self.opinions = self.matrix @ self.opinions
        self.opinions *= np.float32(SUSCEPTIBILITY)
        self.opinions += self.anchor


class RuleModel:
    """The registered rule alone, on values `[world, person, 1]` with worlds innermost in memory."""

    def __init__(self, csr: CsrGraph, opinions: np.ndarray, worlds: int) -> None:
        self.graph = csr.influence_graph()
        anchor = torch.from_numpy(opinions).to(torch.float32)
        self.values = self.anchor = anchor[:, None].repeat(1, worlds).T[..., None]
        self.streams = RandomStreams.of(0, worlds)

    def step(self) -> None:
        inputs = PeerInputs(self.values, self.values, self.anchor, self.graph, self.streams)
        self.values = RULE.step(inputs, None).values


class GivenOpinions(Population):
    """Population with the same opinions in all worlds."""

    opinions: Any

    def sample_people(self, streams: RandomStreams) -> People:
        opinions = torch.from_numpy(self.opinions).to(torch.float32)
        return People(opinions.repeat(streams.num_worlds, 1)[..., None])


def simulator(opinions: np.ndarray, worlds: int, graph: dict[str, Any]) -> Simulator:
    """The whole environment with truthful people."""
    env = Coevolution(
        human="idealised",
        num_people=len(opinions),
        num_values=1,
        num_assistants=0,
        peers=Peers.model_validate({"rule": RULE, "graph": graph}),
    )
    population = GivenOpinions(opinions=opinions)
    made = Simulator(
        env, env.default_policies(), worlds=worlds, rounds=1_000_000, population=population
    )
    made.reset(0)
    return made


def seconds(step: Callable[[], object], steps: int) -> float:
    start = time.process_time()
    for _ in range(steps):
        step()
    return (time.process_time() - start) / steps


def compare(people: int, worlds: int, repeats: int) -> dict[str, Any]:
    """One row: rates of all systems and their ratios."""
    graph = nx.watts_strogatz_graph(people, 10, 0.1, seed=1)
    csr = CsrGraph.from_networkx(graph)
    opinions = np.random.default_rng(0).normal(size=people)
    model, reference = mesa_model(graph, opinions), ScipyModel(csr, opinions, worlds)
    rule = RuleModel(csr, opinions, worlds)
    shared, own = (simulator(opinions, worlds, g) for g in (GRAPH, HOMOPHILY))
    steps: dict[str, Callable[[], object]] = {
        "mesa": model.step,
        "scipy": reference.step,
        "rule": rule.step,
        "environment": shared.step,
        "environment_own_graphs": own.step,
    }
    for _ in range(5):
        for step in steps.values():
            step()
    expected = np.array([person.opinion for person in model.people])
    results = reference.opinions.reshape(people, worlds).T, rule.values[..., 0].numpy()
    for result in (*results, shared.state.people.values[..., 0].numpy()):
        assert np.allclose(result, expected, atol=1e-5)
    del model.people, graph
    rates: dict[str, list[float]] = {name: [] for name in steps}
    counts = dict.fromkeys(steps, 1)
    for name, step in steps.items():  # about 0.1 s each
        counts[name] = max(2, min(3000, int(0.1 / max(1e-6, seconds(step, 2)))))
    for _ in range(repeats):
        for name, step in steps.items():
            updates = people * (1 if name == "mesa" else worlds)
            rates[name].append(updates / seconds(step, counts[name]))

    def ratio(name: str, other: str) -> float:
        pairs = zip(rates[name], rates[other], strict=True)
        return float(f"{statistics.median(a / b for a, b in pairs):.3g}")

    return {
        "people": people,
        "worlds": worlds,
        "rule_times_mesa": ratio("rule", "mesa"),
        "rule_times_scipy": ratio("rule", "scipy"),
        "environment_times_mesa": ratio("environment", "mesa"),
        "environment_times_rule": ratio("environment", "rule"),
        "environment_own_graphs_times_mesa": ratio("environment_own_graphs", "mesa"),
        "million_updates_a_second": {
            name: float(f"{statistics.median(values) / 1e6:.3g}") for name, values in rates.items()
        },
    }


def resident_megabytes(key: str) -> float:
    """Memory of the process: `VmRSS` now, `VmHWM` the peak since the last reset."""
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"^{key}:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024 / MEGABYTE


def stream(people: int, edges: int) -> dict[str, Any]:
    """Read a large networkx graph and play one round of the environment. Linux only."""
    rng = np.random.default_rng(0)
    gc.disable()  # it visits the growing graph again and again
    graph = nx.Graph()
    graph.add_nodes_from(range(people))
    while graph.number_of_edges() < edges:
        count = min(500_000, edges - graph.number_of_edges())
        ends = rng.integers(0, people, (2, count))
        graph.add_edges_from(zip(*ends.tolist(), strict=True))
    gc.enable()
    mores.register("graph", "benchmark_stream", lambda num_people: graph)
    before = resident_megabytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    start = time.process_time()
    env = Coevolution(
        human="idealised",
        num_people=people,
        num_values=1,
        num_assistants=0,
        peers=Peers.model_validate({"rule": RULE, "graph": "benchmark_stream"}),
    )
    made = Simulator(env, env.default_policies(), rounds=10)
    made.reset(0)
    read = time.process_time()
    made.step()
    return {
        "people": people,
        "edges": graph.number_of_edges(),
        "graph_megabytes": round(before),
        "peak_above_graph_megabytes": round(resident_megabytes("VmHWM") - before),
        "reset_seconds": round(read - start, 1),
        "round_seconds": round(time.process_time() - read, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, nargs="+", default=[100, 10_000, 100_000])
    parser.add_argument("--worlds", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    if args.out is not None and args.out.exists():
        results = json.loads(args.out.read_text())
    results["machine"] = {
        "processor": platform.processor() or platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": 1,
        "torch": torch.__version__,
        "scipy": scipy.__version__,
    }
    if args.stream:
        results["stream"] = stream(1_000_000, 5_000_000)
        print(results["stream"])
    else:
        results["rows"] = []
        for people in args.people:
            for worlds in args.worlds:
                results["rows"].append(compare(people, worlds, args.repeats))
                print(results["rows"][-1], flush=True)
    if args.out is not None:
        args.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
