"""What is learned by one policy, and how both sides are told whether it has been.

The threshold, the budget and all settings were fixed before the seeds that are reported were
played, on other seeds; see `learning.py`.
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
from mores.core.environment import Environment, Policy, Role
from mores.core.random_streams import Worlds
from mores.envs.feedback.token_feedback import TokenFeedback
from mores.registry import make_policy
from mores.sim.simulator import Simulator

EVALUATED = 64  # worlds
FRESH = 1_000_000  # seeds of evaluations, away from those of training

Decide = Callable[[Float[Tensor, "world size"]], Int[Tensor, " world"]]


@dataclasses.dataclass(frozen=True)
class Task:
    """A seat of a game.

    Attributes:
        name: of the task.
        game: the rules.
        rounds: after so many an episode is cut off.
        threshold: mean return of the likeliest acts that counts as learned.
        every: samples (own acts) between evaluations.
        budget: samples after which it counts as not learned.
        worlds: of our learner.
        ours: our learner's settings.
        theirs: settings of Stable-Baselines3's, by name.
        seeds: sides that are so slow that they play this many seeds at most.
        best: the measure of a world that says how much can be earned in it, where there is one;
            the threshold then is a share of it.
        others: who sits at the other seats of the role.
        gymnasium: the id of the same game, where others have made it.
    """

    name: str
    game: Environment[Any]
    rounds: int
    threshold: float
    every: int
    budget: int
    worlds: int
    ours: Mapping[str, Any]
    theirs: Mapping[str, Mapping[str, Any]]
    seeds: Mapping[str, int] = dataclasses.field(default_factory=dict)
    best: str | None = None
    others: Policy | None = None
    gymnasium: str | None = None

    @property
    def role(self) -> Role:
        """Of the seat that learns, the first one."""
        return self.game.roles[0]

    def seated(self, player: Policy) -> dict[str, Policy]:
        """A player at the first seat, and the others at theirs."""
        if self.others is None:
            return {self.role.name: player}
        counts = (1, self.role.num_agents - 1)
        return {
            self.role.name: PerAgentPolicy(policies=(player, self.others), agents_per_policy=counts)
        }

    def learner(self) -> PPO:
        """Our learner."""
        made = make_policy("ppo", **self.ours)
        assert isinstance(made, PPO)
        return made

    def evaluated(self, decide: Decide, number: int) -> float:
        """Mean return over the worlds of evaluation `number`, the same for both sides.

        As a share of the best, where that is known.
        """
        name = self.role.name
        others = {} if self.others is None else {name: self.others}
        table = Simulator(
            self.game, others, {name: [0]}, worlds=Worlds.grid(1, EVALUATED), rounds=self.rounds
        )
        table.reset(FRESH + number)
        best = 1.0 if self.best is None else self.game.metrics(table.state)[self.best].mean()
        earned = torch.zeros(EVALUATED)
        while not table.all_finished:
            acted = decide(table.observe(name)[:, 0])
            earned = earned + table.step({name: acted[:, None]}).reward[name][:, 0]
        return float(earned.mean() / best)


NETWORK = {"kind": "mlp", "hidden": [64, 64]}

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
    game=CartPole(),
    gymnasium="CartPole-v1",
    rounds=500,
    threshold=475.0,
    every=1024,
    budget=102_400,
    worlds=32,
    ours={
        "network": NETWORK,
        "horizon": 16,
        "epochs": 8,
        "minibatches": 2,
        "learning_rate": 0.015,
        "discount": 0.99,
        "smoothing": 0.9,
        "entropy_weight": 0.0,
        "clip_norm": 0.0,
    },
    theirs={
        # RL Baselines3 Zoo, hyperparams/ppo.yml, for 100,000 steps
        "zoo": {
            "view": "gymnasium",
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
        "tuned": {"view": "gymnasium", **CART_POLE_TUNED},
        "batched": {"view": "batched", **CART_POLE_TUNED},
    },
)

REQUESTS_TUNED = {"gamma": 0.9, "gae_lambda": 0.8, "ent_coef": 0.0}
REQUESTS = Task(
    name="own",
    game=TokenFeedback(num_completions=2, vocab_size=8, completion_length=4, reward_timing="words"),
    rounds=100,
    threshold=0.9,
    best="optimum",
    others=make_policy("anyhow"),
    every=2048,
    budget=131_072,
    worlds=256,
    ours={
        "network": NETWORK,
        "horizon": 8,
        "epochs": 6,
        "minibatches": 4,
        "learning_rate": 0.01,
        "discount": 0.9,
        "smoothing": 0.8,
        "entropy_weight": 0.0,
    },
    theirs={
        "tuned": {
            "view": "gymnasium",
            "n_envs": 16,
            "n_steps": 64,
            "batch_size": 256,
            "n_epochs": 8,
            "learning_rate": 0.005,
            **REQUESTS_TUNED,
        },
        "batched": {
            "view": "batched",
            "n_envs": 256,
            "n_steps": 8,
            "batch_size": 512,
            "n_epochs": 6,
            "learning_rate": 0.01,
            **REQUESTS_TUNED,
        },
    },
    seeds={"tuned": 3},
)
