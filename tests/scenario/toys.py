"""A small environment with policies and populations, for scenarios of tests.

Also an example of a plugin: `mores check FILE --load toys.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from mores.core.config import Config
from mores.core.deterministic_sum import mean, norm
from mores.core.environment import Environment, Phase, Role, StepResult
from mores.core.errors import UserError
from mores.core.learner import Learner
from mores.core.people import People, Population
from mores.core.policy import ActionOutput, Policy
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box
from mores.registry import register


@dataclasses.dataclass(frozen=True)
class State:
    values: Tensor
    start: Tensor


class Shape(Config):
    kind: Literal["ring", "star"] = "ring"
    degree: int = Field(2, ge=1)


class Walk(Environment[State]):
    """People who walk towards their actions."""

    tags: ClassVar[Mapping[str, object]] = {"stochastic": True, "paper": ("1234.5678", "toy")}

    num_people: int = Field(4, ge=1, le=1_000_000)
    num_values: int = Field(2, ge=1, le=1_000_000)
    num_helpers: int = Field(1, ge=0)
    rate: float = Field(0.5, ge=0, le=1)
    greeting: str = "hello"
    quick: bool = False
    shape: Shape = Shape()
    size: int | Literal["small", "large"] = "small"

    @property
    def roles(self) -> tuple[Role, ...]:
        person = Role("person", self.num_people, Box.of(values=self.num_values))
        helper = Role("helper", self.num_helpers, Box.of(values=self.num_values))
        return (person, helper) if self.num_helpers else (person,)

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("walk", {role.name: Box.of(to=self.num_values) for role in self.roles}),)

    def reset(self, streams: RandomStreams, people: People | None = None) -> State:
        if people is None:
            people = People(streams.normal("values", self.num_people, self.num_values))
        if tuple(people.values.shape[1:]) != (self.num_people, self.num_values):
            raise UserError("the population does not fit the environment", code="wrong_shape")
        return State(people.values, people.values)

    def observe(self, state: State, role: str, phase: str) -> Tensor:
        return state.values if role == "person" else mean(state.values, 1)[:, None]

    def step(
        self, state: State, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[State]:
        moved = state.values + self.rate * (actions["person"] - state.values)
        return StepResult(dataclasses.replace(state, values=moved))

    def metrics(self, state: State) -> Mapping[str, Tensor]:
        mean_value = mean(state.values, 1)
        drift = norm(mean_value - mean(state.start, 1))
        return {"mean_value": mean_value, "drift": drift}

    def analytic_values(self, policies: Mapping[str, Policy], rounds: int) -> Mapping[str, float]:
        return {"drift": 0.0} if isinstance(policies["person"], Still) else {}

    def default_policies(self) -> Mapping[str, Policy]:
        return {role.name: Still() for role in self.roles}


class Bare(Walk):
    """The same environment without a default policy for helpers."""

    def default_policies(self) -> Mapping[str, Policy]:
        return {"person": Still()}


class Still(Policy):
    """People who stay at their place."""

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
    """People who move by the same step in every round."""

    step: float = Field(1.0, ge=0, le=5)

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> None:
        if self.step == 5:
            raise UserError("a step of 5 is not supported", code="invalid_value", path="step")

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Any,
        streams: RandomStreams,
    ) -> ActionOutput:
        return ActionOutput(observation + self.step, state)


class Tiny(Config):
    kind: Literal["tiny"] = "tiny"
    size: int = Field(1, ge=1, le=9, description="how many")


class Deep(Config):
    kind: Literal["deep"] = "deep"
    hidden_sizes: list[Annotated[int, Field(ge=1)]] = Field(
        [8, 8], description="units of each layer"
    )


class StrideLearner(Stride, Learner):
    """Trains online and from recorded episodes."""

    trains: ClassVar = {"online", "offline"}

    network: Annotated[Tiny | Deep, Field(discriminator="kind")] = Field(
        default=Deep(), description="network of the policy"
    )

    def update(self, state: Any, transition: Any, streams: RandomStreams) -> Any:
        return state

    def fit_offline(self, state: Any, dataset: Any, streams: RandomStreams) -> Any:
        return state


class Crowd(Population):
    """People with all values at zero."""

    num_people: int = Field(6, ge=1)
    resample: bool = False

    @property
    def resamples_people(self) -> bool:
        return self.resample

    def environment_parameters(self) -> dict[str, int]:
        return {"num_people": self.num_people, "num_values": 2}

    def sample_people(self, streams: RandomStreams) -> People:
        return People(torch.zeros(streams.num_worlds, self.num_people, 2))


register("environment", "toy_walk", Walk)
register("environment", "toy_bare", Bare)
register("policy", "toy_still", Still)
register("policy", "toy_stride", Stride)
register("policy", "toy_learner", StrideLearner)
register("population", "toy_crowd", Crowd)
