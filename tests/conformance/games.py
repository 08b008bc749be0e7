"""Small games that reach the corners of the contract, and what the tests share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from gymnasium.utils import seeding
from pydantic import Field
from torch import Tensor

from mores.agents.scripted.uniform_random import UniformRandom
from mores.core.deterministic_sum import total
from mores.core.environment import (
    ActionOutput,
    Box,
    Discrete,
    Environment,
    MultiDiscrete,
    Part,
    Phase,
    Policy,
    Role,
    StepResult,
    Transition,
)
from mores.core.people import People
from mores.core.random_streams import RandomStreams
from mores.registry import ENVIRONMENTS, class_of


@dataclasses.dataclass(frozen=True)
class Race:
    secret: Tensor  # [world, runner]
    called: Tensor  # [world, 1]
    ran: Tensor  # [world, runner]
    round: Tensor  # [world, 1]


class Relay(Environment[Race]):
    """A caller calls, runners run, the caller pays: three phases, masks, an end by chance.

    A runner earns 1, 10 and 100 times what it is worth in the three phases, so that pay shows when
    it was earned; `worth` is 1 for the first runner, 2 for the second, ...
    """

    runners: int = Field(3, ge=1)
    quits: float = Field(0.2, ge=0, le=1)

    @property
    def roles(self) -> tuple[Role, ...]:
        caller = Box.of(ran=self.runners, round=1)
        runner = Box.of(secret=1, called=Part(1, 0.0, 3.0), ran=1, phase=1)
        return Role("caller", 1, caller), Role("runner", self.runners, runner)

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (
            Phase("call", {"caller": Discrete(4)}),
            Phase("run", {"runner": Discrete(3)}),
            Phase("pay", {"caller": Discrete(2)}),
        )

    def reset(self, streams: RandomStreams, people: People | None = None) -> Race:
        secret = streams.normal("secret", self.runners)[..., 0]
        zero = torch.zeros_like(secret)
        return Race(secret, zero[:, :1], zero, zero[:, :1])

    def observe(self, state: Race, role: str, phase: str) -> Tensor:
        if role == "caller":
            return torch.cat([state.ran, state.round], -1)[:, None]
        called = state.called.expand_as(state.ran)
        number = [known.name for known in self.phases].index(phase)
        return torch.stack([state.secret, called, state.ran, 0 * called + number], -1)

    def action_mask(self, state: Race, role: str, phase: str) -> Tensor | None:
        if phase == "call":  # the last option only in odd rounds
            odd = state.round % 2 == 1
            return torch.cat([torch.ones_like(odd).expand(-1, 3), odd], -1)[:, None]
        if phase == "run":  # no third option for who has a low secret, no first for the others
            low = state.secret < 0
            return torch.stack([low, torch.ones_like(low), ~low], -1)
        return None

    def step(
        self, state: Race, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[Race]:
        worth = torch.arange(1.0, self.runners + 1).expand_as(state.ran)
        if phase == "call":
            called = actions["caller"].to(torch.float32)
            return StepResult(
                dataclasses.replace(state, called=called), {"runner": worth, "caller": called}
            )
        if phase == "run":
            ran = actions["runner"].to(torch.float32)
            secret = state.secret + 0.1 * ran * streams.normal("luck", self.runners)[..., 0]
            return StepResult(
                dataclasses.replace(state, ran=ran, secret=secret), {"runner": 10 * worth}
            )
        pays = actions["caller"].to(torch.float32)
        ended = streams.uniform("end")[:, 0, 0] < self.quits
        state = dataclasses.replace(state, round=state.round + 1)
        return StepResult(state, {"runner": 100 * worth, "caller": 0.5 * pays}, ended)

    def metrics(self, state: Race) -> Mapping[str, Tensor]:
        return {"rounds": state.round[:, 0], "ran": total(state.ran, 1), "secrets": state.secret}

    def latent(self, state: Race) -> Mapping[str, Tensor]:
        return {"secret": state.secret}

    def default_policies(self) -> Mapping[str, Policy]:
        return {"caller": AnyOption(), "runner": AnyOption()}


class AnyOption(Policy):
    """Somebody who takes any open option, and remembers how many acts that were."""

    def initial_state(
        self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams
    ) -> Tensor:
        return torch.zeros(streams.num_worlds, role.num_agents)

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Tensor,
        streams: RandomStreams,
    ) -> ActionOutput:
        name = next(name for name in ("caller", "runner") if name in phase.action_spaces)
        space = phase.action_spaces[name]
        assert isinstance(space, Discrete)
        if action_mask is None:
            action_mask = torch.ones(*observation.shape[:2], space.num_options, dtype=torch.bool)
        logits = torch.where(action_mask, 0.0, -torch.inf)
        return ActionOutput(streams.categorical("act", logits), state + 1)


class Tally(AnyOption):
    """Somebody who also keeps all that it earned: a learner, whose memory outlives episodes."""

    def on_episode_start(self, state: Tensor, initial: Any, reset_mask: Tensor) -> Tensor:
        return state

    def update(self, state: Tensor, transition: Transition, streams: RandomStreams) -> Tensor:
        return state + 1000 * transition.reward


@dataclasses.dataclass(frozen=True)
class Place:
    at: Tensor  # [world, voter, 2]


class Meeting(Environment[Place]):
    """Voters and a chair name places at once: boxes, one without bounds; no masks, no end.

    What voters see is the state itself, and the state is not contiguous.
    """

    voters: int = Field(4, ge=1)

    @property
    def roles(self) -> tuple[Role, ...]:
        return Role("voter", self.voters, Box.of(at=2)), Role("chair", 1, Box.of(middle=2))

    @property
    def phases(self) -> tuple[Phase, ...]:
        voter = Box.of(place=Part(2, -1.0, 1.0), weight=Part(1, 0.0, 1.0))
        return (Phase("vote", {"voter": voter, "chair": Box.of(pull=2)}),)

    def reset(self, streams: RandomStreams, people: People | None = None) -> Place:
        return Place(streams.normal("at", self.voters, 2))

    def observe(self, state: Place, role: str, phase: str) -> Tensor:
        return state.at if role == "voter" else total(state.at, 1)[:, None] / self.voters

    def step(
        self, state: Place, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[Place]:
        votes, pull = actions["voter"], actions["chair"].clamp(-1, 1)
        at = state.at + 0.1 * votes[..., 2:] * (votes[..., :2] - state.at) + 0.01 * pull
        at = at + 0.01 * streams.normal("noise", self.voters, 2)
        far = total(at * at, -1)
        at = at.transpose(1, 2).contiguous().transpose(1, 2)  # strides are no part of the contract
        return StepResult(Place(at), {"voter": -far, "chair": -total(far, 1)[:, None]})

    def metrics(self, state: Place) -> Mapping[str, Tensor]:
        return {"far": total(total(state.at * state.at, -1), 1)}

    def default_policies(self) -> Mapping[str, Policy]:
        return {"voter": Still(size=3), "chair": Still(size=2)}


class Still(Policy):
    """Somebody who wants the origin."""

    size: int

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Any,
        streams: RandomStreams,
    ) -> ActionOutput:
        return ActionOutput(torch.zeros(*observation.shape[:2], self.size), state)


@dataclasses.dataclass(frozen=True)
class Day:
    asked: Tensor  # [world, 1]: the place from which the clerk wants something
    at: Tensor  # [world, porter]: the place where each stands
    strength: Tensor  # [world, porter]: the most that each can carry, 1 or 2
    brought: Tensor  # [world, porter]: what each has brought today
    evening: Tensor  # [world, 1]


class Errands(Environment[Day]):
    """A clerk asks, porters go, load and hurry, all at once: several choices, with masks.

    In the morning a porter chooses a place where it is not, a load within its strength, and
    whether to run, which costs; a load from the place that was asked for pays. In the evening it
    has one load less to choose from, nothing is closed, and whoever goes home with nothing has 1.
    """

    porters: int = Field(2, ge=1)
    quits: float = Field(0.1, ge=0, le=1)

    @property
    def roles(self) -> tuple[Role, ...]:
        clerk = Box.of(brought=self.porters, evening=1)
        porter = Box.of(asked=Part(1, 0.0, 2.0), at=Part(3, 0.0, 1.0), strength=1, evening=1)
        return Role("clerk", 1, clerk), Role("porter", self.porters, porter)

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (
            Phase("ask", {"clerk": Discrete(3)}),
            Phase("morning", {"porter": MultiDiscrete((3, 3, 2))}),
            Phase("evening", {"porter": MultiDiscrete((3, 2, 2))}),
        )

    def reset(self, streams: RandomStreams, people: People | None = None) -> Day:
        place = (3 * streams.uniform("place", self.porters)[..., 0]).to(torch.int64)
        strength = 1.0 + (streams.uniform("strength", self.porters)[..., 0] < 0.5)
        nothing = torch.zeros_like(strength)
        return Day(nothing[:, :1], place, strength, nothing, nothing[:, :1])

    def observe(self, state: Day, role: str, phase: str) -> Tensor:
        if role == "clerk":
            return torch.cat([state.brought, state.evening], -1)[:, None]
        asked, evening = (x.expand_as(state.strength) for x in (state.asked, state.evening))
        at = torch.nn.functional.one_hot(state.at, 3).to(torch.float32)
        shared = [x[..., None] for x in (asked, state.strength, evening)]
        return torch.cat([shared[0], at, *shared[1:]], -1)

    def action_mask(self, state: Day, role: str, phase: str) -> Tensor | None:
        if phase != "morning":
            return None
        elsewhere = torch.arange(3) != state.at[..., None]
        light = torch.arange(3) <= state.strength[..., None]
        return torch.cat([elsewhere, light, torch.ones_like(elsewhere[..., :2])], -1)

    def step(
        self, state: Day, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[Day]:
        if phase == "ask":
            asked = actions["clerk"].to(torch.float32)
            return StepResult(dataclasses.replace(state, asked=asked, evening=0 * asked))
        place, load, runs = actions["porter"].unbind(-1)
        if phase == "morning":
            wanted = place == state.asked
            late = streams.uniform("late", self.porters)[..., 0] < 0.5
            brought = torch.where(wanted & ~(late & (runs == 0)), load, 0).to(torch.float32)
            after = dataclasses.replace(
                state, at=place, brought=brought, evening=0 * state.asked + 1
            )
            pay = {"porter": brought - 0.25 * runs, "clerk": total(brought, 1)[:, None]}
            return StepResult(after, pay)
        rests = ((place == 0) & (load == 0)).to(torch.float32)
        ended = streams.uniform("end")[:, 0, 0] < self.quits
        return StepResult(
            dataclasses.replace(state, at=place), {"porter": rests - 0.25 * runs}, ended
        )

    def metrics(self, state: Day) -> Mapping[str, Tensor]:
        return {"brought": total(state.brought, 1), "places": state.at.to(torch.float32)}

    def default_policies(self) -> Mapping[str, Policy]:
        return {"clerk": UniformRandom(), "porter": UniformRandom()}


SHIPPED = [
    kind for kind in ENVIRONMENTS if class_of("environment", kind).__module__[:6] == "mores."
]


CHANCE = {  # by default nothing in them is left to chance
    "influence": {"susceptibility": 0.5},
    "matrix_game": {"trembles": 0.3},
}


def small(kind: str) -> dict[str, Any]:
    """Parameters for a quick test: a handful of people, where there are people."""
    people = {"people": 4} if "people" in class_of("environment", kind).model_fields else {}
    return {**people, **CHANCE.get(kind, {})}


def make(kind: str) -> Environment[Any]:
    """A small game of that kind: shipped, or one of ours."""
    return OURS[kind]() if kind in OURS else class_of("environment", kind)(**small(kind))


OURS: dict[str, type[Environment[Any]]] = {"relay": Relay, "meeting": Meeting, "errands": Errands}
EVERY_GAME = [*SHIPPED, *OURS]
EVERY_SEAT = [
    (kind, f"{role.name}_{number}")
    for kind in EVERY_GAME
    for role in make(kind).roles
    for number in {0, role.num_agents - 1}
]


def table_seed(seed: int) -> int:
    """What every view makes of the seed it is reset with."""
    return int(seeding.np_random(seed)[0].integers(2**63 - 1))
