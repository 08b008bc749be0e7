"""Small environments that cover the corner cases of the contract, and shared helpers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from gymnasium.utils import seeding
from pydantic import Field
from torch import Tensor

from mores.agents.scripted.uniform_random import UniformRandom
from mores.core.deterministic_sum import total
from mores.core.environment import Environment, Phase, Role, StepResult, Transition
from mores.core.learner import Learner
from mores.core.people import People
from mores.core.policy import ActionOutput, Policy
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete, MultiDiscrete, Part
from mores.envs.dynamics.audience import Audience
from mores.envs.dynamics.cohorts import Cohorts
from mores.envs.dynamics.trust import Trust
from mores.envs.opinion.coevolution import Coevolution
from mores.envs.opinion.coevolution_state import CoevolutionState
from mores.registry import REGISTRIES, class_of


@dataclasses.dataclass(frozen=True)
class RelayState:
    secret: Tensor  # [world, runner]
    called: Tensor  # [world, 1]
    ran: Tensor  # [world, runner]
    round: Tensor  # [world, 1]


class Relay(Environment[RelayState]):
    """A caller calls, runners run, the caller pays: three phases, masks, random termination.

    A runner earns 1, 10 and 100 times its weight in the three phases, so that a sum of rewards
    shows their phases; the weight is 1 for the first runner, 2 for the second, ...
    """

    num_runners: int = Field(default=3, ge=1)
    termination_probability: float = Field(default=0.2, ge=0, le=1)

    @property
    def roles(self) -> tuple[Role, ...]:
        caller = Box.of(ran=self.num_runners, round=1)
        runner = Box.of(secret=1, called=Part(1, 0.0, 3.0), ran=1, phase=1)
        return Role("caller", 1, caller), Role("runner", self.num_runners, runner)

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (
            Phase("call", {"caller": Discrete(4)}),
            Phase("run", {"runner": Discrete(3)}),
            Phase("pay", {"caller": Discrete(2)}),
        )

    def reset(self, streams: RandomStreams, people: People | None = None) -> RelayState:
        secret = streams.normal("secret", self.num_runners)[..., 0]
        zero = torch.zeros_like(secret)
        return RelayState(secret, zero[:, :1], zero, zero[:, :1])

    def observe(self, state: RelayState, role: str, phase: str) -> Tensor:
        if role == "caller":
            return torch.cat([state.ran, state.round], -1)[:, None]
        called = state.called.expand_as(state.ran)
        index = [each.name for each in self.phases].index(phase)
        return torch.stack([state.secret, called, state.ran, 0 * called + index], -1)

    def action_mask(self, state: RelayState, role: str, phase: str) -> Tensor | None:
        if phase == "call":  # the last option only in odd rounds
            odd = state.round % 2 == 1
            return torch.cat([torch.ones_like(odd).expand(-1, 3), odd], -1)[:, None]
        if phase == "run":  # no third option for a low secret, no first one otherwise
            low = state.secret < 0
            return torch.stack([low, torch.ones_like(low), ~low], -1)
        return None

    def step(
        self, state: RelayState, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[RelayState]:
        weight = torch.arange(1.0, self.num_runners + 1).expand_as(state.ran)
        if phase == "call":
            called = actions["caller"].to(torch.float32)
            return StepResult(
                dataclasses.replace(state, called=called), {"runner": weight, "caller": called}
            )
        if phase == "run":
            ran = actions["runner"].to(torch.float32)
            secret = state.secret + 0.1 * ran * streams.normal("luck", self.num_runners)[..., 0]
            return StepResult(
                dataclasses.replace(state, ran=ran, secret=secret), {"runner": 10 * weight}
            )
        payment = actions["caller"].to(torch.float32)
        terminated = streams.uniform("end")[:, 0, 0] < self.termination_probability
        state = dataclasses.replace(state, round=state.round + 1)
        return StepResult(state, {"runner": 100 * weight, "caller": 0.5 * payment}, terminated)

    def metrics(self, state: RelayState) -> Mapping[str, Tensor]:
        return {"rounds": state.round[:, 0], "ran": total(state.ran, 1), "secrets": state.secret}

    def latent(self, state: RelayState) -> Mapping[str, Tensor]:
        return {"secret": state.secret}

    def default_policies(self) -> Mapping[str, Policy]:
        return {"caller": RandomOption(), "runner": RandomOption()}


class RandomOption(Policy):
    """Uniform random policy whose state counts its actions."""

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


class RewardCounter(RandomOption, Learner):
    """Learner whose state adds up its rewards and outlives episodes."""

    trains: ClassVar = {"online"}

    def update(self, state: Tensor, transition: Transition, streams: RandomStreams) -> Tensor:
        return state + 1000 * transition.reward


@dataclasses.dataclass(frozen=True)
class MeetingState:
    position: Tensor  # [world, voter, 2]


class Meeting(Environment[MeetingState]):
    """Voters and a chair name places at once: boxes, one unbounded; no masks, no termination.

    The observation of voters is the state itself, and the state is not contiguous.
    """

    num_voters: int = Field(default=4, ge=1)

    @property
    def roles(self) -> tuple[Role, ...]:
        return Role("voter", self.num_voters, Box.of(at=2)), Role("chair", 1, Box.of(middle=2))

    @property
    def phases(self) -> tuple[Phase, ...]:
        voter = Box.of(place=Part(2, -1.0, 1.0), weight=Part(1, 0.0, 1.0))
        return (Phase("vote", {"voter": voter, "chair": Box.of(pull=2)}),)

    def reset(self, streams: RandomStreams, people: People | None = None) -> MeetingState:
        return MeetingState(streams.normal("at", self.num_voters, 2))

    def observe(self, state: MeetingState, role: str, phase: str) -> Tensor:
        if role == "voter":
            return state.position
        return total(state.position, 1)[:, None] / self.num_voters

    def step(
        self, state: MeetingState, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[MeetingState]:
        votes, pull = actions["voter"], actions["chair"].clamp(-1, 1)
        x = state.position
        x = x + 0.1 * votes[..., 2:] * (votes[..., :2] - x) + 0.01 * pull
        x = x + 0.01 * streams.normal("noise", self.num_voters, 2)
        distance = total(x * x, -1)
        x = x.transpose(1, 2).contiguous().transpose(1, 2)  # strides are not part of the contract
        reward = {"voter": -distance, "chair": -total(distance, 1)[:, None]}
        return StepResult(MeetingState(x), reward)

    def metrics(self, state: MeetingState) -> Mapping[str, Tensor]:
        return {"distance": total(total(state.position * state.position, -1), 1)}

    def default_policies(self) -> Mapping[str, Policy]:
        return {"voter": ZeroAction(size=3), "chair": ZeroAction(size=2)}


class ZeroAction(Policy):
    """Policy whose action is 0."""

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
class ErrandsState:
    requested: Tensor  # [world, 1]: place requested by the clerk
    place: Tensor  # [world, porter]: current place
    strength: Tensor  # [world, porter]: largest load, 1 or 2
    brought: Tensor  # [world, porter]: loads brought this day
    evening: Tensor  # [world, 1]


class Errands(Environment[ErrandsState]):
    """A clerk requests a place, porters choose place, load and speed: several choices, with masks.

    In the morning a porter chooses another place, a load within its strength, and whether to run,
    which costs 0.25; a load from the requested place is rewarded. In the evening there is one load
    option less, all options are legal, and going to place 0 without a load earns 1.
    """

    num_porters: int = Field(default=2, ge=1)
    termination_probability: float = Field(default=0.1, ge=0, le=1)

    @property
    def roles(self) -> tuple[Role, ...]:
        clerk = Box.of(brought=self.num_porters, evening=1)
        porter = Box.of(requested=Part(1, 0.0, 2.0), place=Part(3, 0.0, 1.0), strength=1, evening=1)
        return Role("clerk", 1, clerk), Role("porter", self.num_porters, porter)

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (
            Phase("ask", {"clerk": Discrete(3)}),
            Phase("morning", {"porter": MultiDiscrete((3, 3, 2))}),
            Phase("evening", {"porter": MultiDiscrete((3, 2, 2))}),
        )

    def reset(self, streams: RandomStreams, people: People | None = None) -> ErrandsState:
        place = (3 * streams.uniform("place", self.num_porters)[..., 0]).to(torch.int64)
        strength = 1.0 + (streams.uniform("strength", self.num_porters)[..., 0] < 0.5)
        zero = torch.zeros_like(strength)
        return ErrandsState(zero[:, :1], place, strength, zero, zero[:, :1])

    def observe(self, state: ErrandsState, role: str, phase: str) -> Tensor:
        if role == "clerk":
            return torch.cat([state.brought, state.evening], -1)[:, None]
        requested, evening = (x.expand_as(state.strength) for x in (state.requested, state.evening))
        place = torch.nn.functional.one_hot(state.place, 3).to(torch.float32)
        shared = [x[..., None] for x in (requested, state.strength, evening)]
        return torch.cat([shared[0], place, *shared[1:]], -1)

    def action_mask(self, state: ErrandsState, role: str, phase: str) -> Tensor | None:
        if phase != "morning":
            return None
        elsewhere = torch.arange(3) != state.place[..., None]
        light = torch.arange(3) <= state.strength[..., None]
        return torch.cat([elsewhere, light, torch.ones_like(elsewhere[..., :2])], -1)

    def step(
        self, state: ErrandsState, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[ErrandsState]:
        if phase == "ask":
            requested = actions["clerk"].to(torch.float32)
            return StepResult(
                dataclasses.replace(state, requested=requested, evening=0 * requested)
            )
        place, load, run = actions["porter"].unbind(-1)
        if phase == "morning":
            matches = place == state.requested
            late = streams.uniform("late", self.num_porters)[..., 0] < 0.5
            brought = torch.where(matches & ~(late & (run == 0)), load, 0).to(torch.float32)
            state = dataclasses.replace(
                state, place=place, brought=brought, evening=0 * state.requested + 1
            )
            reward = {"porter": brought - 0.25 * run, "clerk": total(brought, 1)[:, None]}
            return StepResult(state, reward)
        at_home = ((place == 0) & (load == 0)).to(torch.float32)
        terminated = streams.uniform("end")[:, 0, 0] < self.termination_probability
        return StepResult(
            dataclasses.replace(state, place=place), {"porter": at_home - 0.25 * run}, terminated
        )

    def metrics(self, state: ErrandsState) -> Mapping[str, Tensor]:
        return {"brought": total(state.brought, 1), "places": state.place.to(torch.float32)}

    def default_policies(self) -> Mapping[str, Policy]:
        return {"clerk": UniformRandom(), "porter": UniformRandom()}


class PersonalAdvice(Coevolution):
    """Two assistants with an agent for each person, and newcomers, trust and a bound."""

    num_people: int = 4
    num_assistants: int = 2
    audience: Audience = "person"
    confidence_bound: float | None = 2.0
    trust: Trust = Trust(initial_trust=0.5, learning_rate=0.2)
    cohorts: Cohorts = Cohorts(turnover=0.2, tutoring_share=0.5)


class GroupAdvice(PersonalAdvice):
    """The same with an agent for each of three groups, one without people at the start."""

    audience: Audience = "group"
    num_groups: int | None = 3

    def reset(self, streams: RandomStreams, people: People | None = None) -> CoevolutionState:
        values = streams.normal("values", self.num_people, self.num_values)
        odd = torch.arange(self.num_people) % 2
        return super().reset(streams, People(values, groups=2 * odd.expand(values.shape[:2])))


SHIPPED = [
    kind
    for kind in REGISTRIES["environment"]
    if class_of("environment", kind).__module__[:6] == "mores."
]
# Parameters without which episodes start alike, or end early.
STOCHASTIC: dict[str, dict[str, Any]] = {
    "contracts": {
        "game": {
            "kind": "linear",
            "num_agents": 2,
            "risk_aversion": [0.5, 1.5],
            "types_fixed": False,
        }
    },
    "control": {"protocol": "auditor", "objective": "success_count"},
    "dr_mdp": {"susceptibility": 0.5},
    "matrix_game": {"tremble_probability": 0.3},
    "opinion_messages": {"max_bytes": 12},
    "perspectives": {"max_bytes": 12, "answer_bytes": 80},
    "text_requests": {"max_bytes": 12},
}


def small(kind: str) -> dict[str, Any]:
    """Parameters for a fast test: four people, where there are people."""
    has_people = "num_people" in class_of("environment", kind).model_fields
    return {**({"num_people": 4} if has_people else {}), **STOCHASTIC.get(kind, {})}


def make(kind: str) -> Environment[Any]:
    """A small environment of that kind, shipped or defined here."""
    if kind in TEST_ENVIRONMENTS:
        return TEST_ENVIRONMENTS[kind]()
    return class_of("environment", kind)(**small(kind))


TEST_ENVIRONMENTS: dict[str, type[Environment[Any]]] = {
    "relay": Relay,
    "meeting": Meeting,
    "errands": Errands,
    "coevolution_person": PersonalAdvice,
    "coevolution_group": GroupAdvice,
}
ALL_KINDS = [*SHIPPED, *TEST_ENVIRONMENTS]
ALL_AGENTS = [
    (kind, f"{role.name}_{number}")
    for kind in ALL_KINDS
    for role in make(kind).roles
    for number in {0, role.num_agents - 1}
]


def simulator_seed(seed: int) -> int:
    """The seed of the simulator of a client that was reset with `seed`."""
    return int(seeding.np_random(seed)[0].integers(2**63 - 1))
