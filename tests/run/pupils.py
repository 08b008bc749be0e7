"""A bandit and players that learn in it: small, stacked, changed in place as real learners are.

Tests import it; runs in processes of their own load it: `mores run FILE --load pupils.py`.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from mores.core import pytree
from mores.core.environment import (
    ActionOutput,
    Box,
    Discrete,
    Environment,
    Phase,
    Policy,
    Role,
    StepResult,
    Transition,
)
from mores.core.random_streams import RandomStreams

WORTH = (0.0, 1.0, 0.2)  # what an option pays on average
BEST = 1


@dataclasses.dataclass(frozen=True)
class Paid:
    earned: Tensor  # [world], mean over gamblers, last time
    best: Tensor  # [world], share of the gamblers who took the best option


class Arcade(Environment[Paid]):
    """Gamblers, each at a machine whose options pay by chance."""

    gamblers: int = Field(default=2, ge=0)
    noise: float = Field(default=0.5, ge=0)

    @property
    def roles(self) -> tuple[Role, ...]:
        guard = Role("guard", 1, Box.of(nothing=1))
        gambler = Role("gambler", self.gamblers, Box.of(nothing=1))
        return (gambler, guard) if self.gamblers else (guard,)

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("choose", {role.name: Discrete(len(WORTH)) for role in self.roles}),)

    def reset(self, streams: RandomStreams, people: Any = None) -> Paid:
        return Paid(torch.zeros(streams.num_worlds), torch.zeros(streams.num_worlds))

    def observe(self, state: Paid, role: str, phase: str) -> Tensor:
        seats = self.gamblers if role == "gambler" else 1
        return torch.zeros(len(state.earned), seats, 1)

    def step(
        self, state: Paid, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[Paid]:
        if not self.gamblers:
            return StepResult(state)
        chosen = actions["gambler"]
        noise = self.noise * streams.normal("pay", self.gamblers)[..., 0]
        paid = torch.tensor(WORTH)[chosen] + noise
        best = (chosen == BEST).float().mean(1)
        return StepResult(Paid(paid.mean(1), best), {"gambler": paid})

    def metrics(self, state: Paid) -> Mapping[str, Tensor]:
        return {"earned": state.earned, "best": state.best}

    def latent(self, state: Paid) -> Mapping[str, Tensor]:
        return {"earned": state.earned}

    def default_policies(self) -> Mapping[str, Policy]:
        return {role.name: Anyhow() for role in self.roles}


class Anyhow(Policy):
    """Chooses anyhow."""

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Any,
        state: Any,
        streams: RandomStreams,
    ) -> ActionOutput:
        chance = streams.uniform("which", observation.shape[1])[..., 0]
        return ActionOutput((chance * len(WORTH)).long(), state)


class Maker:
    """Says what somebody is, and has no numbers; equal to itself alone."""

    def __init__(self, seats: int) -> None:
        self.seats = seats


@dataclasses.dataclass(frozen=True)
class Knows:
    last: Tensor  # [world, agent], what was chosen
    maker: Maker
    kept: pytree.Persistent  # by name, [policy, ...]: a policy for each seat of a replicate


class Pupil(Policy):
    """Chooses by weights that somebody may train."""

    learning_rate: float = Field(default=0.3, ge=0)
    broken: int = Field(default=-1, description="replicate whose first policy stops in round 5")
    secret: bool = Field(default=False, description="keeps something that cannot be saved")

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Knows:
        found, whose = streams.replicate.unique(return_inverse=True)
        firsts = torch.stack([(whose == n).nonzero()[0, 0] for n in range(len(found))])
        first = streams.take(firsts).normal("weights", role.num_agents, len(WORTH)).flatten(0, 1)
        kept = {
            "weights": 0.1 * first.t().contiguous().t(),  # columns first: strides matter to nobody
            "moments": {"mean": torch.zeros(len(first), len(WORTH))},
            "stopped": torch.full((len(first),), -1),
            "replicate": found.repeat_interleave(role.num_agents),
            "rounds": torch.zeros((), dtype=torch.int64),
            "heard": {},
        }
        if self.secret:
            kept["secret"] = random.Random(0)
        last = torch.zeros(streams.num_worlds, role.num_agents, dtype=torch.int64)
        return Knows(last, Maker(role.num_agents), pytree.Persistent(kept))

    def on_episode_start(self, state: Knows, initial: Any, reset_mask: Tensor) -> Knows:
        return state

    def _policies(self, memory: Knows, draws: RandomStreams) -> Tensor:
        """Which policy sits where, `[world, agent]`."""
        seats = memory.maker.seats
        _, whose = draws.replicate.unique(return_inverse=True)
        return whose[:, None] * seats + torch.arange(seats)

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Any,
        state: Knows,
        streams: RandomStreams,
    ) -> ActionOutput:
        weights = state.kept.value["weights"][self._policies(state, streams)]
        chosen = streams.categorical("which", weights)
        return ActionOutput(chosen, dataclasses.replace(state, last=chosen))

    def state_dict(self, state: Knows) -> Mapping[str, Tensor]:
        held = state.kept.value
        return {name: held[name] for name in ("weights", "replicate", "stopped")}

    def stop_reasons(self, state: Knows) -> list[str]:
        held, seats = state.kept.value, state.maker.seats
        return [
            f"gambler, replicate {int(held['replicate'][p])}, policy {p % seats}: "
            f"not a number in round {int(held['stopped'][p])} of its training"
            for p in (held["stopped"] >= 0).nonzero()[:, 0].tolist()
        ]

    def _trained(
        self, memory: Knows, chosen: Tensor, reward: Tensor, draws: RandomStreams
    ) -> Knows:
        """Follow the policy gradient, in place."""
        held, policies = memory.kept.value, self._policies(memory, draws)
        weights, mean = held["weights"], held["moments"]["mean"]
        held["rounds"].add_(1)
        rounds = int(held["rounds"])
        if self.secret:
            held["secret"].random()
        held["heard"][f"pay {rounds % 2}"] = reward.mean(0)
        grown = torch.nn.functional.one_hot(chosen, len(WORTH)) - weights.softmax(-1)[policies]
        step = torch.zeros_like(weights)
        step.index_add_(0, policies.flatten(), (grown * reward[..., None]).flatten(0, 1))
        mean.mul_(0.8).add_(0.2 * step)
        first = torch.arange(len(weights)) % memory.maker.seats == 0
        wrong = first & (held["replicate"] == self.broken) & (rounds >= 5)
        held["stopped"][wrong & (held["stopped"] < 0)] = rounds
        going = (held["stopped"] < 0)[:, None]
        weights.add_(torch.where(going, self.learning_rate * mean, 0.0))
        return memory


class Climber(Pupil):
    """Learns from reward, as it acts."""

    deaf: bool = Field(default=False, description="learns from noise in place of reward")

    def update(self, state: Knows, transition: Transition, streams: RandomStreams) -> Knows:
        reward = transition.reward
        if self.deaf:
            reward = streams.normal("noise", reward.shape[1])[..., 0]
        return self._trained(state, state.last, reward, streams)


class Reader(Pupil):
    """Learns from what was recorded."""

    def fit_offline(self, state: Knows, dataset: Any, streams: RandomStreams) -> Knows:
        acted = dataset.action["choose"]
        for time in range(acted.shape[1]):
            self._trained(state, acted[:, time], dataset.reward[:, time], streams)
        return state


class Hermit(Policy):
    """Keeps how often it has begun, in a way of its own."""

    def initial_state(
        self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams
    ) -> Tensor:
        return torch.zeros(streams.num_worlds)

    def on_episode_start(self, state: Tensor, initial: Any, reset_mask: Tensor) -> Tensor:
        return state + 1

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Any,
        state: Tensor,
        streams: RandomStreams,
    ) -> ActionOutput:
        chosen = state.long().clamp(max=len(WORTH) - 1)
        return ActionOutput(chosen[:, None].expand(-1, observation.shape[1]), state)

    def state_dict(self, state: Tensor) -> Mapping[str, Tensor]:
        return {"begun": state}


GAMES: dict[str, type] = {"arcade": Arcade}
KINDS: dict[str, type] = {
    "anyhow_gambler": Anyhow,
    "climber": Climber,
    "reader": Reader,
    "hermit": Hermit,
}
if __name__.startswith("mores_loaded_"):
    from mores import register

    for name, made in GAMES.items():
        register("environment", name, made)
    for name, made in KINDS.items():
        register("policy", name, made)
