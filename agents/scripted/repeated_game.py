"""Policies of repeated games by a named strategy; `named_strategies` lists the names.

Option 0 is to cooperate, the last legal option to defect. A strategy observes its own and the
others' actions (`own_actions`, `other_actions`: one-hot, the newest round first; mean over the
others) and whether the game started (`game_started`); payoffs are not observed. Options between the
first and the last count in part: the others' cooperation is the mean of `1 - option / last`.

Several names make a tournament. The worlds of a replicate go through all assignments of `k` names
to `n` agents, as a counter with one digit per agent does, the first agent's the slowest:

    name of agent i in world w = (w div (every k^(n - 1 - i))) mod k,   every = worlds_per_matchup

With two agents and four names, 16 worlds of a replicate are a round robin with self-play.
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
from mores.core.analytic_policies import MAX_LINEUP_WORLDS, AutomatonPolicy
from mores.core.deterministic_sum import total
from mores.core.environment import Phase, Role
from mores.core.errors import ParameterError, UserError, did_you_mean
from mores.core.policy import ActionOutput, Policy, require_observation_parts
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete

SHARE_TOLERANCE = 1e-6  # shares of cooperating others are rounded
MAX_STRIDE = 2**62  # more than any number of worlds


@dataclasses.dataclass(frozen=True)
class StrategyState:
    """States of the agents' automata, numbered through all strategies of the tournament."""

    observation_space: Box
    num_options: int
    automaton_state: Int[Tensor, "world agent"]


class Strategy(Policy, AutomatonPolicy):
    """Named strategy of a repeated game; several names make a tournament."""

    tags: ClassVar[Mapping[str, object]] = {"stochastic": True}

    name: str | tuple[str, ...] = Field(
        min_length=1,
        description=f"{', '.join([*STRATEGIES, MEMORY_ONE])}; several: a tournament",
    )
    noise_probability: float = Field(
        default=0.0, ge=0, le=1, description="probability that an action is flipped"
    )
    cooperation_probabilities: tuple[float, float, float, float] | None = Field(
        default=None,
        description="memory_one: probability of cooperating after both cooperated, only it, "
        "only the other, neither",
    )
    initial_cooperation_probability: float | None = Field(
        default=None, ge=0, le=1, description="memory_one: in the first round; default: 1"
    )
    threshold: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="share of cooperating others from which on they count as cooperating; "
        "default: 1, for conditional_cooperator 0.5",
    )
    worlds_per_matchup: int = Field(
        default=1,
        ge=1,
        le=1_000_000,
        description="several names: consecutive worlds with the same strategies",
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
        if probabilities is not None and not all(0 <= p <= 1 for p in probabilities):
            raise ParameterError(
                message=f"must be four probabilities between 0 and 1, not {list(probabilities)}",
                code="out_of_range",
            )
        return probabilities

    def model_post_init(self, context: object) -> None:
        """Refuse incompatible parameters."""
        has_memory_one = MEMORY_ONE in self.names
        if has_memory_one and self.cooperation_probabilities is None:
            raise ParameterError(
                "cooperation_probabilities",
                message="memory_one needs cooperation_probabilities, four numbers",
                code="missing",
            )
        if not has_memory_one and (
            self.cooperation_probabilities is not None
            or self.initial_cooperation_probability is not None
        ):
            raise ParameterError(
                message="cooperation_probabilities and initial_cooperation_probability are only "
                "for the name memory_one",
                code="conflict",
            )

    # --- automata --------------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """The names, also if there is one."""
        return (self.name,) if isinstance(self.name, str) else self.name

    @functools.cached_property
    def _automata(self) -> tuple[StrategyAutomaton, ...]:
        """The strategies, without noise."""
        automata = []
        for name in self.names:
            if name == MEMORY_ONE:
                assert self.cooperation_probabilities is not None
                first = self.initial_cooperation_probability
                first = 1.0 if first is None else first
                automaton = memory_one(self.cooperation_probabilities, first)
            else:
                automaton = STRATEGIES[name]
            if self.threshold is not None:
                automaton = dataclasses.replace(automaton, threshold=self.threshold)
            automata.append(automaton)
        return tuple(automata)

    def automata_by_world(
        self, num_agents: int
    ) -> tuple[tuple[StrategyAutomaton, ...], ...] | None:
        """Automata of the agents in world 0, 1, ... of a replicate, for one period, with noise.

        None: the period is above `MAX_LINEUP_WORLDS`.
        """
        count = len(self._automata)
        if count > 1 and self.worlds_per_matchup * count**num_agents > MAX_LINEUP_WORLDS:
            return None
        automata = [automaton.with_noise(self.noise_probability) for automaton in self._automata]
        strides = self._world_strides(num_agents)
        worlds = self.worlds_per_matchup * count**num_agents if count > 1 else 1
        return tuple(tuple(automata[w // s % count] for s in strides) for w in range(worlds))

    def _world_strides(self, num_agents: int) -> list[int]:
        """For each agent, the number of consecutive worlds with the same strategy."""
        count = len(self.names)
        return [
            min(self.worlds_per_matchup * count ** min(i, 63), MAX_STRIDE)
            for i in reversed(range(num_agents))
        ]

    @functools.cached_property
    def _stacked_automata(self) -> _StackedAutomata:
        """All strategies in one automaton, the states of one after those of another."""
        cooperation, transitions, thresholds, initial_states = [], [], [], []
        for automaton in self._automata:
            offset = len(cooperation)
            initial_states.append(offset)
            cooperation += automaton.cooperation_probabilities
            thresholds += [automaton.threshold] * len(automaton.cooperation_probabilities)
            transitions += [[offset + state for state in row] for row in automaton.transitions]
        return _StackedAutomata(
            *(torch.tensor(x) for x in (cooperation, transitions, thresholds, initial_states))
        )

    # --- acting ----------------------------------------------------------------------------------

    def initial_state(
        self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams
    ) -> StrategyState:
        """Initial states of the automata that the agents have in their worlds."""
        path = f"policies.{role.name}"
        spaces = [
            phase.action_spaces[role.name] for phase in phases if role.name in phase.action_spaces
        ]
        if not spaces or not all(isinstance(space, Discrete) for space in spaces):
            raise UserError(
                "strategy needs a role with a discrete action space", code="unsupported", path=path
            )
        num_options = max(space.num_options for space in spaces if isinstance(space, Discrete))
        parts = role.observation_space.parts
        require_observation_parts("strategy", role, "own_actions", "other_actions", "game_started")
        observed = min(parts[part].size for part in ("own_actions", "other_actions"))
        for name, automaton in zip(self.names, self._automata, strict=True):
            if observed < num_options and automaton.uses_history:
                raise UserError(
                    f"{name} needs to observe the last actions (memory_depth of at least 1)",
                    code="unsupported",
                    path=path,
                )
        strides = torch.tensor(self._world_strides(role.num_agents), device=streams.device)
        strategy = streams.world[:, None] // strides % len(self.names)  # world agent
        initial_states = self._stacked_automata.initial_states.to(streams.device)
        return StrategyState(role.observation_space, num_options, initial_states[strategy])

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: StrategyState,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """Update the automata by the last actions, then cooperate or defect."""
        automata, num_agents = self._stacked_automata.to(observation.device), observation.shape[1]
        automaton_state = self._next_automaton_state(observation, state, automata)
        probability = automata.cooperation_probabilities[automaton_state]
        cooperates = probability > 0.5
        if self._is_stochastic:
            cooperates = streams.uniform("act", num_agents)[..., 0] < probability
        if self.noise_probability > 0:
            flipped = streams.uniform("slip", num_agents)[..., 0] < self.noise_probability
            cooperates = cooperates ^ flipped
        defection = torch.full_like(automaton_state, state.num_options - 1)
        if action_mask is not None:
            options = torch.arange(action_mask.shape[-1], device=observation.device)
            defection = torch.where(action_mask, options, 0).amax(-1)
        next_state = dataclasses.replace(state, automaton_state=automaton_state)
        return ActionOutput(torch.where(cooperates, 0, defection), next_state)

    @functools.cached_property
    def _is_stochastic(self) -> bool:
        """Whether actions are random without noise."""
        return any(
            0 < p < 1 for automaton in self._automata for p in automaton.cooperation_probabilities
        )

    def _next_automaton_state(
        self, observation: Tensor, state: StrategyState, automata: _StackedAutomata
    ) -> Int[Tensor, "world agent"]:
        """States after the last round; before the first, the initial states."""
        space, num_options = state.observation_space, state.num_options
        own, others = (space.read(observation, p) for p in ("own_actions", "other_actions"))
        if own.shape[-1] < num_options or others.shape[-1] < num_options:
            outcome = torch.zeros_like(state.automaton_state)  # no strategy uses history
        else:
            defected = own[..., 0] < 0.5
            options = torch.arange(num_options, device=observation.device)
            cooperation = 1.0 - options / (num_options - 1)
            shares = total(others[..., :num_options] * cooperation, -1)
            others_defected = shares < automata.threshold[state.automaton_state] - SHARE_TOLERANCE
            outcome = 2 * defected.to(torch.int64) + others_defected.to(torch.int64)
        started = space.read(observation, "game_started")[..., 0] > 0
        next_states = automata.transitions[state.automaton_state, outcome]
        return torch.where(started, next_states, state.automaton_state)


@dataclasses.dataclass(frozen=True)
class _StackedAutomata:
    """Strategies as tensors over all states; columns of `transitions`: see `NextStates`."""

    cooperation_probabilities: Float[Tensor, " state"]
    transitions: Int[Tensor, "state 4"]
    threshold: Float[Tensor, " state"]
    initial_states: Int[Tensor, " name"]

    def to(self, device: torch.device) -> _StackedAutomata:
        """The same tensors on a device."""
        return _StackedAutomata(*(tensor.to(device) for tensor in vars(self).values()))
