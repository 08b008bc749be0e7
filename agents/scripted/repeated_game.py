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

from mores.agents.scripted.named_strategies import (
    MEMORY_ONE,
    STRATEGIES,
    StrategyAutomaton,
    memory_one,
)
from mores.core.deterministic_sum import total
from mores.core.environment import ActionOutput, Box, Discrete, Phase, Policy, Role
from mores.core.errors import ParameterError, UserError, did_you_mean
from mores.core.random_streams import RandomStreams

SHARE_TOLERANCE = 1e-6  # shares of others are rounded
MAX_LINEUP_WORLDS = 256  # of a tournament for which `automata_by_world` tells who sits where
MAX_STRIDE = 2**62  # a divisor beyond any number of worlds


@dataclasses.dataclass(frozen=True)
class StrategyState:
    """Where a strategy is: its inner place, counted through all strategies of the tournament."""

    observation_space: Box
    num_options: int
    automaton_state: Int[Tensor, "world agent"]


class Strategy(Policy):
    """Plays a repeated game by a named strategy, or several names as a tournament."""

    tags: ClassVar[Mapping[str, object]] = {"learns": False, "stochastic": True}

    name: str | tuple[str, ...] = Field(
        min_length=1,
        description=f"{', '.join([*STRATEGIES, MEMORY_ONE])}; several: a tournament over the worlds",
    )
    noise_probability: float = Field(
        default=0.0, ge=0, le=1, description="probability of a slip: the opposite of what was meant"
    )
    cooperation_probabilities: tuple[float, float, float, float] | None = Field(
        default=None,
        description="memory_one: probability of cooperating after both cooperated, only I did, "
        "only the other did, nobody did",
    )
    initial_cooperation_probability: float | None = Field(
        default=None, ge=0, le=1, description="memory_one: the same in the first round; default 1"
    )
    threshold: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="share of the others' cooperation from which on the others cooperated; "
        "default: 1, of a conditional_cooperator 0.5",
    )
    worlds_per_matchup: int = Field(
        default=1,
        ge=1,
        le=1_000_000,
        description="several names: so many worlds play alike in a row",
    )

    @field_validator("name")
    @classmethod
    def _check_names(cls, names: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for name in (names,) if isinstance(names, str) else names:
            if name not in STRATEGIES and name != MEMORY_ONE:
                raise ParameterError(
                    message=f"no strategy {name!r}{did_you_mean(name, [*STRATEGIES, MEMORY_ONE])}",
                    code="unknown_name",
                )
        return names

    @field_validator("cooperation_probabilities")
    @classmethod
    def _check_probabilities(
        cls, probabilities: tuple[float, float, float, float] | None
    ) -> tuple[float, float, float, float] | None:
        if probabilities is not None and not all(0 <= chance <= 1 for chance in probabilities):
            raise ParameterError(
                message=f"four probabilities between 0 and 1, not {list(probabilities)}",
                code="out_of_range",
            )
        return probabilities

    def model_post_init(self, context: object) -> None:
        """Refuse parameters that do not go together."""
        given = MEMORY_ONE in self.names
        if given and self.cooperation_probabilities is None:
            raise ParameterError(
                "cooperation_probabilities", message="memory_one needs chances, four probabilities", code="missing"
            )
        if not given and (
            self.cooperation_probabilities is not None
            or self.initial_cooperation_probability is not None
        ):
            raise ParameterError(
                message="chances and first go with the name memory_one", code="conflict"
            )

    # --- what is played --------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """The names, be it one or several."""
        return (self.name,) if isinstance(self.name, str) else self.name

    @functools.cached_property
    def _automata(self) -> tuple[StrategyAutomaton, ...]:
        """The strategies, without slips."""
        found = []
        for name in self.names:
            if name == MEMORY_ONE:
                assert self.cooperation_probabilities is not None
                first = (
                    1.0
                    if self.initial_cooperation_probability is None
                    else self.initial_cooperation_probability
                )
                automaton = memory_one(self.cooperation_probabilities, first)
            else:
                automaton = STRATEGIES[name]
            if self.threshold is not None:
                automaton = dataclasses.replace(automaton, threshold=self.threshold)
            found.append(automaton)
        return tuple(found)

    def automata_by_world(
        self, num_agents: int
    ) -> tuple[tuple[StrategyAutomaton, ...], ...] | None:
        """Who sits where in world 0, 1, ... of a replicate, until that repeats; none if too late.

        Slips are in the chances.
        """
        many = len(self._automata)
        if many > 1 and self.worlds_per_matchup * many**num_agents > MAX_LINEUP_WORLDS:
            return None
        slipping = [automaton.with_noise(self.noise_probability) for automaton in self._automata]
        digits = self._world_strides(num_agents)
        worlds = self.worlds_per_matchup * many**num_agents if many > 1 else 1
        return tuple(tuple(slipping[w // d % many] for d in digits) for w in range(worlds))

    def _world_strides(self, num_agents: int) -> list[int]:
        """For each seat, how many worlds in a row it plays alike."""
        many = len(self.names)
        return [
            min(self.worlds_per_matchup * many ** min(i, 63), MAX_STRIDE)
            for i in reversed(range(num_agents))
        ]

    @functools.cached_property
    def _stacked_automata(self) -> _StackedAutomata:
        """All strategies in one table, the places of one after those of another."""
        chance, after, threshold, firsts = [], [], [], []
        for automaton in self._automata:
            base = len(chance)
            firsts.append(base)
            chance += automaton.cooperation_probabilities
            threshold += [automaton.threshold] * len(automaton.cooperation_probabilities)
            after += [[base + place for place in row] for row in automaton.transitions]
        return _StackedAutomata(
            torch.tensor(chance), torch.tensor(after), torch.tensor(threshold), torch.tensor(firsts)
        )

    # --- a player --------------------------------------------------------------------------------

    def initial_state(
        self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams
    ) -> StrategyState:
        """At the first place of the strategy that each seat has in its world."""
        path = f"players.{role.name}"
        spaces = [
            phase.action_spaces[role.name] for phase in phases if role.name in phase.action_spaces
        ]
        if not spaces or not all(isinstance(space, Discrete) for space in spaces):
            raise UserError(
                "a strategy needs a role that chooses among options", code="unsupported", path=path
            )
        options = max(space.num_options for space in spaces if isinstance(space, Discrete))
        for part in ("own_actions", "other_actions", "game_started"):
            if part not in role.observation_space.parts:
                raise UserError(
                    f"a strategy needs a role that sees {part!r}", code="unsupported", path=path
                )
        blind = min(role.observation_space.parts[part].size for part in ("own_actions", "other_actions")) < options
        for name, automaton in zip(self.names, self._automata, strict=True):
            if blind and automaton.uses_history:
                raise UserError(
                    f"{name} needs to see what was done last (memory of at least 1)",
                    code="unsupported",
                    path=path,
                )
        divisors = torch.tensor(self._world_strides(role.num_agents), device=streams.device)
        which = streams.world[:, None] // divisors % len(self.names)
        return StrategyState(
            role.observation_space,
            options,
            self._stacked_automata.initial_states.to(streams.device)[which],
        )

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: StrategyState,
        streams: RandomStreams,
    ) -> ActionOutput:
        """Move on by what was done last, then cooperate or not."""
        tables = self._stacked_automata.to(observation.device)
        place = self._next_automaton_state(observation, state, tables)
        chance, seats = tables.cooperation_probabilities[place], observation.shape[1]
        cooperates = chance > 0.5
        if self._is_stochastic:
            cooperates = streams.uniform("act", seats)[..., 0] < chance
        if self.noise_probability > 0:
            cooperates = cooperates ^ (
                streams.uniform("slip", seats)[..., 0] < self.noise_probability
            )
        defect = torch.full_like(place, state.num_options - 1)
        if action_mask is not None:
            numbers = torch.arange(action_mask.shape[-1], device=observation.device)
            defect = torch.where(action_mask, numbers, 0).amax(-1)
        return ActionOutput(
            torch.where(cooperates, 0, defect), dataclasses.replace(state, automaton_state=place)
        )

    @functools.cached_property
    def _is_stochastic(self) -> bool:
        """Whether anything but slips is left to chance."""
        return any(
            0 < p < 1 for automaton in self._automata for p in automaton.cooperation_probabilities
        )

    def _next_automaton_state(
        self, observation: Tensor, state: StrategyState, automata: _StackedAutomata
    ) -> Int[Tensor, "world agent"]:
        """The place after the last round; the first one before there was any."""
        own, others = (
            state.observation_space.read(observation, part) for part in ("own_actions", "other_actions")
        )
        if own.shape[-1] < state.num_options or others.shape[-1] < state.num_options:
            column = torch.zeros_like(state.automaton_state)  # none of the strategies looks
        else:
            defected = own[..., 0] < 0.5
            given = 1.0 - torch.arange(state.num_options, device=observation.device) / (
                state.num_options - 1
            )
            shares = total(others[..., : state.num_options] * given, -1)
            abandoned = shares < automata.threshold[state.automaton_state] - SHARE_TOLERANCE
            column = 2 * defected.to(torch.int64) + abandoned.to(torch.int64)
        begun = state.observation_space.read(observation, "game_started")[..., 0] > 0
        return torch.where(
            begun, automata.transitions[state.automaton_state, column], state.automaton_state
        )


@dataclasses.dataclass(frozen=True)
class _StackedAutomata:
    """Strategies as tensors."""

    cooperation_probabilities: Float[Tensor, " place"]
    transitions: Int[Tensor, "place 4"]
    threshold: Float[Tensor, " place"]
    initial_states: Int[Tensor, " name"]

    def to(self, device: torch.device) -> _StackedAutomata:
        """The same tables where the worlds are."""
        tables = (
            self.cooperation_probabilities,
            self.transitions,
            self.threshold,
            self.initial_states,
        )
        return _StackedAutomata(*(table.to(device) for table in tables))
