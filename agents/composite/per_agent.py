"""Several players who share the seats of a role: a learner against a scripted strategy, say.

    player: {kind: cast, seats: [{kind: ppo}, {kind: strategy, name: tit_for_tat}]}

Each is told of a role with as many seats as it has, and of those seats alone: what it sees, what
is legal, what it earned. It has draws of its own, and learns or not as it would alone. Seats go to
the players in order, one each, or as many as `counts` says.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from pydantic import Field, ValidationError, field_serializer, field_validator
from torch import Tensor

from mores import registry
from mores.agents.composite.policy_config import complaints, player_from
from mores.core.environment import Ability, Act, Outcome, Phase, Player, Role
from mores.core.errors import ParameterError, UserError
from mores.core.random_streams import Draws

MOST_WORLDS = 256  # after which who sits where must repeat, for `automata` to tell


@dataclasses.dataclass(frozen=True)
class Memory:
    """What each player remembers, and what kind of player with how many seats that was."""

    members: tuple[Any, ...]
    kinds: tuple[str, ...]


class Member(NamedTuple):
    """One of the players, and its seats."""

    player: Player
    number: int
    seats: slice

    @property
    def kind(self) -> str:
        """Who may go on from its memory: whoever keeps it alike and has as many seats."""
        kinds = [kind for kind in type(self.player).__mro__ if issubclass(kind, Player)]
        own = [kind for kind in kinds if kind is not Player and "again" in vars(kind)]
        kind = own[-1] if own else type(self.player)
        many = self.seats.stop - self.seats.start
        return f"{kind.__module__}.{kind.__qualname__} {many}"

    @property
    def name(self) -> str:
        """Where its draws and whatever it says of itself belong."""
        return f"seats {self.number}"


class Cast(Player):
    """Several players who share the seats of a role, in order."""

    traits: ClassVar[Mapping[str, object]] = {"learns": True, "stochastic": True}

    seats: tuple[Player, ...] = Field(
        min_length=1, description="players, each with its kind and parameters"
    )
    counts: tuple[int, ...] | None = Field(
        default=None, description="how many seats each player has; default: one each"
    )

    @field_validator("seats", mode="before")
    @classmethod
    def _players(cls, given: Any, info: Any) -> Any:
        """Make the players; a file is read strictly: no text becomes a number."""
        if not isinstance(given, (list, tuple)):
            return given
        players, wrong = [], []
        for seat, asked in enumerate(given):
            try:
                players.append(player_from(asked, strict=info.mode == "json"))
            except ValueError as error:
                wrong += complaints(error, seat, asked)
        if wrong:
            raise ValidationError.from_exception_data("cast", wrong)
        return tuple(players)

    def model_post_init(self, context: Any) -> None:
        """Refuse counts that do not go with the players."""
        if self.counts is None:
            return
        if len(self.counts) != len(self.seats):
            many = f"{len(self.counts)} for {len(self.seats)} players"
            raise ParameterError(
                message=f"counts: a number of seats for each player, not {many}", code="wrong_shape"
            )
        if min(self.counts) < 1:
            raise ParameterError(
                "counts",
                message=f"counts: every player has a seat at least, not {list(self.counts)}",
                code="out_of_range",
            )

    @field_serializer("seats")
    def _written(self, seats: tuple[Player, ...], how: Any) -> list[dict[str, Any]]:
        given = how.exclude_unset
        return [
            {"kind": _kind(p), **p.model_dump(mode="json", by_alias=True, exclude_unset=given)}
            for p in seats
        ]

    @functools.cached_property
    def members(self) -> tuple[Member, ...]:
        """The players and their seats, in order."""
        found, first = [], 0
        for number, (player, count) in enumerate(zip(self.seats, self._counts, strict=True)):
            found.append(Member(player, number, slice(first, first + count)))
            first += count
        return tuple(found)

    @functools.cached_property
    def _kinds(self) -> tuple[str, ...]:
        return tuple(member.kind for member in self.members)

    @property
    def _counts(self) -> tuple[int, ...]:
        return (1,) * len(self.seats) if self.counts is None else self.counts

    def can(self, what: Ability) -> bool:
        """What one of the players can, all can; nothing is forgotten if no learner forgets."""
        if what != "again":
            return any(player.can(what) for player in self.seats)
        learners = [p for p in self.seats if p.can("learn") or p.can("fit")]
        return all(player.can("again") for player in learners)

    # --- in play ---------------------------------------------------------------------------------

    def start(self, role: Role, phases: tuple[Phase, ...], draws: Draws) -> Memory:
        """What each player begins with."""
        self._check_seats(role)
        memories = []
        for member in self.members:
            own = self._own(role, member)
            try:
                memories.append(member.player.start(own, phases, draws.within(member.name)))
            except UserError as error:
                raise UserError(
                    f"{member.name}: {error}", code=error.code, path=error.path
                ) from None
        return self._memory(memories)

    def act(
        self,
        phase: Phase,
        seen: Float[Tensor, "world agent size"],
        legal: Bool[Tensor, "world agent option"] | None,
        memory: Memory,
        draws: Draws,
    ) -> Act:
        """Each player acts for its seats."""
        return self._acted("act", phase, seen, legal, memory, draws)

    def assist(
        self,
        phase: Phase,
        seen: Float[Tensor, "world agent size"],
        legal: Bool[Tensor, "world agent option"] | None,
        memory: Memory,
        draws: Draws,
    ) -> Act:
        """The same, with whatever search each is capable of."""
        return self._acted("assist", phase, seen, legal, memory, draws)

    def _acted(
        self,
        how: str,
        phase: Phase,
        seen: Tensor,
        legal: Tensor | None,
        memory: Memory,
        draws: Draws,
    ) -> Act:
        acts: list[Act] = []
        for member, held in self._with(memory):
            open_to = None if legal is None else legal[:, member.seats]
            decide = getattr(member.player, how)
            sight = seen[:, member.seats]
            acts.append(decide(phase, sight, open_to, held, draws.within(member.name)))
        extra = {
            f"{member.name}/{name}": told
            for member, act in zip(self.members, acts, strict=True)
            for name, told in act.extra.items()
        }
        action = torch.cat([act.action for act in acts], 1)
        return Act(action, self._memory(act.memory for act in acts), extra)

    def again(self, memory: Memory, fresh: Callable[[], Memory], over: Tensor) -> Memory:
        """Each player decides what it keeps; fresh memories are made once, if at all.

        In a new stage others may sit here: a player that finds another kind's memory begins anew.
        """
        made = functools.cache(fresh)

        def own(number: int) -> Callable[[], Any]:
            return lambda: made().members[number]

        held = dict(enumerate(zip(memory.kinds, memory.members, strict=True)))
        kept = []
        for player, number, _ in self.members:
            kind, memory_then = held.get(number, ("", None))
            if kind == self._kinds[number]:
                kept.append(player.again(memory_then, own(number), over))
            else:
                kept.append(made().members[number])
        return self._memory(kept)

    def move_on(self, memory: Memory, role: Role) -> Memory:
        """Each player that finds a memory of its kind moves on; the others begin anew in `again`.

        Raises:
            UserError: the role has other seats here.
        """
        self._check_seats(role)
        held = list(memory.members)
        for member, kind, knows in zip(self.members, memory.kinds, memory.members, strict=False):
            if kind == member.kind:
                held[member.number] = member.player.move_on(knows, self._own(role, member))
        return dataclasses.replace(memory, members=tuple(held))

    def join(self, memory: Memory, other: Memory) -> Memory:
        """Those who share what they learn with an equal player do, seat by seat."""
        return self._memory(
            member.player.join(held, theirs) if member.player.can("join") else held
            for (member, held), theirs in zip(self._with(memory), other.members, strict=True)
        )

    # --- learning --------------------------------------------------------------------------------

    def learn(self, memory: Memory, outcome: Outcome, draws: Draws) -> Memory:
        """Those who learn from reward hear of their own seats."""
        learned = []
        for member, held in self._with(memory):
            if member.player.can("learn"):
                seats = member.seats
                own = dataclasses.replace(
                    outcome,
                    reward=outcome.reward[:, seats],
                    seen=outcome.seen[:, seats],
                    feedback={name: told[:, seats] for name, told in outcome.feedback.items()},
                )
                held = member.player.learn(held, own, draws.within(member.name))
            learned.append(held)
        return self._memory(learned)

    def fit(self, memory: Memory, experience: Any, draws: Draws) -> Memory:
        """Those who learn from a record get that of their own seats."""
        learned = []
        for member, held in self._with(memory):
            if member.player.can("fit"):
                own = _of_seats(experience, member.seats)
                held = member.player.fit(held, own, draws.within(member.name))
            learned.append(held)
        return self._memory(learned)

    def learned(self, memory: Memory) -> Mapping[str, Tensor]:
        """What each has learned."""
        return self._gathered(memory, "learned")

    def hidden(self, memory: Memory) -> Mapping[str, Tensor]:
        """What each alone knows."""
        return self._gathered(memory, "hidden")

    def troubles(self, memory: Memory) -> list[str]:
        """Learners that had to stop."""
        return [
            f"{member.name}: {line}"
            for member, held in self._with(memory)
            for line in member.player.troubles(held)
        ]

    @property
    def places(self) -> frozenset[str]:
        """Each at its own seats."""
        return frozenset(
            f"{member.name}, {member.kind} {place}"
            for member in self.members
            for place in member.player.places
        )

    def briefly(self) -> Cast:
        """All of them so."""
        return type(self)(
            seats=tuple(player.briefly() for player in self.seats), counts=self.counts
        )

    @property
    def still(self) -> bool:
        """Where all who could learn are."""
        able = [player for player in self.seats if player.can("learn") or player.can("fit")]
        return bool(able) and all(player.still for player in able)

    def waits(self, memory: Memory, who: str = "") -> str:
        """What one of them waits for."""
        name, _, rest = who.partition("/")  # of a cast within this one, who there
        for member, held in self._with(memory):
            if member.name == name:
                return member.player.waits(held, rest)
        return ""

    def in_vain(self, role: Role, rounds: int, worlds: int) -> str:
        """Where one of those who are to learn as they act cannot."""
        told = [
            (member.name, member.player.in_vain(self._own(role, member), rounds, worlds))
            for member in self.members
            if member.player.can("learn") and not member.player.still
        ]
        return "; ".join(f"{name}: {line}" for name, line in told if line)

    def _check_seats(self, role: Role) -> None:
        """Refuse a role with another number of seats."""
        if role.count != (seats := sum(self._counts)):
            hint = "" if self.counts is not None else "; counts says how many each has"
            raise UserError(
                f"a cast for {seats} seats, and {role.name} has {role.count}{hint}",
                code="wrong_shape",
                path=f"players.{role.name}",
            )

    def _own(self, role: Role, member: Member) -> Role:
        """The role as one of its players is told of it."""
        return dataclasses.replace(role, count=member.seats.stop - member.seats.start)

    def _gathered(self, memory: Memory, what: str) -> dict[str, Tensor]:
        return {
            f"{member.name}/{name}": told
            for member, held in self._with(memory)
            for name, told in getattr(member.player, what)(held).items()
        }

    def _memory(self, members: Iterable[Any]) -> Memory:
        return Memory(tuple(members), self._kinds)

    def _with(self, memory: Memory) -> Iterator[tuple[Member, Any]]:
        """The players, each with its own memory."""
        return zip(self.members, memory.members, strict=True)

    # --- what formulas ask -----------------------------------------------------------------------

    def automata(self, seats: int) -> tuple[tuple[Any, ...], ...] | None:
        """Who sits where in world 0, 1, ... of a replicate, where that is a strategy's automaton.

        None for a seat with another player; none at all if that repeats too late to tell.
        """
        if seats != sum(self._counts):
            return None
        each: list[tuple[tuple[Any, ...], ...]] = []
        for player, count in zip(self.seats, self._counts, strict=True):
            found = ((None,) * count,)
            if isinstance(player, _Scripted):
                told = player.automata(count)
                if told is None:
                    return None
                found = told
            each.append(found)
        worlds = math.lcm(*map(len, each))
        if worlds > MOST_WORLDS:
            return None
        return tuple(sum((rows[w % len(rows)] for rows in each), ()) for w in range(worlds))


@runtime_checkable
class _Scripted(Protocol):
    def automata(self, seats: int) -> tuple[tuple[Any, ...], ...] | None: ...


def _of_seats(experience: Any, seats: slice) -> Any:
    """A record of a role as one of some of its seats, which stand third in all that it holds."""

    def own(told: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor[:, :, seats] for name, tensor in told.items()}

    reward = experience.reward
    return dataclasses.replace(
        experience,
        seen=own(experience.seen),
        acted=own(experience.acted),
        reward=None if reward is None else reward[:, :, seats],
        feedback=own(experience.feedback),
    )


def _kind(player: Player) -> str:
    """The name that its class is known by, or else the class's own."""
    return registry.kind_of("player", player) or type(player).__name__
