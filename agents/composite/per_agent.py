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
from mores.agents.composite.policy_config import nested_validation_errors, policy_from_config
from mores.core.environment import ActionOutput, Capability, Phase, Policy, Role, Transition
from mores.core.errors import ParameterError, UserError
from mores.core.random_streams import RandomStreams

MAX_LINEUP_WORLDS = 256  # after which who sits where must repeat, for `automata_by_world` to tell


@dataclasses.dataclass(frozen=True)
class PerAgentState:
    """What each player remembers, and what kind of player with how many seats that was."""

    member_states: tuple[Any, ...]
    state_kinds: tuple[str, ...]


class PolicyMember(NamedTuple):
    """One of the players, and its seats."""

    policy: Policy
    member_index: int
    agents: slice

    @property
    def state_kind(self) -> str:
        """Who may go on from its memory: whoever keeps it alike and has as many seats."""
        kinds = [kind for kind in type(self.policy).__mro__ if issubclass(kind, Policy)]
        own = [kind for kind in kinds if kind is not Policy and "on_episode_start" in vars(kind)]
        kind = own[-1] if own else type(self.policy)
        many = self.agents.stop - self.agents.start
        return f"{kind.__module__}.{kind.__qualname__} {many}"

    @property
    def name(self) -> str:
        """Where its draws and whatever it says of itself belong."""
        return f"seats {self.member_index}"


class PerAgentPolicy(Policy):
    """Several players who share the seats of a role, in order."""

    tags: ClassVar[Mapping[str, object]] = {"learns": True, "stochastic": True}

    policies: tuple[Policy, ...] = Field(
        min_length=1, description="players, each with its kind and parameters"
    )
    agents_per_policy: tuple[int, ...] | None = Field(
        default=None, description="how many seats each player has; default: one each"
    )

    @field_validator("policies", mode="before")
    @classmethod
    def _make_policies(cls, value: Any, info: Any) -> Any:
        """Make the players; a file is read strictly: no text becomes a number."""
        if not isinstance(value, (list, tuple)):
            return value
        players, wrong = [], []
        for seat, asked in enumerate(value):
            try:
                players.append(policy_from_config(asked, strict=info.mode == "json"))
            except ValueError as error:
                wrong += nested_validation_errors(error, seat, asked)
        if wrong:
            raise ValidationError.from_exception_data("cast", wrong)
        return tuple(players)

    def model_post_init(self, context: Any) -> None:
        """Refuse counts that do not go with the players."""
        if self.agents_per_policy is None:
            return
        if len(self.agents_per_policy) != len(self.policies):
            many = f"{len(self.agents_per_policy)} for {len(self.policies)} players"
            raise ParameterError(
                message=f"counts: a number of seats for each player, not {many}", code="wrong_shape"
            )
        if min(self.agents_per_policy) < 1:
            raise ParameterError(
                "agents_per_policy",
                message=f"counts: every player has a seat at least, not {list(self.agents_per_policy)}",
                code="out_of_range",
            )

    @field_serializer("policies")
    def _serialize_policies(self, policies: tuple[Policy, ...], info: Any) -> list[dict[str, Any]]:
        given = info.exclude_unset
        return [
            {"kind": _kind_of(p), **p.model_dump(mode="json", by_alias=True, exclude_unset=given)}
            for p in policies
        ]

    @functools.cached_property
    def members(self) -> tuple[PolicyMember, ...]:
        """The players and their seats, in order."""
        found, first = [], 0
        for number, (player, count) in enumerate(
            zip(self.policies, self._agents_per_policy, strict=True)
        ):
            found.append(PolicyMember(player, number, slice(first, first + count)))
            first += count
        return tuple(found)

    @functools.cached_property
    def _state_kinds(self) -> tuple[str, ...]:
        return tuple(member.state_kind for member in self.members)

    @property
    def _agents_per_policy(self) -> tuple[int, ...]:
        return (
            (1,) * len(self.policies) if self.agents_per_policy is None else self.agents_per_policy
        )

    def supports(self, capability: Capability) -> bool:
        """What one of the players can, all can; nothing is forgotten if no learner forgets."""
        if capability != "on_episode_start":
            return any(player.supports(capability) for player in self.policies)
        learners = [p for p in self.policies if p.supports("update") or p.supports("fit_offline")]
        return all(player.supports("on_episode_start") for player in learners)

    # --- in play ---------------------------------------------------------------------------------

    def initial_state(
        self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams
    ) -> PerAgentState:
        """What each player begins with."""
        self._check_num_agents(role)
        memories = []
        for member in self.members:
            own = self._member_role(role, member)
            try:
                memories.append(
                    member.policy.initial_state(own, phases, streams.child(member.name))
                )
            except UserError as error:
                raise UserError(
                    f"{member.name}: {error}", code=error.code, path=error.path
                ) from None
        return self._make_state(memories)

    def act(
        self,
        phase: Phase,
        observation: Float[Tensor, "world agent size"],
        action_mask: Bool[Tensor, "world agent option"] | None,
        state: PerAgentState,
        streams: RandomStreams,
    ) -> ActionOutput:
        """Each player acts for its seats."""
        return self._act_members("act", phase, observation, action_mask, state, streams)

    def act_with_search(
        self,
        phase: Phase,
        observation: Float[Tensor, "world agent size"],
        action_mask: Bool[Tensor, "world agent option"] | None,
        state: PerAgentState,
        streams: RandomStreams,
    ) -> ActionOutput:
        """The same, with whatever search each is capable of."""
        return self._act_members("act_with_search", phase, observation, action_mask, state, streams)

    def _act_members(
        self,
        method: str,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: PerAgentState,
        streams: RandomStreams,
    ) -> ActionOutput:
        acts: list[ActionOutput] = []
        for member, held in self._members_with_states(state):
            open_to = None if action_mask is None else action_mask[:, member.agents]
            decide = getattr(member.policy, method)
            sight = observation[:, member.agents]
            acts.append(decide(phase, sight, open_to, held, streams.child(member.name)))
        extra = {
            f"{member.name}/{name}": told
            for member, act in zip(self.members, acts, strict=True)
            for name, told in act.extra.items()
        }
        action = torch.cat([act.action for act in acts], 1)
        return ActionOutput(action, self._make_state(act.state for act in acts), extra)

    def on_episode_start(
        self, state: PerAgentState, initial: Callable[[], PerAgentState], reset_mask: Tensor
    ) -> PerAgentState:
        """Each player decides what it keeps; fresh memories are made once, if at all.

        In a new stage others may sit here: a player that finds another kind's memory begins anew.
        """
        made = functools.cache(initial)

        def own(number: int) -> Callable[[], Any]:
            return lambda: made().member_states[number]

        held = dict(enumerate(zip(state.state_kinds, state.member_states, strict=True)))
        kept = []
        for player, number, _ in self.members:
            kind, memory_then = held.get(number, ("", None))
            if kind == self._state_kinds[number]:
                kept.append(player.on_episode_start(memory_then, own(number), reset_mask))
            else:
                kept.append(made().member_states[number])
        return self._make_state(kept)

    def on_stage_start(self, state: PerAgentState, role: Role) -> PerAgentState:
        """Each player that finds a memory of its kind moves on; the others begin anew in `again`.

        Raises:
            UserError: the role has other seats here.
        """
        self._check_num_agents(role)
        held = list(state.member_states)
        for member, kind, knows in zip(
            self.members, state.state_kinds, state.member_states, strict=False
        ):
            if kind == member.state_kind:
                held[member.member_index] = member.policy.on_stage_start(
                    knows, self._member_role(role, member)
                )
        return dataclasses.replace(state, member_states=tuple(held))

    def share_parameters(self, state: PerAgentState, other_state: PerAgentState) -> PerAgentState:
        """Those who share what they learn with an equal player do, seat by seat."""
        return self._make_state(
            member.policy.share_parameters(held, theirs) if member.policy.supports("share_parameters") else held
            for (member, held), theirs in zip(
                self._members_with_states(state), other_state.member_states, strict=True
            )
        )

    # --- learning --------------------------------------------------------------------------------

    def update(
        self, state: PerAgentState, transition: Transition, streams: RandomStreams
    ) -> PerAgentState:
        """Those who learn from reward hear of their own seats."""
        learned = []
        for member, held in self._members_with_states(state):
            if member.policy.supports("update"):
                seats = member.agents
                own = dataclasses.replace(
                    transition,
                    reward=transition.reward[:, seats],
                    next_observation=transition.next_observation[:, seats],
                    feedback={name: told[:, seats] for name, told in transition.feedback.items()},
                )
                held = member.policy.update(held, own, streams.child(member.name))
            learned.append(held)
        return self._make_state(learned)

    def fit_offline(
        self, state: PerAgentState, dataset: Any, streams: RandomStreams
    ) -> PerAgentState:
        """Those who learn from a record get that of their own seats."""
        learned = []
        for member, held in self._members_with_states(state):
            if member.policy.supports("fit_offline"):
                own = _select_agents(dataset, member.agents)
                held = member.policy.fit_offline(held, own, streams.child(member.name))
            learned.append(held)
        return self._make_state(learned)

    def state_dict(self, state: PerAgentState) -> Mapping[str, Tensor]:
        """What each has learned."""
        return self._gather(state, "state_dict")

    def latent(self, state: PerAgentState) -> Mapping[str, Tensor]:
        """What each alone knows."""
        return self._gather(state, "latent")

    def stop_reasons(self, state: PerAgentState) -> list[str]:
        """Learners that had to stop."""
        return [
            f"{member.name}: {line}"
            for member, held in self._members_with_states(state)
            for line in member.policy.stop_reasons(held)
        ]

    @property
    def parameter_keys(self) -> frozenset[str]:
        """Each at its own seats."""
        return frozenset(
            f"{member.name}, {member.state_kind} {place}"
            for member in self.members
            for place in member.policy.parameter_keys
        )

    def dry_run_version(self) -> PerAgentPolicy:
        """All of them so."""
        return type(self)(
            policies=tuple(player.dry_run_version() for player in self.policies),
            agents_per_policy=self.agents_per_policy,
        )

    @property
    def frozen(self) -> bool:
        """Where all who could learn are."""
        able = [
            player for player in self.policies if player.supports("update") or player.supports("fit_offline")
        ]
        return bool(able) and all(player.frozen for player in able)

    def no_update_reason(self, state: PerAgentState, member_name: str = "") -> str:
        """What one of them waits for."""
        name, _, rest = member_name.partition("/")  # of a cast within this one, who there
        for member, held in self._members_with_states(state):
            if member.name == name:
                return member.policy.no_update_reason(held, rest)
        return ""

    def never_updates_reason(self, role: Role, rounds: int, worlds: int) -> str:
        """Where one of those who are to learn as they act cannot."""
        told = [
            (
                member.name,
                member.policy.never_updates_reason(self._member_role(role, member), rounds, worlds),
            )
            for member in self.members
            if member.policy.supports("update") and not member.policy.frozen
        ]
        return "; ".join(f"{name}: {line}" for name, line in told if line)

    def _check_num_agents(self, role: Role) -> None:
        """Refuse a role with another number of seats."""
        if role.num_agents != (seats := sum(self._agents_per_policy)):
            hint = "" if self.agents_per_policy is not None else "; counts says how many each has"
            raise UserError(
                f"a cast for {seats} seats, and {role.name} has {role.num_agents}{hint}",
                code="wrong_shape",
                path=f"players.{role.name}",
            )

    def _member_role(self, role: Role, member: PolicyMember) -> Role:
        """The role as one of its players is told of it."""
        return dataclasses.replace(role, num_agents=member.agents.stop - member.agents.start)

    def _gather(self, state: PerAgentState, method: str) -> dict[str, Tensor]:
        return {
            f"{member.name}/{name}": told
            for member, held in self._members_with_states(state)
            for name, told in getattr(member.policy, method)(held).items()
        }

    def _make_state(self, member_states: Iterable[Any]) -> PerAgentState:
        return PerAgentState(tuple(member_states), self._state_kinds)

    def _members_with_states(self, state: PerAgentState) -> Iterator[tuple[PolicyMember, Any]]:
        """The players, each with its own memory."""
        return zip(self.members, state.member_states, strict=True)

    # --- what formulas ask -----------------------------------------------------------------------

    def automata_by_world(self, num_agents: int) -> tuple[tuple[Any, ...], ...] | None:
        """Who sits where in world 0, 1, ... of a replicate, where that is a strategy's automaton.

        None for a seat with another player; none at all if that repeats too late to tell.
        """
        if num_agents != sum(self._agents_per_policy):
            return None
        each: list[tuple[tuple[Any, ...], ...]] = []
        for player, count in zip(self.policies, self._agents_per_policy, strict=True):
            found = ((None,) * count,)
            if isinstance(player, _HasAutomata):
                told = player.automata_by_world(count)
                if told is None:
                    return None
                found = told
            each.append(found)
        worlds = math.lcm(*map(len, each))
        if worlds > MAX_LINEUP_WORLDS:
            return None
        return tuple(sum((rows[w % len(rows)] for rows in each), ()) for w in range(worlds))


@runtime_checkable
class _HasAutomata(Protocol):
    def automata_by_world(self, num_agents: int) -> tuple[tuple[Any, ...], ...] | None: ...


def _select_agents(dataset: Any, agents: slice) -> Any:
    """A record of a role as one of some of its seats, which stand third in all that it holds."""

    def own(told: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor[:, :, agents] for name, tensor in told.items()}

    reward = dataset.reward
    return dataclasses.replace(
        dataset,
        seen=own(dataset.observation),
        acted=own(dataset.action),
        reward=None if reward is None else reward[:, :, agents],
        feedback=own(dataset.feedback),
    )


def _kind_of(policy: Policy) -> str:
    """The name that its class is known by, or else the class's own."""
    return registry.kind_of("policy", policy) or type(policy).__name__
