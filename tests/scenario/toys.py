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
from mores.core.environment import Act, Box, Configured, Game, Phase, Player, Role, Step
from mores.core.errors import UserError
from mores.core.people import People
from mores.core.random_streams import Draws
from mores.registry import register


@dataclasses.dataclass(frozen=True)
class State:
    values: Tensor
    start: Tensor


class Shape(Configured):
    kind: Literal["ring", "star"] = "ring"
    ties: int = Field(2, ge=1)


class Walk(Game[State]):
    """People who walk where they say they will."""

    traits: ClassVar[Mapping[str, object]] = {"stochastic": True, "paper": ("1234.5678", "toy")}

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

    def reset(self, draws: Draws, start: People | None = None) -> State:
        if start is None:
            start = People(draws.normal("values", self.people, self.values))
        if tuple(start.values.shape[1:]) != (self.people, self.values):
            raise UserError("the population does not fit the environment", code="wrong_shape")
        return State(start.values, start.values)

    def observe(self, state: State, role: str, phase: str) -> Tensor:
        return state.values if role == "person" else mean(state.values, 1)[:, None]

    def step(
        self, state: State, phase: str, actions: Mapping[str, Tensor], draws: Draws
    ) -> Step[State]:
        moved = state.values + self.pull * (actions["person"] - state.values)
        return Step(dataclasses.replace(state, values=moved))

    def measures(self, state: State) -> Mapping[str, Tensor]:
        centre = mean(state.values, 1)
        return {"centre": centre, "drift": norm(centre - mean(state.start, 1))}

    def predictions(self, players: Mapping[str, Player], rounds: int) -> Mapping[str, float]:
        return {"drift": 0.0} if isinstance(players["person"], Still) else {}

    def baseline(self) -> Mapping[str, Player]:
        return {role.name: Still() for role in self.roles}


class Bare(Walk):
    """The same, where nobody helps unless somebody is named."""

    def baseline(self) -> Mapping[str, Player]:
        return {"person": Still()}


class Still(Player):
    """Stays where they are."""

    traits: ClassVar[Mapping[str, object]] = {"stochastic": False}

    def act(
        self, phase: Phase, seen: Tensor, legal: Tensor | None, memory: Any, draws: Draws
    ) -> Act:
        return Act(seen, memory)


class Stride(Player):
    """Goes on by as much every round."""

    by: float = Field(1.0, ge=0, le=5)

    def start(self, role: Role, phases: tuple[Phase, ...], draws: Draws) -> None:
        if self.by == 5:
            raise UserError("a stride of 5 is out of step", code="invalid_value", path="by")

    def act(
        self, phase: Phase, seen: Tensor, legal: Tensor | None, memory: Any, draws: Draws
    ) -> Act:
        return Act(seen + self.by, memory)


class Tiny(Configured):
    kind: Literal["tiny"] = "tiny"
    size: int = Field(1, ge=1, le=9, description="how many")


class Deep(Configured):
    kind: Literal["deep"] = "deep"
    hidden: list[Annotated[int, Field(ge=1)]] = Field([8, 8], description="units of each layer")


class Pupil(Stride):
    """Learns from reward, and from what it did."""

    body: Annotated[Tiny | Deep, Field(discriminator="kind")] = Field(
        default=Deep(), description="what it is made of"
    )

    def again(self, memory: Any, fresh: Any, over: Tensor) -> Any:
        return memory

    def learn(self, memory: Any, outcome: Any, draws: Draws) -> Any:
        return memory

    def fit(self, memory: Any, experience: Any, draws: Draws) -> Any:
        return memory


class Crowd(Configured):
    """A crowd at zero."""

    heads: int = Field(6, ge=1)
    resample: bool = False

    def supplies(self) -> dict[str, int]:
        return {"people": self.heads, "values": 2}

    def people(self, draws: Draws) -> People:
        return People(torch.zeros(draws.worlds, self.heads, 2))


class Herd:
    """A population that is no pydantic class."""

    def __init__(self, heads: int = 3) -> None:
        self.heads = heads

    @property
    def supplies(self) -> dict[str, int]:
        return {"people": self.heads}

    def people(self, draws: Draws) -> People:
        return People(torch.zeros(draws.worlds, self.heads, 2))


register("environment", "toy_walk", Walk)
register("environment", "toy_bare", Bare)
register("player", "toy_still", Still)
register("player", "toy_stride", Stride)
register("player", "toy_pupil", Pupil)
register("population", "toy_crowd", Crowd)
register("population", "toy_herd", Herd)
