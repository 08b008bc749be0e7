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
from mores.core.environment import Act, Box, Discrete, Game, Outcome, Phase, Player, Role, Step
from mores.core.random_streams import Draws

WORTH = (0.0, 1.0, 0.2)  # what an option pays on average
BEST = 1


@dataclasses.dataclass(frozen=True)
class Paid:
    earned: Tensor  # [world], mean over gamblers, last time
    best: Tensor  # [world], share of the gamblers who took the best option


class Arcade(Game[Paid]):
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

    def reset(self, draws: Draws, start: Any = None) -> Paid:
        return Paid(torch.zeros(draws.worlds), torch.zeros(draws.worlds))

    def observe(self, state: Paid, role: str, phase: str) -> Tensor:
        seats = self.gamblers if role == "gambler" else 1
        return torch.zeros(len(state.earned), seats, 1)

    def step(
        self, state: Paid, phase: str, actions: Mapping[str, Tensor], draws: Draws
    ) -> Step[Paid]:
        if not self.gamblers:
            return Step(state)
        chosen = actions["gambler"]
        noise = self.noise * draws.normal("pay", self.gamblers)[..., 0]
        paid = torch.tensor(WORTH)[chosen] + noise
        best = (chosen == BEST).float().mean(1)
        return Step(Paid(paid.mean(1), best), {"gambler": paid})

    def measures(self, state: Paid) -> Mapping[str, Tensor]:
        return {"earned": state.earned, "best": state.best}

    def hidden(self, state: Paid) -> Mapping[str, Tensor]:
        return {"earned": state.earned}

    def baseline(self) -> Mapping[str, Player]:
        return {role.name: Anyhow() for role in self.roles}


class Anyhow(Player):
    """Chooses anyhow."""

    def act(self, phase: Phase, seen: Tensor, legal: Any, memory: Any, draws: Draws) -> Act:
        chance = draws.uniform("which", seen.shape[1])[..., 0]
        return Act((chance * len(WORTH)).long(), memory)


class Maker:
    """Says what somebody is, and has no numbers; equal to itself alone."""

    def __init__(self, seats: int) -> None:
        self.seats = seats


@dataclasses.dataclass(frozen=True)
class Knows:
    last: Tensor  # [world, agent], what was chosen
    maker: Maker
    kept: pytree.Kept  # by name, [policy, ...]: a policy for each seat of a replicate


class Pupil(Player):
    """Chooses by weights that somebody may train."""

    learning_rate: float = Field(default=0.3, ge=0)
    broken: int = Field(default=-1, description="replicate whose first policy stops in round 5")
    secret: bool = Field(default=False, description="keeps something that cannot be saved")

    def start(self, role: Role, phases: tuple[Phase, ...], draws: Draws) -> Knows:
        found, whose = draws.replicate.unique(return_inverse=True)
        firsts = torch.stack([(whose == n).nonzero()[0, 0] for n in range(len(found))])
        first = draws.take(firsts).normal("weights", role.count, len(WORTH)).flatten(0, 1)
        kept = {
            "weights": 0.1 * first.t().contiguous().t(),  # columns first: strides matter to nobody
            "moments": {"mean": torch.zeros(len(first), len(WORTH))},
            "stopped": torch.full((len(first),), -1),
            "replicate": found.repeat_interleave(role.count),
            "rounds": torch.zeros((), dtype=torch.int64),
            "heard": {},
        }
        if self.secret:
            kept["secret"] = random.Random(0)
        last = torch.zeros(draws.worlds, role.count, dtype=torch.int64)
        return Knows(last, Maker(role.count), pytree.Kept(kept))

    def again(self, memory: Knows, fresh: Any, over: Tensor) -> Knows:
        return memory

    def _policies(self, memory: Knows, draws: Draws) -> Tensor:
        """Which policy sits where, `[world, agent]`."""
        seats = memory.maker.seats
        _, whose = draws.replicate.unique(return_inverse=True)
        return whose[:, None] * seats + torch.arange(seats)

    def act(self, phase: Phase, seen: Tensor, legal: Any, memory: Knows, draws: Draws) -> Act:
        weights = memory.kept.held["weights"][self._policies(memory, draws)]
        chosen = draws.choose("which", weights)
        return Act(chosen, dataclasses.replace(memory, last=chosen))

    def learned(self, memory: Knows) -> Mapping[str, Tensor]:
        held = memory.kept.held
        return {name: held[name] for name in ("weights", "replicate", "stopped")}

    def troubles(self, memory: Knows) -> list[str]:
        held, seats = memory.kept.held, memory.maker.seats
        return [
            f"gambler, replicate {int(held['replicate'][p])}, policy {p % seats}: "
            f"not a number in round {int(held['stopped'][p])} of its training"
            for p in (held["stopped"] >= 0).nonzero()[:, 0].tolist()
        ]

    def _trained(self, memory: Knows, chosen: Tensor, reward: Tensor, draws: Draws) -> Knows:
        """Follow the policy gradient, in place."""
        held, policies = memory.kept.held, self._policies(memory, draws)
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

    def learn(self, memory: Knows, outcome: Outcome, draws: Draws) -> Knows:
        reward = outcome.reward
        if self.deaf:
            reward = draws.normal("noise", reward.shape[1])[..., 0]
        return self._trained(memory, memory.last, reward, draws)


class Reader(Pupil):
    """Learns from what was recorded."""

    def fit(self, memory: Knows, experience: Any, draws: Draws) -> Knows:
        acted = experience.acted["choose"]
        for time in range(acted.shape[1]):
            self._trained(memory, acted[:, time], experience.reward[:, time], draws)
        return memory


class Hermit(Player):
    """Keeps how often it has begun, in a way of its own."""

    def start(self, role: Role, phases: tuple[Phase, ...], draws: Draws) -> Tensor:
        return torch.zeros(draws.worlds)

    def again(self, memory: Tensor, fresh: Any, over: Tensor) -> Tensor:
        return memory + 1

    def act(self, phase: Phase, seen: Tensor, legal: Any, memory: Tensor, draws: Draws) -> Act:
        chosen = memory.long().clamp(max=len(WORTH) - 1)
        return Act(chosen[:, None].expand(-1, seen.shape[1]), memory)

    def learned(self, memory: Tensor) -> Mapping[str, Tensor]:
        return {"begun": memory}


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
        register("player", name, made)
