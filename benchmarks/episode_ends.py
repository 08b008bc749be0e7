"""CPU time of a vector step in which episodes end, and of one in which none ends.

A copy of every environment ends the episodes of its worlds at random, and is stepped with these
ends and without any, in turns in one process, on one thread, in CPU time. All additional time is
assigned to the rounds in which some world ended, whether it is spent in them or later:

    cost of a round with an end = 1 + (t_ends - t_none) / (share of such rounds * t_none)

with the mean times `t` of a step of the two runs. The median over the repeats counts. Aten calls
are counted in a separate run: on an accelerator each launches a kernel or more.

    python benchmarks/episode_ends.py
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mores.clients.gymnasium_vector import GymnasiumVectorEnv
from mores.core.environment import Environment, StepResult
from mores.core.random_streams import RandomStreams
from mores.envs.influence.dr_mdp import DRMDP
from mores.envs.opinion.coevolution import Coevolution
from mores.envs.opinion.lock_in import LockIn
from mores.envs.opinion.panel import Panel
from mores.envs.strategic.matrix_game import MatrixGame
from mores.envs.strategic.moral_hazard import MoralHazard

ENVIRONMENTS: dict[str, tuple[type[Environment[Any]], dict[str, Any]]] = {
    "coevolution": (Coevolution, {"noise_std": 0.1, "history": {"drift": 0.01, "drift_share": 1}}),
    "coevolution/predict": (Coevolution, {"challenge": "predict"}),
    "lock_in": (LockIn, {}),
    "matrix_game": (MatrixGame, {}),
    "dr_mdp": (DRMDP, {}),
    "moral_hazard": (MoralHazard, {}),
    "panel": (Panel, {}),
}
MEAN_LENGTHS = {1: 20, 64: 50, 1024: 100, 16384: 100}  # of an episode, in rounds, by worlds
VIEWS = {"view", "slice", "select", "expand", "unsqueeze", "squeeze", "permute", "transpose"}
VIEWS |= {"as_strided", "alias", "detach", "split", "unbind", "_unsafe_view", "t", "unfold"}
VIEWS |= {"split_with_sizes", "lift_fresh", "diagonal", "_reshape_alias"}


def with_random_ends(kind: type[Environment[Any]]) -> Callable[..., Environment[Any]]:
    """A subclass that terminates each world in each round with `end_probability`."""

    class RandomEnds(kind):
        end_probability: float = 0.0

        def step(
            self, state: Any, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
        ) -> StepResult[Any]:
            result = super().step(state, phase, actions, streams)
            u = streams.child("benchmark").uniform("end")[:, 0, 0]
            return StepResult(result.state, result.reward, u < self.end_probability)

    return RandomEnds


class AtenCalls(TorchDispatchMode):
    """Counts aten calls; `kernels` leaves out those that only make views."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = self.kernels = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += 1
        self.kernels += func.overloadpacket.__name__ not in VIEWS
        return func(*args, **(kwargs or {}))


class Steps(NamedTuple):
    """A running vector environment with its actions."""

    env: GymnasiumVectorEnv
    actions: Tensor

    @staticmethod
    def of(name: str, worlds: int, end_probability: float) -> Steps:
        """A started environment, past the first rounds."""
        kind, parameters = ENVIRONMENTS[name]
        environment = with_random_ends(kind)(**parameters, end_probability=end_probability)
        env = GymnasiumVectorEnv(environment, worlds, rounds=10**6)
        env.reset(seed=1)
        env.action_space.seed(1)
        steps = Steps(env, torch.from_numpy(env.action_space.sample()))
        steps.run(20)
        return steps

    def run(self, rounds: int) -> tuple[float, float]:
        """Seconds per step, and the share of steps in which an episode ended."""
        ends = 0
        start = time.process_time()
        for _ in range(rounds):
            *_, info = self.env.step(self.actions)
            ends += "final_obs" in info
        return (time.process_time() - start) / rounds, ends / rounds

    def counted(self, rounds: int) -> AtenCalls:
        """Aten calls of these steps."""
        with AtenCalls() as counter:
            self.run(rounds)
        return counter


def measure(name: str, worlds: int, rounds: int, repeats: int) -> dict[str, float]:
    """Times and counts of an environment in `worlds` worlds."""
    none, ends = Steps.of(name, worlds, 0.0), Steps.of(name, worlds, 1 / MEAN_LENGTHS[worlds])
    costs, times = list[float](), list[float]()
    for _ in range(repeats):
        t_none, _ = none.run(rounds)
        t_ends, share = ends.run(rounds)
        costs.append(1 + (t_ends - t_none) / (share * t_none))
        times.append(t_none)
    counts = {
        key: part.counted(64).kernels / 64 for key, part in {"none": none, "ends": ends}.items()
    }
    return {
        "step_us": round(statistics.median(times) * 1e6, 1),
        "cost_of_end": round(statistics.median(costs), 2),
        "kernels": round(counts["none"], 1),
        "kernels_with_ends": round(counts["ends"], 1),
    }


def main(environments: Callable[[], Mapping[str, Any]] = lambda: ENVIRONMENTS) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environments", nargs="*", default=list(environments()))
    parser.add_argument("--worlds", nargs="*", type=int, default=list(MEAN_LENGTHS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=None, help="write the results as JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for name in args.environments:
        rows[name] = {}
        for worlds in args.worlds:
            rounds = max(40, min(400, 400_000 // worlds))
            row = rows[name][str(worlds)] = measure(name, worlds, rounds, args.repeats)
            print(f"{name:24} {worlds:6}", row, flush=True)
    if args.out is not None:
        machine = {
            "processor": platform.processor() or platform.machine(),
            "threads": 1,
            "torch": torch.__version__,
        }
        args.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
