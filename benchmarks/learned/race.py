"""Our PPO and that of Stable-Baselines3 on one task, until both earn the same.

What is timed is making samples and learning from them; setting up and evaluating is not.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from stable_baselines3 import PPO
from stable_baselines3.common import vec_env
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from torch import Tensor

from benchmarks.learned.machine import Clock
from benchmarks.learned.tasks import Task
from mores.agents.learning.learner_state import LearnerState
from mores.clients.gymnasium import GymnasiumEnv
from mores.clients.stable_baselines3 import SB3VecEnv as SB3VecEnv
from mores.core.random_streams import Worlds
from mores.sim.simulator import Simulator


@dataclasses.dataclass(frozen=True)
class Finish:
    """How a learner came through.

    Attributes:
        reached: whether it earned the threshold within the budget.
        samples: own acts until then.
        processor, wall: seconds.
        returns: of the evaluations.
    """

    reached: bool
    samples: int
    processor: float
    wall: float
    returns: list[float]


def raced(task: Task, seeds: int) -> dict[str, Any]:
    """All sides on the same task, seed by seed; medians over seeds, and how many times longer."""
    found: dict[str, list[Finish]] = {name: [] for name in ("mores", *task.theirs)}
    for seed in range(seeds):
        for name, finishes in found.items():
            if seed >= task.seeds.get(name, seeds):
                continue
            given = task.theirs.get(name)
            finish = ours(task, seed) if given is None else theirs(task, given, seed)
            finishes.append(finish)
            told = f"{finish.processor:.2f} s ({finish.wall:.2f} by the clock)"
            how = "" if finish.reached else ", not reached"
            print(f"{task.name} {seed} {name:8} {told}, {finish.samples} acts{how}", flush=True)
    rows = {name: _summed_up(finishes) for name, finishes in found.items()}
    for name in task.theirs:
        for clock in ("seconds", "wall"):
            ratio = rows[name][clock]["median"] / rows["mores"][clock]["median"]
            rows[name][f"times_our_{clock}"] = round(ratio, 2)
    for name, row in rows.items():
        print(task.name, name, row, flush=True)
    return {"threshold": task.threshold, "budget": task.budget, "sides": rows}


def _summed_up(finishes: list[Finish]) -> dict[str, Any]:
    columns = {
        "seconds": [finish.processor for finish in finishes],
        "wall": [finish.wall for finish in finishes],
        "samples": [finish.samples for finish in finishes],
        "samples_a_second": [finish.samples / finish.processor for finish in finishes],
    }
    reached = sum(finish.reached for finish in finishes)
    found: dict[str, Any] = {"seeds": len(finishes), "reached": reached}
    for name, column in columns.items():
        digits = 3 if name in ("seconds", "wall") else None
        numbers = (statistics.median(column), min(column), max(column))
        median, low, high = (round(number, digits) for number in numbers)
        found[name] = {"median": median, "from": low, "to": high}
    return found


def ours(task: Task, seed: int) -> Finish:
    """Our learner."""
    player, name = task.learner(), task.role.name
    table = Simulator(
        task.game,
        task.seated(player),
        worlds=Worlds.grid(1, task.worlds),
        rounds=task.rounds,
        autoreset=True,
    )
    table.reset(seed)
    clock, samples, returns = Clock(), 0, []
    while samples < task.budget:
        clock.start()
        for _ in range(task.every // task.worlds):
            table.step()
        clock.stop()
        samples += task.every
        memory = table.policy_states[name]
        memory = memory if task.others is None else memory.member_states[0]
        returns.append(task.evaluated(lambda seen, held=memory: likeliest(held, seen), samples))
        if returns[-1] >= task.threshold:
            break
    return _finish(task, samples, clock, returns)


def likeliest(memory: LearnerState, seen: Float[Tensor, "world size"]) -> Int[Tensor, " world"]:
    """The likeliest acts of a learner's only policy."""
    stack, parameters = memory.spec.stacked_model, memory.persistent_state.train_state.parameters
    phase = next(iter(stack.action_distributions))
    with torch.no_grad():
        raw, _, _ = stack.forward_step(parameters, phase, seen[None], seen[None, :, :0])
    return raw[0].argmax(-1)


def theirs(task: Task, settings: Mapping[str, Any], seed: int) -> Finish:
    """The learner of Stable-Baselines3."""
    settings = dict(settings)
    env = environment(task, settings.pop("n_envs"), settings.pop("view"), seed)
    for name, given in settings.items():
        if isinstance(given, tuple):  # falls to 0 in a line
            settings[name] = lambda left, first=given[1]: left * first
    learner = PPO("MlpPolicy", env, seed=seed, device="cpu", **settings)
    watch = Watch(task)
    watch.clock.start()
    learner.learn(task.budget, watch, log_interval=None)
    watch.clock.stop()
    if not watch.reached:
        watch.evaluate()
    return _finish(task, watch.samples, watch.clock, watch.returns)


class Watch(BaseCallback):
    """Evaluates between an update and what follows, with the clock stopped."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task, self.clock = task, Clock()
        self.returns: list[float] = []
        self.samples = 0

    @property
    def reached(self) -> bool:
        """Whether the last evaluation was good enough."""
        return bool(self.returns) and self.returns[-1] >= self.task.threshold

    def evaluate(self) -> None:
        """Play the worlds of this evaluation."""
        self.samples = self.num_timesteps

        def decide(seen: Float[Tensor, "world size"]) -> Int[Tensor, " world"]:
            acts, _ = self.model.predict(seen.numpy(), deterministic=True)
            return torch.from_numpy(acts)

        self.returns.append(self.task.evaluated(decide, self.samples))

    def _on_rollout_start(self) -> None:
        if self.num_timesteps // self.task.every > len(self.returns):
            self.clock.stop()
            self.evaluate()
            if not self.reached:
                self.clock.start()

    def _on_step(self) -> bool:
        return not self.reached


def environment(task: Task, worlds: int, view: str, seed: int) -> vec_env.VecEnv:
    """Worlds for Stable-Baselines3.

    Args:
        task: which.
        worlds: how many.
        view: `gymnasium`: one after the other, as its users have them; `batched`: our own, as one
            program.
        seed: of the worlds.
    """
    others = None if task.others is None else {task.role.name: task.others}
    seat = f"{task.role.name}_0"
    if view == "batched":
        made = SB3VecEnv(task.game, worlds, seat, task.rounds, others)
        # Its worlds are replicates of their own; here they are to be those of one, as ours are.
        made.vector_env.simulator.worlds = Worlds.grid(1, worlds)
        made.seed(seed)
        return made
    if task.gymnasium is not None:
        return make_vec_env(task.gymnasium, worlds, seed)
    options = {"game": task.game, "seat": seat, "rounds": task.rounds, "players": others}
    return make_vec_env(GymnasiumEnv, worlds, seed, env_kwargs=options)


def _finish(task: Task, samples: int, clock: Clock, returns: list[float]) -> Finish:
    reached = returns[-1] >= task.threshold
    return Finish(reached, samples, clock.processor, clock.wall, returns)
