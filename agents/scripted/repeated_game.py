"""Players of repeated games by a named strategy: see `mores.agents.scripted.named_strategies` for the list.

Option 0 is to cooperate, the last one that is open to defect. A strategy sees what it did itself
and what others did last (`own`, `others`: a mark for each option, the newest first; `others` on
average) and whether anything was done yet (`begun`); it knows nothing of payoffs. Options between
the first and the last count in part: the others' cooperation is the mean of `1 - option / last`.

Several names make a tournament. The worlds of a replicate go through all ways to seat `k` names at
`n` seats, as a counter with a digit a seat does, the first seat's the slowest:

    name of seat i in world w = (w div (every k^(n - 1 - i))) mod k

With two seats and four names, the 16 worlds of a replicate are a round robin with self-play.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import Field, field_validator
from torch import Tensor

from mores.agents.scripted.named_strategies import GIVEN, NAMED, Automaton, memory_one
from mores.core.deterministic_sum import total
from mores.core.environment import Act, Box, Discrete, Phase, Player, Role
from mores.core.errors import ParameterError, UserError, did_you_mean
from mores.core.random_streams import Draws

ALMOST = 1e-6  # shares of others are rounded
MOST_WORLDS = 256  # of a tournament for which `automata` tells who sits where
LARGEST = 2**62  # a divisor beyond any number of worlds


@dataclasses.dataclass(frozen=True)
class Memory:
    """Where a strategy is: its inner place, counted through all strategies of the tournament."""

    sees: Box
    options: int
    place: Int[Tensor, "world agent"]


class Strategy(Player):
    """Plays a repeated game by a named strategy, or several names as a tournament."""

    traits: ClassVar[Mapping[str, object]] = {"learns": False, "stochastic": True}

    name: str | tuple[str, ...] = Field(
        min_length=1,
        description=f"{', '.join([*NAMED, GIVEN])}; several: a tournament over the worlds",
    )
    noise: float = Field(
        default=0.0, ge=0, le=1, description="probability of a slip: the opposite of what was meant"
    )
    chances: tuple[float, float, float, float] | None = Field(
        default=None,
        description="memory_one: probability of cooperating after both cooperated, only I did, "
        "only the other did, nobody did",
    )
    first: float | None = Field(
        default=None, ge=0, le=1, description="memory_one: the same in the first round; default 1"
    )
    threshold: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="share of the others' cooperation from which on the others cooperated; "
        "default: 1, of a conditional_cooperator 0.5",
    )
    every: int = Field(
        default=1,
        ge=1,
        le=1_000_000,
        description="several names: so many worlds play alike in a row",
    )

    @field_validator("name")
    @classmethod
    def _known(cls, given: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for name in (given,) if isinstance(given, str) else given:
            if name not in NAMED and name != GIVEN:
                raise ParameterError(
                    message=f"no strategy {name!r}{did_you_mean(name, [*NAMED, GIVEN])}",
                    code="unknown_name",
                )
        return given

    @field_validator("chances")
    @classmethod
    def _probable(
        cls, given: tuple[float, float, float, float] | None
    ) -> tuple[float, float, float, float] | None:
        if given is not None and not all(0 <= chance <= 1 for chance in given):
            raise ParameterError(
                message=f"four probabilities between 0 and 1, not {list(given)}",
                code="out_of_range",
            )
        return given

    def model_post_init(self, context: object) -> None:
        """Refuse parameters that do not go together."""
        given = GIVEN in self.names
        if given and self.chances is None:
            raise ParameterError(
                "chances", message="memory_one needs chances, four probabilities", code="missing"
            )
        if not given and (self.chances is not None or self.first is not None):
            raise ParameterError(
                message="chances and first go with the name memory_one", code="conflict"
            )

    # --- what is played --------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """The names, be it one or several."""
        return (self.name,) if isinstance(self.name, str) else self.name

    @functools.cached_property
    def _meant(self) -> tuple[Automaton, ...]:
        """The strategies, without slips."""
        found = []
        for name in self.names:
            if name == GIVEN:
                assert self.chances is not None
                first = 1.0 if self.first is None else self.first
                automaton = memory_one(self.chances, first)
            else:
                automaton = NAMED[name]
            if self.threshold is not None:
                automaton = dataclasses.replace(automaton, threshold=self.threshold)
            found.append(automaton)
        return tuple(found)

    def automata(self, seats: int) -> tuple[tuple[Automaton, ...], ...] | None:
        """Who sits where in world 0, 1, ... of a replicate, until that repeats; none if too late.

        Slips are in the chances.
        """
        many = len(self._meant)
        if many > 1 and self.every * many**seats > MOST_WORLDS:
            return None
        slipping = [automaton.slipping(self.noise) for automaton in self._meant]
        digits = self._divisors(seats)
        worlds = self.every * many**seats if many > 1 else 1
        return tuple(tuple(slipping[w // d % many] for d in digits) for w in range(worlds))

    def _divisors(self, seats: int) -> list[int]:
        """For each seat, how many worlds in a row it plays alike."""
        many = len(self.names)
        return [min(self.every * many ** min(i, 63), LARGEST) for i in reversed(range(seats))]

    @functools.cached_property
    def _tables(self) -> _Tables:
        """All strategies in one table, the places of one after those of another."""
        chance, after, threshold, firsts = [], [], [], []
        for automaton in self._meant:
            base = len(chance)
            firsts.append(base)
            chance += automaton.chance
            threshold += [automaton.threshold] * len(automaton.chance)
            after += [[base + place for place in row] for row in automaton.after]
        return _Tables(
            torch.tensor(chance), torch.tensor(after), torch.tensor(threshold), torch.tensor(firsts)
        )

    # --- a player --------------------------------------------------------------------------------

    def start(self, role: Role, phases: tuple[Phase, ...], draws: Draws) -> Memory:
        """At the first place of the strategy that each seat has in its world."""
        path = f"players.{role.name}"
        spaces = [phase.acts[role.name] for phase in phases if role.name in phase.acts]
        if not spaces or not all(isinstance(space, Discrete) for space in spaces):
            raise UserError(
                "a strategy needs a role that chooses among options", code="unsupported", path=path
            )
        options = max(space.options for space in spaces if isinstance(space, Discrete))
        for part in ("own", "others", "begun"):
            if part not in role.sees.parts:
                raise UserError(
                    f"a strategy needs a role that sees {part!r}", code="unsupported", path=path
                )
        blind = min(role.sees.parts[part].size for part in ("own", "others")) < options
        for name, automaton in zip(self.names, self._meant, strict=True):
            if blind and automaton.looks:
                raise UserError(
                    f"{name} needs to see what was done last (memory of at least 1)",
                    code="unsupported",
                    path=path,
                )
        divisors = torch.tensor(self._divisors(role.count), device=draws.device)
        which = draws.world[:, None] // divisors % len(self.names)
        return Memory(role.sees, options, self._tables.firsts.to(draws.device)[which])

    def act(
        self, phase: Phase, seen: Tensor, legal: Tensor | None, memory: Memory, draws: Draws
    ) -> Act:
        """Move on by what was done last, then cooperate or not."""
        tables = self._tables.to(seen.device)
        place = self._moved(seen, memory, tables)
        chance, seats = tables.chance[place], seen.shape[1]
        cooperates = chance > 0.5
        if self._tossing:
            cooperates = draws.uniform("act", seats)[..., 0] < chance
        if self.noise > 0:
            cooperates = cooperates ^ (draws.uniform("slip", seats)[..., 0] < self.noise)
        defect = torch.full_like(place, memory.options - 1)
        if legal is not None:
            numbers = torch.arange(legal.shape[-1], device=seen.device)
            defect = torch.where(legal, numbers, 0).amax(-1)
        return Act(torch.where(cooperates, 0, defect), dataclasses.replace(memory, place=place))

    @functools.cached_property
    def _tossing(self) -> bool:
        """Whether anything but slips is left to chance."""
        return any(0 < p < 1 for automaton in self._meant for p in automaton.chance)

    def _moved(self, seen: Tensor, memory: Memory, tables: _Tables) -> Int[Tensor, "world agent"]:
        """The place after the last round; the first one before there was any."""
        own, others = (memory.sees.read(seen, part) for part in ("own", "others"))
        if own.shape[-1] < memory.options or others.shape[-1] < memory.options:
            column = torch.zeros_like(memory.place)  # none of the strategies looks
        else:
            defected = own[..., 0] < 0.5
            given = 1.0 - torch.arange(memory.options, device=seen.device) / (memory.options - 1)
            shares = total(others[..., : memory.options] * given, -1)
            abandoned = shares < tables.threshold[memory.place] - ALMOST
            column = 2 * defected.to(torch.int64) + abandoned.to(torch.int64)
        begun = memory.sees.read(seen, "begun")[..., 0] > 0
        return torch.where(begun, tables.after[memory.place, column], memory.place)


@dataclasses.dataclass(frozen=True)
class _Tables:
    """Strategies as tensors."""

    chance: Float[Tensor, " place"]
    after: Int[Tensor, "place 4"]
    threshold: Float[Tensor, " place"]
    firsts: Int[Tensor, " name"]

    def to(self, device: torch.device) -> _Tables:
        """The same tables where the worlds are."""
        tables = (self.chance, self.after, self.threshold, self.firsts)
        return _Tables(*(table.to(device) for table in tables))
