"""The contract: what an environment says of itself, and what a player at one of its seats does.

A *world* is one community. Worlds are played in batches: every tensor of a state leads with the
world dimension. A *round* is a sequence of *phases*; in a phase the seats of some *roles* act at
once, all seeing the same state. Whoever writes an environment subclasses `Environment`, whoever writes
somebody to sit at it subclasses `Policy`; both are plain parameters plus pure functions.

Dimensions, used everywhere in this order: world, agent, option | value.
"""

from __future__ import annotations

import dataclasses
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from mores.core.errors import UserError, did_you_mean
from mores.core.people import People
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box as Box
from mores.core.spaces import Discrete as Discrete
from mores.core.spaces import MultiDiscrete as MultiDiscrete
from mores.core.spaces import Part as Part
from mores.core.spaces import Space as Space

State = TypeVar("State")


ObservationModel = Callable[[Tensor, Tensor], Tensor]
Capability = Literal["update", "fit_offline", "act_with_search", "on_episode_start", "share_parameters"]


@dataclasses.dataclass(frozen=True)
class Role:
    """A kind of seat: how many there are, and what one of them sees.

    Attributes:
        name: of the role.
        num_agents: how many seats.
        observation_space: the layout of what one sees.
        observation_model: where one's next sight follows from this one and one's act alone (a writer knows what
            is written), the function `(seen, action) -> seen`; players may look ahead by it.
    """

    name: str
    num_agents: int
    observation_space: Box
    observation_model: ObservationModel | None = None


@dataclasses.dataclass(frozen=True)
class Phase:
    """A part of a round: the roles that act in it at once, and what each may do."""

    name: str
    action_spaces: Mapping[str, Space]


@dataclasses.dataclass(frozen=True)
class StepResult(Generic[State]):
    """What a phase led to.

    Attributes:
        state: the next state.
        reward: what each role's seats earned, `[world, agent]`; a role not named earned nothing.
        terminated: worlds whose episode is over, `[world]`; read only in a round's last phase.
        feedback: by role, what its seats are told of what they did, beyond reward: tensors
            `[world, agent, ...]` by the names of `mores.agents.learning.batch`. Only learners
            hear of it.
    """

    state: State
    reward: Mapping[str, Float[Tensor, "world agent"]] = dataclasses.field(default_factory=dict)
    terminated: Bool[Tensor, " world"] | None = None
    feedback: Mapping[str, Mapping[str, Tensor]] = dataclasses.field(default_factory=dict)


class Config(BaseModel):
    """Something made from named, checked parameters: unknown names and wrong values are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, ignored_types=(functools.cached_property,)
    )


class Environment(Config, ABC, Generic[State]):
    """An environment: parameters as fields, and pure functions from state to state.

    Static data (a network, a table) may be cached on the game; all that changes is in the state,
    whose tensors lead with the world dimension. `mores.envs` holds examples.
    """

    tags: ClassVar[Mapping[str, object]] = {}  # for `mores list --where`
    value_names: ClassVar[tuple[str, ...]] = ()  # of people's values, for pictures
    solver_values: ClassVar[frozenset[str]] = (
        frozenset()
    )  # predictions that an exact solver computes

    def __class_getitem__(cls, typevar_values: Any) -> type[Any]:
        """`Game[State]` is for type checkers: when run it is the class, not a model of its own."""
        return cls

    @property
    @abstractmethod
    def roles(self) -> tuple[Role, ...]:
        """The kinds of seats."""

    @property
    @abstractmethod
    def phases(self) -> tuple[Phase, ...]:
        """The parts of a round, in order."""

    @abstractmethod
    def reset(self, streams: RandomStreams, people: People | None = None) -> State:
        """A first state. `people`: people made elsewhere (a population, real data)."""

    @abstractmethod
    def observe(self, state: State, role: str, phase: str) -> Float[Tensor, "world agent size"]:
        """What each seat of a role may see, in any phase. A person sees nobody else's values."""

    def action_mask(
        self, state: State, role: str, phase: str
    ) -> Bool[Tensor, "world agent option"] | None:
        """Which options are open to each seat; `None`: all of them."""
        return None

    @abstractmethod
    def step(
        self, state: State, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[State]:
        """What follows when the phase's roles act: pure, the given state is left as it was.

        Name the purpose of every draw once; a purpose drawn in two phases of a round gives the
        same numbers twice.
        """

    @abstractmethod
    def metrics(self, state: State) -> Mapping[str, Float[Tensor, "world *agent"]]:
        """What is reported of each world, `[world]`, or of its agents or values, `[world, n]`."""

    @property
    def elements_per_world(self) -> int:
        """Numbers that a world needs at once, roughly: runs are cut into chunks by it."""
        return sum(role.num_agents * role.observation_space.size for role in self.roles)

    def latent(self, state: State) -> Mapping[str, Tensor]:
        """What no player may see, for measures and pictures: `[world, ...]` by name."""
        return {}

    def analytic_values(
        self, policies: Mapping[str, Policy], rounds: int
    ) -> Mapping[str, float | Float[np.ndarray, " round"]]:
        """What theory says a measure comes to, given who plays: formulas by name.

        A number, or one for each number of rounds completed, 0 to `rounds`.
        """
        return {}

    def min_rounds_message(self, rounds: int) -> str:
        """Why nobody can learn anything in episodes of so many rounds, if that is so."""
        return ""

    def default_policies(self) -> Mapping[str, Policy]:
        """A scripted player for each role."""
        return {}


@dataclasses.dataclass(frozen=True)
class ActionOutput:
    """What a role's seats do, `[world, agent]` or `[world, agent, size]`, and what they keep."""

    action: Tensor
    state: Any = None
    extra: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Transition:
    """What a round led to for the seats of a role, told to a player that learns.

    Attributes:
        reward: what they earned in the round.
        terminated: worlds whose episode ended by itself.
        truncated: worlds whose episode was cut off by the limit of rounds.
        finished: worlds that had ended before, and stood still.
        next_observation: what they see now, in the first phase in which they act; in worlds that were cut off,
            what they would have acted on next.
        feedback: as in `StepResult`, of all phases of the round.
    """

    reward: Float[Tensor, "world agent"]
    terminated: Bool[Tensor, " world"]
    truncated: Bool[Tensor, " world"]
    finished: Bool[Tensor, " world"]
    next_observation: Float[Tensor, "world agent size"]
    feedback: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)

    @property
    def done(self) -> Bool[Tensor, " world"]:
        """Worlds whose episode ended in this round, either way."""
        return self.terminated | self.truncated


class Policy(Config, ABC):
    """Somebody who fills all seats of a role in every world: a rule, a policy, a population model.

    Memory is anything made of tensors that lead with the world dimension, and of `tree.Kept` parts
    that do not. Beliefs end with the episode, learned parameters do not: `again` decides.
    """

    tags: ClassVar[Mapping[str, object]] = {}

    def supports(self, capability: Capability) -> bool:
        """Whether it does something of its own here: a player that defines no `learn` cannot.

        `again`: what it has learned outlives an episode. Whoever delegates to others answers for
        them.
        """
        return getattr(type(self), capability) is not getattr(Policy, capability)

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Any:
        """Memory at the first episode's start, for `streams.num_worlds` worlds."""
        return None

    @abstractmethod
    def act(
        self,
        phase: Phase,
        observation: Float[Tensor, "world agent size"],
        action_mask: Bool[Tensor, "world agent option"] | None,
        state: Any,
        streams: RandomStreams,
    ) -> ActionOutput:
        """Act in a phase, on what the seats see and remember."""

    def on_episode_start(
        self, state: Any, initial: Callable[[], Any], reset_mask: Bool[Tensor, " world"]
    ) -> Any:
        """Memory when the worlds `reset_mask` begin anew; `initial()` is `initial_state`'s memory for just those.

        Also when a stage begins, with the memory of the one before. Whoever needs nothing fresh
        does not call it, and spares the making.
        """
        from mores.core import pytree

        return initial() if bool(reset_mask.all()) else pytree.scatter(state, initial(), reset_mask)

    def on_stage_start(self, state: Any, role: Role) -> Any:
        """Memory that another stage left, as the next one begins at this role.

        Called before `again`. What was gathered and not yet learned from may be dropped; the role
        may be told otherwise than to `initial_state`, in another environment.
        """
        return state

    def share_parameters(self, state: Any, other_state: Any) -> Any:
        """Memory that shares what is learned with `other_state`, an equal player's at another role.

        Called where a player defines it and sits at several roles, before they play.
        """
        return state

    def update(self, state: Any, transition: Transition, streams: RandomStreams) -> Any:
        """Memory after a round's outcome. Called only where a player defines it."""
        return state

    def act_with_search(
        self,
        phase: Phase,
        observation: Float[Tensor, "world agent size"],
        action_mask: Bool[Tensor, "world agent option"] | None,
        state: Any,
        streams: RandomStreams,
    ) -> ActionOutput:
        """Act with whatever search the player is capable of; by default as `act` does."""
        return self.act(phase, observation, action_mask, state, streams)

    def fit_offline(self, state: Any, dataset: Any, streams: RandomStreams) -> Any:
        """Memory after one pass over what the role went through (`mores.sim.episode_dataset.EpisodeDataset`)."""
        return state

    def state_dict(self, state: Any) -> Mapping[str, Tensor]:
        """What is worth keeping of what it learned, by name: written to checkpoints.

        `updates` by that name, how many each policy made since the stage began, is looked at: who
        made none is told, and a claim that something was learned does not rest on it. Beside it
        `stopped`, at least 0 for policies that had to stop, and `frozen`, for those that are to
        learn nothing, are excuses. All are `[policy]`, the first two of whole numbers.
        """
        return {}

    @property
    def parameter_keys(self) -> frozenset[str]:
        """Where its learners keep what they know; one finds only what was learned in its place.

        Nowhere, if it learns nothing, or is not to.
        """
        able = (self.supports("update") or self.supports("fit_offline")) and not self.frozen
        return frozenset([""]) if able else frozenset()

    def dry_run_version(self) -> Policy:
        """The same player with as little work as shows whether it can learn, for a rehearsal."""
        return self

    @property
    def frozen(self) -> bool:
        """Whether it is to learn nothing although it could: to compare with."""
        return False

    def no_update_reason(self, state: Any, member_name: str = "") -> str:
        """What it was still waiting for before it would learn, told where it learned nothing.

        `member_name`: which of several players who share a role, by the name before `/` in `state_dict`.
        """
        return ""

    def never_updates_reason(self, role: Role, rounds: int, worlds: int) -> str:
        """Why it surely learns nothing as it acts for so many rounds, in so many worlds at once."""
        return ""

    def stop_reasons(self, state: Any) -> list[str]:
        """Learners that had to stop, each in a line that says which, when and why."""
        return []

    def latent(self, state: Any) -> Mapping[str, Tensor]:
        """What only this player knows (a flipped answer), for measures: never for learners."""
        return {}


def require_observation_parts(policy_name: str, role: Role, *parts: str) -> None:
    """Refuse a role that does not see what somebody goes by.

    Raises:
        UserError: it does not.
    """
    for part in parts:
        if part not in role.observation_space.parts:
            raise UserError(
                f"{policy_name} needs a role that sees {part!r}: {role.name} does not",
                code="unsupported",
                path=f"players.{role.name}",
            )


def get_role(environment: Environment[Any], name: str) -> Role:
    """The role of that name."""
    for role in environment.roles:
        if role.name == name:
            return role
    known = [role.name for role in environment.roles]
    raise KeyError(f"no role {name!r}{did_you_mean(name, known)}")
