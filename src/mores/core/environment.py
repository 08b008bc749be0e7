"""The contract: what an environment says of itself, and what a player at one of its seats does.

A *world* is one community. Worlds are played in batches: every tensor of a state leads with the
world dimension. A *round* is a sequence of *phases*; in a phase the seats of some *roles* act at
once, all seeing the same state. Whoever writes an environment subclasses `Game`, whoever writes
somebody to sit at it subclasses `Player`; both are plain parameters plus pure functions.

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
from mores.core.random_streams import Draws
from mores.core.spaces import Box as Box
from mores.core.spaces import Discrete as Discrete
from mores.core.spaces import MultiDiscrete as MultiDiscrete
from mores.core.spaces import Part as Part
from mores.core.spaces import Space as Space

State = TypeVar("State")


Foresight = Callable[[Tensor, Tensor], Tensor]
Ability = Literal["learn", "fit", "assist", "again", "join"]


@dataclasses.dataclass(frozen=True)
class Role:
    """A kind of seat: how many there are, and what one of them sees.

    Attributes:
        name: of the role.
        count: how many seats.
        sees: the layout of what one sees.
        after: where one's next sight follows from this one and one's act alone (a writer knows what
            is written), the function `(seen, action) -> seen`; players may look ahead by it.
    """

    name: str
    count: int
    sees: Box
    after: Foresight | None = None


@dataclasses.dataclass(frozen=True)
class Phase:
    """A part of a round: the roles that act in it at once, and what each may do."""

    name: str
    acts: Mapping[str, Space]


@dataclasses.dataclass(frozen=True)
class Step(Generic[State]):
    """What a phase led to.

    Attributes:
        state: the next state.
        reward: what each role's seats earned, `[world, agent]`; a role not named earned nothing.
        ended: worlds whose episode is over, `[world]`; read only in a round's last phase.
        feedback: by role, what its seats are told of what they did, beyond reward: tensors
            `[world, agent, ...]` by the names of `mores.agents.learning.batch`. Only learners
            hear of it.
    """

    state: State
    reward: Mapping[str, Float[Tensor, "world agent"]] = dataclasses.field(default_factory=dict)
    ended: Bool[Tensor, " world"] | None = None
    feedback: Mapping[str, Mapping[str, Tensor]] = dataclasses.field(default_factory=dict)


class Configured(BaseModel):
    """Something made from named, checked parameters: unknown names and wrong values are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, ignored_types=(functools.cached_property,)
    )


class Game(Configured, ABC, Generic[State]):
    """An environment: parameters as fields, and pure functions from state to state.

    Static data (a network, a table) may be cached on the game; all that changes is in the state,
    whose tensors lead with the world dimension. `mores.envs` holds examples.
    """

    traits: ClassVar[Mapping[str, object]] = {}  # for `mores list --where`
    value_names: ClassVar[tuple[str, ...]] = ()  # of people's values, for pictures
    solved: ClassVar[frozenset[str]] = frozenset()  # predictions that an exact solver computes

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
    def reset(self, draws: Draws, start: People | None = None) -> State:
        """A first state. `start`: people made elsewhere (a population, real data)."""

    @abstractmethod
    def observe(self, state: State, role: str, phase: str) -> Float[Tensor, "world agent size"]:
        """What each seat of a role may see, in any phase. A person sees nobody else's values."""

    def legal(
        self, state: State, role: str, phase: str
    ) -> Bool[Tensor, "world agent option"] | None:
        """Which options are open to each seat; `None`: all of them."""
        return None

    @abstractmethod
    def step(
        self, state: State, phase: str, actions: Mapping[str, Tensor], draws: Draws
    ) -> Step[State]:
        """What follows when the phase's roles act: pure, the given state is left as it was.

        Name the purpose of every draw once; a purpose drawn in two phases of a round gives the
        same numbers twice.
        """

    @abstractmethod
    def measures(self, state: State) -> Mapping[str, Float[Tensor, "world *agent"]]:
        """What is reported of each world, `[world]`, or of its agents or values, `[world, n]`."""

    @property
    def working_size(self) -> int:
        """Numbers that a world needs at once, roughly: runs are cut into chunks by it."""
        return sum(role.count * role.sees.size for role in self.roles)

    def hidden(self, state: State) -> Mapping[str, Tensor]:
        """What no player may see, for measures and pictures: `[world, ...]` by name."""
        return {}

    def predictions(
        self, players: Mapping[str, Player], rounds: int
    ) -> Mapping[str, float | Float[np.ndarray, " round"]]:
        """What theory says a measure comes to, given who plays: formulas by name.

        A number, or one for each number of rounds completed, 0 to `rounds`.
        """
        return {}

    def too_short(self, rounds: int) -> str:
        """Why nobody can learn anything in episodes of so many rounds, if that is so."""
        return ""

    def baseline(self) -> Mapping[str, Player]:
        """A scripted player for each role."""
        return {}


@dataclasses.dataclass(frozen=True)
class Act:
    """What a role's seats do, `[world, agent]` or `[world, agent, size]`, and what they keep."""

    action: Tensor
    memory: Any = None
    extra: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a round led to for the seats of a role, told to a player that learns.

    Attributes:
        reward: what they earned in the round.
        terminated: worlds whose episode ended by itself.
        truncated: worlds whose episode was cut off by the limit of rounds.
        over: worlds that had ended before, and stood still.
        seen: what they see now, in the first phase in which they act; in worlds that were cut off,
            what they would have acted on next.
        feedback: as in `Step`, of all phases of the round.
    """

    reward: Float[Tensor, "world agent"]
    terminated: Bool[Tensor, " world"]
    truncated: Bool[Tensor, " world"]
    over: Bool[Tensor, " world"]
    seen: Float[Tensor, "world agent size"]
    feedback: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)

    @property
    def ended(self) -> Bool[Tensor, " world"]:
        """Worlds whose episode ended in this round, either way."""
        return self.terminated | self.truncated


class Player(Configured, ABC):
    """Somebody who fills all seats of a role in every world: a rule, a policy, a population model.

    Memory is anything made of tensors that lead with the world dimension, and of `tree.Kept` parts
    that do not. Beliefs end with the episode, learned parameters do not: `again` decides.
    """

    traits: ClassVar[Mapping[str, object]] = {}

    def can(self, what: Ability) -> bool:
        """Whether it does something of its own here: a player that defines no `learn` cannot.

        `again`: what it has learned outlives an episode. Whoever delegates to others answers for
        them.
        """
        return getattr(type(self), what) is not getattr(Player, what)

    def start(self, role: Role, phases: tuple[Phase, ...], draws: Draws) -> Any:
        """Memory at the first episode's start, for `draws.worlds` worlds."""
        return None

    @abstractmethod
    def act(
        self,
        phase: Phase,
        seen: Float[Tensor, "world agent size"],
        legal: Bool[Tensor, "world agent option"] | None,
        memory: Any,
        draws: Draws,
    ) -> Act:
        """Act in a phase, on what the seats see and remember."""

    def again(self, memory: Any, fresh: Callable[[], Any], over: Bool[Tensor, " world"]) -> Any:
        """Memory when the worlds `over` begin anew; `fresh()` is `start`'s memory for just those.

        Also when a stage begins, with the memory of the one before. Whoever needs nothing fresh
        does not call it, and spares the making.
        """
        from mores.core import pytree

        return fresh() if bool(over.all()) else pytree.put(memory, fresh(), over)

    def move_on(self, memory: Any, role: Role) -> Any:
        """Memory that another stage left, as the next one begins at this role.

        Called before `again`. What was gathered and not yet learned from may be dropped; the role
        may be told otherwise than to `start`, in another environment.
        """
        return memory

    def join(self, memory: Any, other: Any) -> Any:
        """Memory that shares what is learned with `other`, an equal player's at another role.

        Called where a player defines it and sits at several roles, before they play.
        """
        return memory

    def learn(self, memory: Any, outcome: Outcome, draws: Draws) -> Any:
        """Memory after a round's outcome. Called only where a player defines it."""
        return memory

    def assist(
        self,
        phase: Phase,
        seen: Float[Tensor, "world agent size"],
        legal: Bool[Tensor, "world agent option"] | None,
        memory: Any,
        draws: Draws,
    ) -> Act:
        """Act with whatever search the player is capable of; by default as `act` does."""
        return self.act(phase, seen, legal, memory, draws)

    def fit(self, memory: Any, experience: Any, draws: Draws) -> Any:
        """Memory after one pass over what the role went through (`mores.sim.episode_dataset.Experience`)."""
        return memory

    def learned(self, memory: Any) -> Mapping[str, Tensor]:
        """What is worth keeping of what it learned, by name: written to checkpoints.

        `updates` by that name, how many each policy made since the stage began, is looked at: who
        made none is told, and a claim that something was learned does not rest on it. Beside it
        `stopped`, at least 0 for policies that had to stop, and `still`, for those that are to
        learn nothing, are excuses. All are `[policy]`, the first two of whole numbers.
        """
        return {}

    @property
    def places(self) -> frozenset[str]:
        """Where its learners keep what they know; one finds only what was learned in its place.

        Nowhere, if it learns nothing, or is not to.
        """
        able = (self.can("learn") or self.can("fit")) and not self.still
        return frozenset([""]) if able else frozenset()

    def briefly(self) -> Player:
        """The same player with as little work as shows whether it can learn, for a rehearsal."""
        return self

    @property
    def still(self) -> bool:
        """Whether it is to learn nothing although it could: to compare with."""
        return False

    def waits(self, memory: Any, who: str = "") -> str:
        """What it was still waiting for before it would learn, told where it learned nothing.

        `who`: which of several players who share a role, by the name before `/` in `learned`.
        """
        return ""

    def in_vain(self, role: Role, rounds: int, worlds: int) -> str:
        """Why it surely learns nothing as it acts for so many rounds, in so many worlds at once."""
        return ""

    def troubles(self, memory: Any) -> list[str]:
        """Learners that had to stop, each in a line that says which, when and why."""
        return []

    def hidden(self, memory: Any) -> Mapping[str, Tensor]:
        """What only this player knows (a flipped answer), for measures: never for learners."""
        return {}


def needs_sight(who: str, role: Role, *parts: str) -> None:
    """Refuse a role that does not see what somebody goes by.

    Raises:
        UserError: it does not.
    """
    for part in parts:
        if part not in role.sees.parts:
            raise UserError(
                f"{who} needs a role that sees {part!r}: {role.name} does not",
                code="unsupported",
                path=f"players.{role.name}",
            )


def role_named(game: Game[Any], name: str) -> Role:
    """The role of that name."""
    for role in game.roles:
        if role.name == name:
            return role
    known = [role.name for role in game.roles]
    raise KeyError(f"no role {name!r}{did_you_mean(name, known)}")
