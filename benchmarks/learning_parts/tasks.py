"""Tasks for one agent, and the evaluation that both libraries share.

Thresholds, budgets and all settings were fixed on other seeds, before the reported seeds were run;
see `learning.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmarks.cart_pole import CartPole
from mores.agents.composite.per_agent import PerAgentPolicy
from mores.agents.learning.recipes.ppo import PPO
from mores.core.environment import Environment, Role
from mores.core.policy import Policy
from mores.core.random_streams import Worlds
from mores.envs.feedback.token_feedback import TokenFeedback
from mores.registry import make_policy
from mores.sim.simulator import Simulator

EVALUATION_WORLDS = 64
EVALUATION_SEED = 1_000_000  # of the first evaluation, different from training seeds

PolicyFunction = Callable[[Float[Tensor, "world size"]], Int[Tensor, " world"]]


@dataclasses.dataclass(frozen=True)
class Task:
    """An agent of an environment to train, with the settings of all learners.

    Attributes:
        name: name of the task.
        environment: environment of mores.
        rounds: maximum length of an episode.
        threshold: mean return of the most probable actions that counts as solved.
        evaluation_interval: samples (actions of the agent) between evaluations.
        budget: samples after which training counts as unsuccessful.
        worlds: number of worlds of the PPO of mores.
        settings: settings of the PPO of mores.
        sb3_settings: settings of Stable-Baselines3's PPO, by name.
        max_seeds: maximum number of seeds of slow learners, by name.
        optimum_metric: metric of a world's optimal return; the threshold is then a share of it.
        other_policy: policy of the other agents of the role.
        gymnasium_id: id of the same environment in Gymnasium.
    """

    name: str
    environment: Environment[Any]
    rounds: int
    threshold: float
    evaluation_interval: int
    budget: int
    worlds: int
    settings: Mapping[str, Any]
    sb3_settings: Mapping[str, Mapping[str, Any]]
    max_seeds: Mapping[str, int] = dataclasses.field(default_factory=dict)
    optimum_metric: str | None = None
    other_policy: Policy | None = None
    gymnasium_id: str | None = None

    @property
    def role(self) -> Role:
        """Role of the trained agent, which is its first agent."""
        return self.environment.roles[0]

    def policies(self, policy: Policy) -> dict[str, Policy]:
        """Policies with `policy` for the first agent of the role."""
        if self.other_policy is not None:
            counts = (1, self.role.num_agents - 1)
            members = (policy, self.other_policy)
            policy = PerAgentPolicy(policies=members, agents_per_policy=counts)
        return {self.role.name: policy}

    def make_learner(self) -> PPO:
        """The PPO of mores."""
        return PPO(**self.settings)

    def evaluate(self, policy: PolicyFunction, number: int) -> float:
        """Mean return over the worlds of evaluation `number`, equal for all learners.

        A share of the optimum, where `optimum_metric` is given.
        """
        name, worlds = self.role.name, Worlds.grid(1, EVALUATION_WORLDS)
        others = {} if self.other_policy is None else {name: self.other_policy}
        simulator = Simulator(self.environment, others, {name: [0]}, worlds, self.rounds)
        simulator.reset(EVALUATION_SEED + number)
        optimum: Tensor | float = 1.0
        if self.optimum_metric is not None:
            optimum = self.environment.metrics(simulator.state)[self.optimum_metric].mean()
        total = torch.zeros(EVALUATION_WORLDS)
        while not simulator.all_finished:
            action = policy(simulator.observe(name)[:, 0])
            total = total + simulator.step({name: action[:, None]}).reward[name][:, 0]
        return float(total.mean() / optimum)


NETWORK = {"kind": "mlp", "hidden_sizes": [64, 64]}

CART_POLE_TUNED = {
    "n_envs": 16,
    "n_steps": 32,
    "batch_size": 256,
    "n_epochs": 8,
    "gamma": 0.99,
    "gae_lambda": 0.9,
    "learning_rate": 0.015,
    "ent_coef": 0.0,
    "max_grad_norm": 1e9,
}
CART_POLE = Task(
    name="cartpole",
    environment=CartPole(),
    gymnasium_id="CartPole-v1",
    rounds=500,
    threshold=475.0,
    evaluation_interval=1024,
    budget=102_400,
    worlds=32,
    settings={
        "network": NETWORK,
        "num_steps": 16,
        "update_epochs": 8,
        "num_minibatches": 2,
        "learning_rate": 0.015,
        "gamma": 0.99,
        "gae_lambda": 0.9,
        "ent_coef": 0.0,
        "max_grad_norm": 0.0,
    },
    sb3_settings={
        # RL Baselines3 Zoo, hyperparams/ppo.yml, for 100,000 steps
        "zoo": {
            "vectorization": "sync",
            "n_envs": 8,
            "n_steps": 32,
            "batch_size": 256,
            "n_epochs": 20,
            "gamma": 0.98,
            "gae_lambda": 0.8,
            "learning_rate": ("linear", 0.001),
            "clip_range": ("linear", 0.2),
            "ent_coef": 0.0,
        },
        "tuned": {"vectorization": "sync", **CART_POLE_TUNED},
        "batched": {"vectorization": "batched", **CART_POLE_TUNED},
    },
)

TOKEN_FEEDBACK_TUNED = {"gamma": 0.9, "gae_lambda": 0.8, "ent_coef": 0.0}
TOKEN_FEEDBACK = Task(
    name="own",
    environment=TokenFeedback(
        num_completions=2, vocab_size=8, completion_length=4, reward_timing="per_token"
    ),
    rounds=100,
    threshold=0.9,
    optimum_metric="optimal_score",
    other_policy=make_policy("random"),
    evaluation_interval=2048,
    budget=131_072,
    worlds=256,
    settings={
        "network": NETWORK,
        "num_steps": 8,
        "update_epochs": 6,
        "num_minibatches": 4,
        "learning_rate": 0.01,
        "gamma": 0.9,
        "gae_lambda": 0.8,
        "ent_coef": 0.0,
    },
    sb3_settings={
        "tuned": {
            "vectorization": "sync",
            "n_envs": 16,
            "n_steps": 64,
            "batch_size": 256,
            "n_epochs": 8,
            "learning_rate": 0.005,
            **TOKEN_FEEDBACK_TUNED,
        },
        "batched": {
            "vectorization": "batched",
            "n_envs": 256,
            "n_steps": 8,
            "batch_size": 512,
            "n_epochs": 6,
            "learning_rate": 0.01,
            **TOKEN_FEEDBACK_TUNED,
        },
    },
    max_seeds={"tuned": 3},
)
