"""Time until PPO of mores and PPO of Stable-Baselines3 reach a mean return on one task.

Each run stops at the first evaluation whose return reaches the threshold of the task, or when its
budget of samples is used. Sampling and training are timed; set-up and evaluation are not. Medians
include runs that did not reach the threshold, with the time of their whole budget.
"""

from __future__ import annotations

import dataclasses
import functools
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

from benchmarks.learning_parts.machine import Clock
from benchmarks.learning_parts.tasks import Task
from mores.agents.learning.learner_state import LearnerState
from mores.clients.gymnasium import GymnasiumEnv
from mores.clients.stable_baselines3 import SB3VecEnv
from mores.core.random_streams import Worlds
from mores.sim.simulator import Simulator


@dataclasses.dataclass(frozen=True)
class TimedTraining:
    """Result of one training run.

    Attributes:
        reached: whether the return reached the threshold within the budget.
        samples: number of actions of the agent in the run.
        cpu_seconds, wall_seconds: processor and wall-clock time of sampling and training.
        returns: mean return of each evaluation.
    """

    reached: bool
    samples: int
    cpu_seconds: float
    wall_seconds: float
    returns: list[float]


def compare(task: Task, seeds: int) -> dict[str, Any]:
    """Results of all learners on one task: medians over seeds, and ratios to mores."""
    results: dict[str, list[TimedTraining]] = {name: [] for name in ("mores", *task.sb3_settings)}
    for seed in range(seeds):
        for name, trainings in results.items():
            if seed >= task.max_seeds.get(name, seeds):
                continue
            sb3 = task.sb3_settings.get(name)
            result = train_mores(task, seed) if sb3 is None else train_sb3(task, sb3, seed)
            trainings.append(result)
            note = "" if result.reached else ", threshold not reached"
            text = f"{result.cpu_seconds:.2f} s CPU, {result.wall_seconds:.2f} s wall"
            text += f", {result.samples} samples"
            print(f"{task.name} {seed} {name:8} {text}{note}", flush=True)
    rows = {name: _summary(trainings) for name, trainings in results.items()}
    for name in task.sb3_settings:
        for clock in ("seconds", "wall"):
            ratio = rows[name][clock]["median"] / rows["mores"][clock]["median"]
            rows[name][f"ratio_to_mores_{clock}"] = round(ratio, 2)
    for name, row in rows.items():
        print(task.name, name, row, flush=True)
    return {"threshold": task.threshold, "budget": task.budget, "learners": rows}


def _summary(trainings: list[TimedTraining]) -> dict[str, Any]:
    columns = {
        "seconds": [training.cpu_seconds for training in trainings],
        "wall": [training.wall_seconds for training in trainings],
        "samples": [training.samples for training in trainings],
        "samples_per_cpu_second": [
            training.samples / training.cpu_seconds for training in trainings
        ],
    }
    reached = sum(training.reached for training in trainings)
    summary: dict[str, Any] = {"seeds": len(trainings), "reached": reached}
    for name, column in columns.items():
        digits = 3 if name in ("seconds", "wall") else None
        numbers = (statistics.median(column), min(column), max(column))
        median, low, high = (round(number, digits) for number in numbers)
        summary[name] = {"median": median, "min": low, "max": high}
    return summary


def train_mores(task: Task, seed: int) -> TimedTraining:
    """Train PPO of mores on the task."""
    policies, worlds = task.policies(task.make_learner()), Worlds.grid(1, task.worlds)
    simulator = Simulator(
        task.environment, policies, None, worlds, task.rounds, autoreset_mode="same_step"
    )
    simulator.reset(seed)
    clock, samples, returns = Clock(), 0, []
    while samples < task.budget:
        clock.start()
        for _ in range(task.evaluation_interval // task.worlds):
            simulator.step()
        clock.stop()
        samples += task.evaluation_interval
        state = simulator.policy_states[task.role.name]
        state = state if task.other_policy is None else state.member_states[0]
        returns.append(task.evaluate(functools.partial(most_probable_actions, state), samples))
        if returns[-1] >= task.threshold:
            break
    return _result(task, samples, clock, returns)


def most_probable_actions(
    state: LearnerState, observation: Float[Tensor, "world size"]
) -> Int[Tensor, " world"]:
    """Most probable actions of a learner's only model."""
    model, parameters = state.spec.stacked_model, state.persistent_state.train_state.parameters
    phase = next(iter(model.action_distributions))
    inputs = observation[None]
    with torch.no_grad():
        logits, _, _ = model.forward_step(parameters, phase, inputs, inputs[..., :0])
    return logits[0].argmax(-1)


def train_sb3(task: Task, settings: Mapping[str, Any], seed: int) -> TimedTraining:
    """Train PPO of Stable-Baselines3 on the task, with these settings."""
    settings = dict(settings)
    env = make_env(task, settings.pop("n_envs"), settings.pop("vectorization"), seed)
    for name, value in settings.items():
        if isinstance(value, tuple):  # linear schedule to 0
            settings[name] = lambda remaining, initial=value[1]: remaining * initial
    learner = PPO("MlpPolicy", env, seed=seed, device="cpu", **settings)
    evaluation = EvaluationCallback(task)
    evaluation.clock.start()
    learner.learn(task.budget, evaluation, log_interval=None)
    evaluation.clock.stop()
    if not evaluation.reached:
        evaluation.evaluate()
    return _result(task, evaluation.samples, evaluation.clock, evaluation.returns)


class EvaluationCallback(BaseCallback):
    """Callback that evaluates the policy after updates, with the clock stopped."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task, self.clock = task, Clock()
        self.returns: list[float] = []
        self.samples = 0

    @property
    def reached(self) -> bool:
        """Whether the last evaluation reached the threshold."""
        return bool(self.returns) and self.returns[-1] >= self.task.threshold

    def evaluate(self) -> None:
        """Append the return of the current policy to `returns`."""
        self.samples = self.num_timesteps

        def policy(observation: Float[Tensor, "world size"]) -> Int[Tensor, " world"]:
            actions, _ = self.model.predict(observation.numpy(), deterministic=True)
            return torch.from_numpy(actions)

        self.returns.append(self.task.evaluate(policy, self.samples))

    def _on_rollout_start(self) -> None:
        if self.num_timesteps // self.task.evaluation_interval > len(self.returns):
            self.clock.stop()
            self.evaluate()
            if not self.reached:
                self.clock.start()

    def _on_step(self) -> bool:
        return not self.reached


def make_env(task: Task, worlds: int, vectorization: str, seed: int) -> vec_env.VecEnv:
    """Vector environment for Stable-Baselines3.

    Args:
        task: the task.
        worlds: number of worlds.
        vectorization: `sync`: single Gymnasium environments, one after another; `batched`:
            `SB3VecEnv`, one tensor program.
        seed: seed of the worlds.
    """
    policies = None if task.other_policy is None else {task.role.name: task.other_policy}
    agent = f"{task.role.name}_0"
    if vectorization == "batched":
        env = SB3VecEnv(task.environment, worlds, agent, task.rounds, policies)
        # As in `train_mores`, the worlds belong to one replicate (default: one replicate each).
        env.vector_env.simulator.worlds = Worlds.grid(1, worlds)
        env.seed(seed)
        return env
    if task.gymnasium_id is not None:
        return make_vec_env(task.gymnasium_id, worlds, seed)
    kwargs = {"environment": task.environment, "agent": agent, "rounds": task.rounds}
    return make_vec_env(GymnasiumEnv, worlds, seed, env_kwargs={**kwargs, "policies": policies})


def _result(task: Task, samples: int, clock: Clock, returns: list[float]) -> TimedTraining:
    reached = returns[-1] >= task.threshold
    return TimedTraining(reached, samples, clock.processor, clock.wall, returns)
