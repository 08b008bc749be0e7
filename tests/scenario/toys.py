"""A small environment with its players and population, to write scenarios about.

Also what a user's own file looks like: `mores check FILE --load toys.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from mores.core.deterministic_sum import mean, norm
from mores.core.environment import (
    ActionOutput,
    Box,
    Config,
    Environment,
    Phase,
    Policy,
    Role,
    StepResult,
)
from mores.core.errors import UserError
from mores.core.people import People
from mores.core.random_streams import RandomStreams
from mores.registry import register


@dataclasses.dataclass(frozen=True)
class State:
    values: Tensor
    start: Tensor


class Shape(Config):
    kind: Literal["ring", "star"] = "ring"
    ties: int = Field(2, ge=1)


class Walk(Environment[State]):
    """People who walk where they say they will."""

    tags: ClassVar[Mapping[str, object]] = {"stochastic": True, "paper": ("1234.5678", "toy")}

    people: int = Field(4, ge=1, le=1_000_000)
    values: int = Field(2, ge=1, le=1_000_000)
    helpers: int = Field(1, ge=0)
    pull: float = Field(0.5, ge=0, le=1)
    greeting: str = "hello"
    quick: bool = False
    shape: Shape = Shape()
    size: int | Literal["small", "large"] = "small"

    @property
    def roles(self) -> tuple[Role, ...]:
        person = Role("person", self.people, Box.of(values=self.values))
        helper = Role("helper", self.helpers, Box.of(values=self.values))
        return (person, helper) if self.helpers else (person,)

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("walk", {role.name: Box.of(to=self.values) for role in self.roles}),)

    def reset(self, streams: RandomStreams, people: People | None = None) -> State:
        if people is None:
            people = People(streams.normal("values", self.people, self.values))
        if tuple(people.values.shape[1:]) != (self.people, self.values):
            raise UserError("the population does not fit the environment", code="wrong_shape")
        return State(people.values, people.values)

    def observe(self, state: State, role: str, phase: str) -> Tensor:
        return state.values if role == "person" else mean(state.values, 1)[:, None]

    def step(
        self, state: State, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[State]:
        moved = state.values + self.pull * (actions["person"] - state.values)
        return StepResult(dataclasses.replace(state, values=moved))

    def metrics(self, state: State) -> Mapping[str, Tensor]:
        centre = mean(state.values, 1)
        return {"centre": centre, "drift": norm(centre - mean(state.start, 1))}

    def analytic_values(self, policies: Mapping[str, Policy], rounds: int) -> Mapping[str, float]:
        return {"drift": 0.0} if isinstance(policies["person"], Still) else {}

    def default_policies(self) -> Mapping[str, Policy]:
        return {role.name: Still() for role in self.roles}


class Bare(Walk):
    """The same, where nobody helps unless somebody is named."""

    def default_policies(self) -> Mapping[str, Policy]:
        return {"person": Still()}


class Still(Policy):
    """Stays where they are."""

    tags: ClassVar[Mapping[str, object]] = {"stochastic": False}

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Any,
        streams: RandomStreams,
    ) -> ActionOutput:
        return ActionOutput(observation, state)


class Stride(Policy):
    """Goes on by as much every round."""

    by: float = Field(1.0, ge=0, le=5)

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> None:
        if self.by == 5:
            raise UserError("a stride of 5 is out of step", code="invalid_value", path="by")

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Any,
        streams: RandomStreams,
    ) -> ActionOutput:
        return ActionOutput(observation + self.by, state)


class Tiny(Config):
    kind: Literal["tiny"] = "tiny"
    size: int = Field(1, ge=1, le=9, description="how many")


class Deep(Config):
    kind: Literal["deep"] = "deep"
    hidden: list[Annotated[int, Field(ge=1)]] = Field([8, 8], description="units of each layer")


class Pupil(Stride):
    """Learns from reward, and from what it did."""

    body: Annotated[Tiny | Deep, Field(discriminator="kind")] = Field(
        default=Deep(), description="what it is made of"
    )

    def on_episode_start(self, state: Any, initial: Any, reset_mask: Tensor) -> Any:
        return state

    def update(self, state: Any, transition: Any, streams: RandomStreams) -> Any:
        return state

    def fit_offline(self, state: Any, dataset: Any, streams: RandomStreams) -> Any:
        return state


class Crowd(Config):
    """A crowd at zero."""

    heads: int = Field(6, ge=1)
    resample: bool = False

    def supplies(self) -> dict[str, int]:
        return {"people": self.heads, "values": 2}

    def sample_people(self, draws: RandomStreams) -> People:
        return People(torch.zeros(draws.num_worlds, self.heads, 2))


class Herd:
    """A population that is no pydantic class."""

    def __init__(self, heads: int = 3) -> None:
        self.heads = heads

    @property
    def supplies(self) -> dict[str, int]:
        return {"people": self.heads}

    def sample_people(self, draws: RandomStreams) -> People:
        return People(torch.zeros(draws.num_worlds, self.heads, 2))


register("environment", "toy_walk", Walk)
register("environment", "toy_bare", Bare)
register("policy", "toy_still", Still)
register("policy", "toy_stride", Stride)
register("policy", "toy_pupil", Pupil)
register("population", "toy_crowd", Crowd)
register("population", "toy_herd", Herd)
