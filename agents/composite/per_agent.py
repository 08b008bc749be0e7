"""Several policies that share a role, agent by agent: a learner against a scripted strategy, say.

    player: {kind: per_agent, policies: [{kind: ppo}, {kind: strategy, name: tit_for_tat}]}

Each policy acts for its own agents alone: it gets their observations, masks, rewards and feedback,
and a role with as many agents. It has its own random streams, and trains or not as it would alone.
Agents are assigned in order, one to each policy, or as many as `agents_per_policy` gives.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from typing import Annotated, Any, ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from mores.agents.language.engine_calls import ActSteps, StepwisePolicy, act_together
from mores.core.analytic_policies import MAX_LINEUP_WORLDS, AgentAutomata, AutomatonPolicy
from mores.core.environment import Phase, Role, Transition
from mores.core.errors import ParameterError, UserError
from mores.core.learner import Learner, TrainingDiagnostics, TrainingMode, can_train, parameter_keys
from mores.core.person_parameters import person_parameters
from mores.core.policy import ActionOutput, Policy, state_kind
from mores.core.random_streams import RandomStreams
from mores.registry.component import component


@dataclasses.dataclass(frozen=True)
class PerAgentState:
    """States of the policies, and the `PolicyMember.state_kind` of each."""

    member_states: tuple[Any, ...]
    state_kinds: tuple[str, ...]


class PolicyMember(NamedTuple):
    """One of the policies, and its agents."""

    policy: Policy
    member_index: int
    agents: slice

    @property
    def state_kind(self) -> str:
        """Kind and number of agents: members of equal kind continue from each other's state."""
        return f"{state_kind(self.policy)} {self.agents.stop - self.agents.start}"

    @property
    def name(self) -> str:
        """Name of the member in messages and in `state_dict`."""
        return f"policy {self.member_index}"

    @property
    def stream_name(self) -> str:
        """Address of its random streams: frozen text."""
        return f"seats {self.member_index}"


class PerAgentPolicy(Learner, AutomatonPolicy):
    """Several policies that share the agents of a role, in order."""

    tags: ClassVar[Mapping[str, object]] = {"stochastic": True}

    policies: tuple[Annotated[Policy, component("policy")], ...] = Field(
        min_length=1, description="policies, each with its kind and parameters"
    )
    agents_per_policy: tuple[int, ...] | None = Field(
        default=None, description="number of agents of each policy; default: one each"
    )

    def model_post_init(self, context: Any) -> None:
        """Check that `agents_per_policy` fits the policies, whose parameters are numbers."""
        for index, policy in enumerate(self.policies):
            for path in person_parameters({"": policy}):
                message = f"{path}: must be a number in per_agent; people differ in a policy alone"
                raise ParameterError("policies", index, message=message, code="unsupported")
        counts = self.agents_per_policy
        if counts is None:
            return
        if len(counts) != len(self.policies):
            raise ParameterError(
                message=f"agents_per_policy needs length {len(self.policies)}, not {len(counts)}",
                code="wrong_shape",
            )
        if min(counts) < 1:
            raise ParameterError(
                "agents_per_policy",
                message=f"each policy must have at least one agent, not {list(counts)}",
                code="out_of_range",
            )

    @functools.cached_property
    def members(self) -> tuple[PolicyMember, ...]:
        """The policies and their agents, in order."""
        members, first = [], 0
        for i, count in enumerate(self._agents_per_policy):
            members.append(PolicyMember(self.policies[i], i, slice(first, first + count)))
            first += count
        return tuple(members)

    @functools.cached_property
    def _state_kinds(self) -> tuple[str, ...]:
        return tuple(member.state_kind for member in self.members)

    @property
    def _agents_per_policy(self) -> tuple[int, ...]:
        return self.agents_per_policy or (1,) * len(self.policies)

    @property
    def separates_draws(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether all learners have separate models for each draw of uncertain parameters."""
        return all(learner.separates_draws for learner in self._learners)

    @property
    def searches(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether one of the policies does."""
        return any(policy.searches for policy in self.policies)

    @property
    def skips_finished(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether one of the policies does."""
        return any(policy.skips_finished for policy in self.policies)

    @property
    def trains(self) -> Set[TrainingMode]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """How its learners train."""
        return {mode for learner in self._learners for mode in learner.trains}

    @property
    def _learners(self) -> list[Learner]:
        return [policy for policy in self.policies if isinstance(policy, Learner)]

    # --- acting ----------------------------------------------------------------------------------

    def initial_state(
        self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams
    ) -> PerAgentState:
        """Initial states of the policies."""
        self._check_num_agents(role)
        member_states = []
        for member in self.members:
            member_role, child = self._member_role(role, member), streams.child(member.stream_name)
            try:
                member_states.append(member.policy.initial_state(member_role, phases, child))
            except UserError as error:
                message = f"{member.name}: {error}"
                raise UserError(message, code=error.code, path=error.path) from None
        return self._make_state(member_states)

    def act(
        self,
        phase: Phase,
        observation: Float[Tensor, "world agent size"],
        action_mask: Bool[Tensor, "world agent option"] | None,
        state: PerAgentState,
        streams: RandomStreams,
        search: bool = False,
        finished: Bool[Tensor, " world"] | None = None,
    ) -> ActionOutput:
        """Actions of each policy for its agents, with search where the policy supports it.

        Language models that are the same are asked in one call (`act_together`).
        """
        outputs: dict[int, ActionOutput] = {}
        in_steps: dict[int, ActSteps] = {}
        for member, member_state in self._members_with_states(state):
            obs, index = observation[:, member.agents], member.member_index
            mask = None if action_mask is None else action_mask[:, member.agents]
            child, policy = streams.child(member.stream_name), member.policy
            searches = search and policy.searches
            if isinstance(policy, StepwisePolicy) and not searches:
                steps = policy.act_steps(phase, obs, mask, member_state, child, finished)
                in_steps[index] = steps
                continue
            options: dict[str, Any] = {"search": True} if searches else {}
            if policy.skips_finished:
                options["finished"] = finished
            outputs[index] = policy.act(phase, obs, mask, member_state, child, **options)
        outputs |= zip(in_steps, act_together(list(in_steps.values())), strict=True)
        ordered = [outputs[member.member_index] for member in self.members]
        extra = {
            f"{member.name}/{name}": tensor
            for member, output in zip(self.members, ordered, strict=True)
            for name, tensor in output.extra.items()
        }
        action = torch.cat([output.action for output in ordered], 1)
        return ActionOutput(action, self._make_state(output.state for output in ordered), extra)

    def expected_action(
        self,
        phase: Phase,
        observation: Float[Tensor, "world agent query size"],
        action_mask: Bool[Tensor, "world agent query option"] | None,
        state: PerAgentState,
        search: bool = False,
    ) -> Float[Tensor, "world agent query option"]:
        """Expected actions of each policy for its agents."""
        expected = []
        for member, member_state in self._members_with_states(state):
            obs = observation[:, member.agents]
            mask = None if action_mask is None else action_mask[:, member.agents]
            searches = search and member.policy.searches
            each = member.policy.expected_action(phase, obs, mask, member_state, searches)
            expected.append(each)
        return torch.cat(expected, 1)

    def on_episode_start(
        self, state: PerAgentState, initial: Callable[[], PerAgentState], reset_mask: Tensor
    ) -> PerAgentState:
        """`on_episode_start` of each policy; `initial` is called once at most.

        In a new stage the members may differ: one without a state of its kind starts anew.
        """
        cached_initial = functools.cache(initial)

        def member_initial(index: int) -> Callable[[], Any]:
            return lambda: cached_initial().member_states[index]

        previous = dict(enumerate(zip(state.state_kinds, state.member_states, strict=True)))
        member_states = []
        for policy, index, _ in self.members:
            kind, member_state = previous.get(index, ("", None))
            initial_member_state = member_initial(index)
            if kind == self._state_kinds[index]:
                member_states.append(
                    policy.on_episode_start(member_state, initial_member_state, reset_mask)
                )
            else:
                member_states.append(initial_member_state())
        return self._make_state(member_states)

    def on_stage_start(self, state: PerAgentState, role: Role) -> PerAgentState:
        """`on_stage_start` of each policy with a state of its kind; the others start anew.

        Raises:
            UserError: the role has another number of agents.
        """
        self._check_num_agents(role)
        member_states = list(state.member_states)
        for member, kind in zip(self.members, state.state_kinds, strict=False):
            if kind == member.state_kind:
                i, member_role = member.member_index, self._member_role(role, member)
                member_states[i] = member.policy.on_stage_start(member_states[i], member_role)
        return dataclasses.replace(state, member_states=tuple(member_states))

    def share_parameters(self, state: PerAgentState, other_state: PerAgentState) -> PerAgentState:
        """Each learner shares its parameters with the same member of the other state."""
        return self._make_state(
            member.policy.share_parameters(member_state, other)
            if isinstance(member.policy, Learner)
            else member_state
            for (member, member_state), other in zip(
                self._members_with_states(state), other_state.member_states, strict=True
            )
        )

    # --- training --------------------------------------------------------------------------------

    def update(
        self, state: PerAgentState, transition: Transition, streams: RandomStreams
    ) -> PerAgentState:
        """State after each online learner was updated with the round of its agents."""
        member_states = []
        for member, member_state in self._members_with_states(state):
            if can_train(member.policy, "online"):
                agents = member.agents
                own = dataclasses.replace(
                    transition,
                    reward=transition.reward[:, agents],
                    next_observation=transition.next_observation[:, agents],
                    feedback={name: x[:, agents] for name, x in transition.feedback.items()},
                )
                child = streams.child(member.stream_name)
                member_state = member.policy.update(member_state, own, child)
            member_states.append(member_state)
        return self._make_state(member_states)

    def fit_offline(
        self, state: PerAgentState, dataset: Any, streams: RandomStreams
    ) -> PerAgentState:
        """State after each offline learner was fitted to the episodes of its agents."""
        member_states = []
        for member, member_state in self._members_with_states(state):
            if can_train(member.policy, "offline"):
                own = _select_agents(dataset, member.agents)
                child = streams.child(member.stream_name)
                member_state = member.policy.fit_offline(member_state, own, child)
            member_states.append(member_state)
        return self._make_state(member_states)

    def state_dict(self, state: PerAgentState) -> Mapping[str, Tensor]:
        """Parameters of all learners, by `<member>/<name>`."""
        return {
            f"{member.name}/{name}": tensor
            for member, member_state in self._members_with_states(state)
            if isinstance(member.policy, Learner)
            for name, tensor in member.policy.state_dict(member_state).items()
        }

    def load_state_dict(self, state: PerAgentState, tensors: Mapping[str, Tensor]) -> PerAgentState:
        """State in which each learner has its parameters of a `state_dict`."""
        member_states = []
        for member, member_state in self._members_with_states(state):
            if isinstance(member.policy, Learner):
                start = f"{member.name}/"
                own = {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
                member_state = member.policy.load_state_dict(member_state, own)
            member_states.append(member_state)
        return self._make_state(member_states)

    def diagnostics(self, state: PerAgentState) -> list[TrainingDiagnostics]:
        """Diagnostics of all learners."""
        return [
            dataclasses.replace(entry, member="/".join(filter(None, (member.name, entry.member))))
            for member, member_state in self._members_with_states(state)
            if isinstance(member.policy, Learner)
            for entry in member.policy.diagnostics(member_state)
        ]

    def learning_metrics(self, state: PerAgentState) -> Mapping[str, Tensor]:
        """Quantities of all learners, by `<member>/<name>`."""
        return {
            f"{member.name}/{name}": values
            for member, member_state in self._members_with_states(state)
            if isinstance(member.policy, Learner)
            for name, values in member.policy.learning_metrics(member_state).items()
        }

    @property
    def parameter_keys(self) -> frozenset[str]:
        """Keys of all policies, by member and kind of state."""
        return frozenset(
            f"{member.name}, {member.state_kind} {key}"
            for member in self.members
            for key in parameter_keys(member.policy)
        )

    def dry_run_version(self) -> PerAgentPolicy:
        """The dry-run versions of all policies."""
        return self._with_policies(
            policy.dry_run_version() if isinstance(policy, Learner) else policy
            for policy in self.policies
        )

    def check_version(self) -> PerAgentPolicy:
        """The versions of all policies for checks before a run."""
        versions = [policy.check_version() for policy in self.policies]
        changed = any(a is not b for a, b in zip(versions, self.policies, strict=True))
        return self._with_policies(versions) if changed else self

    def _with_policies(self, policies: Iterable[Policy]) -> PerAgentPolicy:
        return type(self)(policies=tuple(policies), agents_per_policy=self.agents_per_policy)

    @property
    def couples_arms(self) -> bool:
        """Whether all policies draw from streams."""
        return all(policy.couples_arms for policy in self.policies)

    def identity(self) -> Mapping[str, str]:
        """That of every policy, by its index."""
        return {
            f"{index}.{name}": value
            for index, policy in enumerate(self.policies)
            for name, value in policy.identity().items()
        }

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics of any policy."""
        return tuple(dict.fromkeys(n for policy in self.policies for n in policy.metric_names))

    def metrics(self, state: PerAgentState) -> Mapping[str, Tensor]:
        """Sums over the policies that have a metric."""
        totals: dict[str, Tensor] = {}
        for member, member_state in self._members_with_states(state):
            for name, value in member.policy.metrics(member_state).items():
                totals[name] = totals[name] + value if name in totals else value
        return totals

    @property
    def frozen(self) -> bool:
        """Whether there are learners and all are frozen."""
        return bool(self._learners) and all(learner.frozen for learner in self._learners)

    def _check_num_agents(self, role: Role) -> None:
        if role.num_agents != (num_agents := sum(self._agents_per_policy)):
            hint = "" if self.agents_per_policy else "; agents_per_policy gives a policy several"
            raise UserError(
                f"per_agent has policies for {num_agents} agents, "
                f"and {role.name} has {role.num_agents}{hint}",
                code="wrong_shape",
                path=f"policies.{role.name}",
            )

    def _member_role(self, role: Role, member: PolicyMember) -> Role:
        """The role with the number of agents of a member."""
        return dataclasses.replace(role, num_agents=member.agents.stop - member.agents.start)

    def _make_state(self, member_states: Iterable[Any]) -> PerAgentState:
        return PerAgentState(tuple(member_states), self._state_kinds)

    def _members_with_states(self, state: PerAgentState) -> Iterator[tuple[PolicyMember, Any]]:
        return zip(self.members, state.member_states, strict=True)

    # --- analytic values -------------------------------------------------------------------------

    def automata_by_world(self, num_agents: int) -> tuple[AgentAutomata, ...] | None:
        """Automata of the agents; None also for another number of agents."""
        if num_agents != sum(self._agents_per_policy):
            return None
        by_policy: list[tuple[AgentAutomata, ...]] = []
        for policy, count in zip(self.policies, self._agents_per_policy, strict=True):
            automata: tuple[AgentAutomata, ...] | None = ((None,) * count,)
            if isinstance(policy, AutomatonPolicy):
                automata = policy.automata_by_world(count)
            if automata is None:
                return None
            by_policy.append(automata)
        worlds = math.lcm(*map(len, by_policy))
        if worlds > MAX_LINEUP_WORLDS:
            return None
        return tuple(sum((rows[w % len(rows)] for rows in by_policy), ()) for w in range(worlds))


def _select_agents(dataset: Any, agents: slice) -> Any:
    """Episodes of some agents of a role; the agent dimension is the third."""

    def select(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor[:, :, agents] for name, tensor in tensors.items()}

    reward = dataset.reward
    return dataclasses.replace(
        dataset,
        observation=select(dataset.observation),
        action=select(dataset.action),
        action_mask=select(dataset.action_mask),
        reward=None if reward is None else reward[:, :, agents],
        feedback=select(dataset.feedback),
    )
