"""The simulation loop: worlds are stepped until external agents must act.

All clients are built on `Simulator`, and so is `simulate`, which has no external agents. It holds
the policies and their states, the clock and the ends of episodes; rewards and feedback between two
turns are in its `mores.sim.reward_ledger`.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.core import pytree
from mores.core import stream_addresses as addresses
from mores.core.arguments import check_device, check_integer, check_seed
from mores.core.environment import Environment, Phase, Role, Transition, with_text
from mores.core.errors import UserError
from mores.core.learner import Learner, can_train
from mores.core.people import Population
from mores.core.policy import Policy, draws_from_global_state
from mores.core.random_streams import DrawCounter, RandomStreams, Request, Restart, Worlds
from mores.core.spaces import Discrete
from mores.registry.specs import Spec, policies_from_specs
from mores.sim import action_masks, simulator_state
from mores.sim.action_validation import ProjectedAction, project_action
from mores.sim.autoreset import AutoresetMode, check_autoreset_mode, check_reset_mask
from mores.sim.call_checks import CallChecks
from mores.sim.check_policies import check_agent_assignment, check_external, check_instance
from mores.sim.next_states import NextStates
from mores.sim.policy_parameters import PolicyParameters, Samples
from mores.sim.recorder import Recorder
from mores.sim.reward_ledger import RewardByRole, RewardLedger
from mores.sim.state_views import StateViews


class ExternalTurn(NamedTuple):
    """Events since the external agents last acted.

    Attributes:
        reward: rewards of each external role, `[world, agent]`, and what else the `reward_ledger`
            was asked to report.
        terminated, truncated: worlds whose episode ended by the rules, or at the limit of rounds.
        final_observation: last observation of each external role, `[world, agent, size]`, valid in
            those worlds; `None` if no episode ended.
        projected: external actions that were out of range or illegal and were replaced.
        final_state: state of all worlds before any reset; `None` if no episode ended.
    """

    reward: RewardByRole
    terminated: Bool[Tensor, " world"]
    truncated: Bool[Tensor, " world"]
    final_observation: dict[str, Float[Tensor, "world agent size"]] | None
    projected: dict[str, Bool[Tensor, "world external"]]
    final_state: Any = None


class _Beginnings(NamedTuple):
    """Beginnings of episodes of some worlds: the states, samples of the policies' parameters that
    differ, and states of policies."""

    state: Any
    samples: Samples
    policy_states: dict[str, Any]


class _RoundEnd(NamedTuple):
    """What a round ended with: see `ExternalTurn`.

    `reset_mask`: worlds that were reset then; `previous_reward`: pending rewards before that, if
    phases follow before the next turn.
    """

    terminated: Bool[Tensor, " world"]
    truncated: Bool[Tensor, " world"]
    final_observation: dict[str, Float[Tensor, "world agent size"]] | None = None
    final_state: Any = None
    reset_mask: Bool[Tensor, " world"] | None = None
    previous_reward: RewardByRole | None = None


class Simulator:
    """Simulation of an environment in many worlds.

    Args:
        environment: the environment.
        policies: policy of each role, or its kind, or a mapping with its kind and parameters.
        external: indices of externally controlled agents, by role; the policy of the role acts for
            its other agents.
        worlds: number of worlds, or the replicates to simulate, or a `Worlds`.
        rounds: limit of rounds, after which an episode is truncated.
        autoreset_mode: when worlds that ended start a new episode: `mores.sim.autoreset`.
        population: source of the people of every episode.
        stage: number of the stage, part of the address of random streams.
        device: device of the tensors.
        roles_to_train: roles whose policies may train online; default: all that can.
        search: let policies decide with search, if they can.
        recorder: receives all observations, actions, rewards and feedback.
        checks: class of the checks of what environment and policies return.

    Attributes:
        draws: counts the random numbers drawn so far.
        learning_roles: roles whose policies train online.
        phase_index: index of the next phase in the round; of the first one in which external agents
            act when all worlds are finished.
        policy_parameters: parameters of policies that differ between people, by role and path.
    """

    def __init__(
        self,
        environment: Environment[Any],
        policies: Mapping[str, Policy | Spec] | None = None,
        external: Mapping[str, Sequence[int]] | None = None,
        worlds: int | Sequence[int] | Worlds = 1,
        rounds: int = 100,
        autoreset_mode: AutoresetMode = "disabled",
        population: Population | None = None,
        stage: int = 0,
        device: torch.device | str = "cpu",
        roles_to_train: Collection[str] | None = None,
        search: bool = False,
        recorder: Recorder | None = None,
        checks: type[CallChecks] = CallChecks,
    ) -> None:
        check_instance("environment", environment, Environment)
        if population is not None:
            check_instance("population", population, Population)
            environment.check_population(population)
        self.environment, self.autoreset_mode = environment, check_autoreset_mode(autoreset_mode)
        self.rounds, self.worlds = check_integer("rounds", rounds), Worlds.of(worlds)
        self.population, self.stage, self.device = population, stage, check_device(device)
        self.roles: dict[str, Role] = {
            role.name: with_text(environment, role) for role in environment.roles
        }
        self.phases: tuple[Phase, ...] = environment.phases
        self.external = check_external(external)
        made_policies: dict[str, Policy] = policies_from_specs({} if policies is None else policies)
        check_agent_assignment(self.roles, self.phases, made_policies, self.external)
        self.policies = {
            name: policy
            for name, policy in made_policies.items()
            if len(self.external.get(name, ())) < self.roles[name].num_agents
        }
        self._parameters = PolicyParameters(self.policies, self.roles)
        self._recorder = recorder
        self.checks = checks(environment, self.policies, self.roles, len(self.worlds))
        self._search = {name: search and policy.searches for name, policy in self.policies.items()}
        self._learners = {n: p for n, p in self.policies.items() if isinstance(p, Learner)}
        self.learning_roles = [
            name
            for name, learner in self._learners.items()
            if can_train(learner, "online") and (roles_to_train is None or name in roles_to_train)
        ]
        self._external_indices = {
            name: torch.tensor(agents, device=self.device) for name, agents in self.external.items()
        }
        self._external_acting = [
            [name for name in phase.action_spaces if name in self.external] for phase in self.phases
        ]
        turns = [index for index, roles in enumerate(self._external_acting) if roles]
        self._first_turn = turns[0] if turns else 0  # index of the phase
        if self.autoreset_mode == "next_step" and len(turns) > 1:
            raise UserError(
                "autoreset_mode: next_step needs external agents that act once a round: the step "
                f"that resets a world would be a part of a round; here they act {len(turns)} times",
                code="unsupported",
                path="autoreset_mode",
            )
        self._all_legal: dict[tuple[int, int, int], Tensor] = {}  # by size, never written
        self._no_worlds = torch.zeros(len(self.worlds), dtype=torch.bool, device=self.device)
        counts = {name: role.num_agents for name, role in self.roles.items()}
        self.reward_ledger = RewardLedger(
            counts, len(self.worlds), self.external, self.learning_roles, recorder, self.device
        )
        self.seed: int | None = None
        self.draws = DrawCounter()
        self._views = StateViews()

    # --- episodes ----------------------------------------------------------------------------

    def reset(self, seed: int, policy_states: Mapping[str, Any] | None = None) -> None:
        """Start the first episode in every world, up to the first turn of external agents.

        Args:
            seed: seed of all random streams.
            policy_states: states from an earlier stage, by role, for `Policy.on_stage_start`.
        """
        self.seed = check_seed(seed)
        self.episode = torch.zeros(len(self.worlds), dtype=torch.int64)
        self.start_streams(torch.zeros_like(self.episode))
        all_worlds = ~self._no_worlds
        streams = self._streams.take(torch.arange(len(self.worlds)))
        self.state, samples, _ = self._beginnings(streams)
        self.set_policy_parameters(samples)
        self.checks.initial_state(self.state)
        stored_states = policy_states or {}
        self.policy_states = {}
        for name, policy in self.policies.items():
            initial = functools.partial(self._initial_policy_state, name, streams)
            if name in stored_states:
                state = policy.on_stage_start(stored_states[name], self.roles[name])
                self.policy_states[name] = policy.on_episode_start(state, initial, all_worlds)
            else:
                self.policy_states[name] = initial()
            self.checks.policy_state(name, self.policy_states[name])
        self.share_parameters()
        self._start_episode()

    def share_parameters(self) -> None:
        """Let equal learners of several roles share their parameters, if they do."""
        states, distinct = self.policy_states, list[str]()
        for name, learner in self._learners.items():
            equal = next((other for other in distinct if self._learners[other] == learner), None)
            if equal is None:
                distinct.append(name)
            else:
                states[name] = learner.share_parameters(states[name], states[equal])

    def next_episode(self) -> None:
        """Start a new episode in every world, also where one is not over."""
        self.check_reset("next_episode")
        self._reset_worlds(torch.ones(len(self.worlds), dtype=torch.bool))
        self._start_episode()

    def reset_worlds(self, reset_mask: Bool[Tensor, " world"]) -> None:
        """Start a new episode in some worlds, up to the first turn of their external agents.

        The other worlds do not change. All worlds must be before the first turn of a round.

        Raises:
            UserError: it is another time, or a policy that trains, or a recorder, would see the
                phases before that turn twice; the mask is not `[world]`, or selects no world.
        """
        self.check_reset("reset_worlds")
        if self.phase_index != self._first_turn:
            raise UserError(
                f"reset_mask: worlds can be reset alone before the first phase in which external "
                f"agents act, {self.phases[self._first_turn].name!r}, not in {self.phase.name!r}",
                code="wrong_order",
                path="reset_mask",
            )
        earlier = {
            name for phase in self.phases[: self._first_turn] for name in phase.action_spaces
        }
        if self._first_turn and (self._recorder is not None or earlier & {*self.learning_roles}):
            raise UserError(
                "reset_mask: worlds cannot be reset alone while policies that act before external "
                "agents are trained or recorded",
                code="unsupported",
                path="reset_mask",
            )
        reset_mask = check_reset_mask(reset_mask, len(self.worlds)).to(self.device)
        finished = self.finished
        self._reset_worlds(reset_mask.cpu())
        self.reward_ledger.reset_worlds(reset_mask)
        self.reward_ledger.reset_rounds(reset_mask)
        self.phase_index, self.finished = 0, ~reset_mask  # the other worlds do not change
        while self.phase_index < self._first_turn:
            self._step_phase({})
        remaining = None if finished is None else finished & ~reset_mask
        self.finished = remaining if remaining is not None and bool(remaining.any()) else None

    def _start_episode(self) -> None:
        """Reset the clock and the reward ledger, and step to the first turn of external agents."""
        self.finished: Bool[Tensor, " world"] | None = None
        self.phase_index = 0
        self.reward_ledger.reset()
        while self.external and not self.acting_roles:
            self._step_phase({})

    def start_streams(self, rounds: Int[Tensor, " world"]) -> None:
        """Make the random streams, with the worlds at these rounds of the current `episode`."""
        assert self.seed is not None
        self._streams = RandomStreams.of(
            self.seed,
            self.worlds,
            stage=self.stage,
            episode=self.episode,
            round=rounds,
            device=self.device,
            draws=self.draws,
        )
        self._initial_requests: tuple[Request, ...] = ()
        self._next_states: NextStates | None = None
        self._num_restarts = 0

    def set_policy_parameters(self, samples: Samples) -> None:
        """Let policies act with these samples of the parameters that differ between people."""
        self.policy_parameters = samples
        self._acting = self._parameters.resolve(samples, self._streams)

    def _beginnings(self, streams: RandomStreams, policies: Collection[str] = ()) -> _Beginnings:
        """Of the worlds of the streams, with states of these roles' policies."""
        start = streams.child(addresses.EPISODE_START)
        people = None
        if self.population is not None:
            people = self.population.sample_people(start.child(addresses.POPULATION))
            self.checks.people(self.population, people)
        state = self.environment.reset(start.child(addresses.ENVIRONMENT), people)
        samples = self._parameters.sample(self.environment, state, start)
        policy_states = {name: self._initial_policy_state(name, streams) for name in policies}
        return _Beginnings(state, samples, policy_states)

    def _initial_policy_state(self, role: str, streams: RandomStreams) -> Any:
        scope = streams.child(addresses.EPISODE_START).child(f"{addresses.POLICY}/{role}")
        return self.policies[role].initial_state(self.roles[role], self.phases, scope)

    def _initial_after_restart(self, role: str, restart: Restart) -> Any:
        return self._initial_policy_state(role, restart.restarted)

    def _reset_worlds(self, reset_mask: Tensor) -> None:
        """Start a new episode in the worlds `reset_mask`, which is on the host."""
        worlds = reset_mask.nonzero()[:, 0]
        self.episode = self.episode + reset_mask
        episode = self.episode[worlds]
        restart = self._streams.restart(worlds, episode, self._initial_requests)
        self._streams = restart.streams
        on_device, indices = reset_mask.to(self.device), worlds.to(self.device)
        ahead = self._beginnings_ahead()
        if ahead is None:
            beginnings, rows = self._beginnings(restart.restarted), None
        else:
            rows = ahead.rows(worlds, episode, self.episode).to(self.device)
            beginnings = ahead.tree
        self.state = pytree.replace_rows(self.state, beginnings.state, indices, rows)
        if beginnings.samples:
            samples = self.policy_parameters, beginnings.samples
            self.set_policy_parameters(pytree.replace_rows(*samples, indices, rows))
        for name, policy in self.policies.items():
            if self._has_constant_state(name):
                continue
            if rows is not None and name in beginnings.policy_states:
                prepared = beginnings.policy_states[name]
                initial = functools.partial(pytree.take_rows, prepared, rows)
            else:
                initial = functools.partial(self._initial_after_restart, name, restart)
            self.policy_states[name] = policy.on_episode_start(
                self.policy_states[name], initial, on_device
            )
        self._initial_requests = restart.requests

    def _has_constant_state(self, role: str) -> bool:
        """Whether every initial state of a policy is the present state: none, or the role or
        the layout of its observation."""
        policy = type(self.policies[role])
        if policy.on_episode_start is not Policy.on_episode_start:
            return False
        state = self.policy_states[role]
        if state is None:
            return policy.initial_state is Policy.initial_state
        return state is self.roles[role] or state is self.roles[role].observation_space

    def _beginnings_ahead(self) -> NextStates | None:
        """Beginnings of the next episodes, from the second restart on if worlds restart in turns.

        With them are the states of policies that consist of tensors of worlds and end with the
        episode. None: they are too large to gain, or may not be computed ahead.
        """
        self._num_restarts += 1
        if self._num_restarts == 2 and self.autoreset_mode != "disabled":
            policies = [
                name
                for name, policy in self.policies.items()
                if not policy.keeps_state
                and not draws_from_global_state(policy)
                and pytree.is_of_worlds(self.policy_states[name])
            ]
            held = self.state, self.policy_parameters, [self.policy_states[n] for n in policies]
            if count := NextStates.num_episodes(held, len(self.worlds)):
                beginnings = functools.partial(self._beginnings, policies=policies)
                self._next_states = NextStates(
                    self.worlds, count, self._streams_at_start, beginnings
                )
        return self._next_states

    def _streams_at_start(self, worlds: Worlds, episode: Int[Tensor, " world"]) -> RandomStreams:
        """Streams of some worlds in the first round of these episodes."""
        assert self.seed is not None
        return RandomStreams.of(
            self.seed,
            worlds,
            stage=self.stage,
            episode=episode,
            device=self.device,
            draws=self.draws,
        )

    # --- properties --------------------------------------------------------------------------

    @property
    def phase(self) -> Phase:
        """The next phase."""
        return self.phases[self.phase_index]

    @property
    def acting_roles(self) -> list[str]:
        """Roles whose external agents act in the next phase."""
        return self._external_acting[self.phase_index]

    @property
    def acting_policies(self) -> Mapping[str, Policy]:
        """The policies, with the samples of those parameters that differ between people."""
        return self._acting

    def searches(self, role: str) -> bool:
        """Whether the policy of a role decides with search."""
        return self._search[role]

    @property
    def round(self) -> Int[Tensor, " world"]:
        """Number of completed rounds of each world's episode."""
        return self._streams.round

    @property
    def all_finished(self) -> bool:
        """Whether all worlds are finished."""
        return self.finished is not None and bool(self.finished.all())

    def check_reset(self, call: str) -> None:
        """Check that there is an episode.

        Args:
            call: what needs one, for the message.

        Raises:
            UserError: `reset` was not called.
        """
        if self.seed is None:
            raise UserError(f"call reset before {call}", code="wrong_order")

    def observe(self, role: str) -> Float[Tensor, "world agent size"]:
        """Current observation of the agents of a role."""
        self.check_reset("observe")
        return self._observe(role, self.phase.name)

    def action_mask(
        self, role: str, num_options: action_masks.NumOptions
    ) -> Bool[Tensor, "world agent option"]:
        """Legal options of each agent in the next phase, padded to `num_options`: do not write.

        See `mores.sim.action_masks.pad_action_mask`.
        """
        self.check_reset("action_mask")
        space = self.phase.action_spaces.get(role)
        mask = None
        if space is not None:
            mask = self._action_mask(role, self.phase)
        return action_masks.pad_action_mask(
            space, mask, num_options, self._legal(role, num_options)
        )

    def next_action_mask(
        self, role: str, state: Any, num_options: action_masks.NumOptions
    ) -> Bool[Tensor, "world agent option"]:
        """Legal options of a role in the first phase in which it acts, from a state: do not write.

        Of a state at the end of an episode, those of the turn that would follow.
        """
        phase = next(phase for phase in self.phases if role in phase.action_spaces)
        mask = self.environment.action_mask(state, role, phase.name)
        space = phase.action_spaces[role]
        return action_masks.pad_action_mask(
            space, mask, num_options, self._legal(role, num_options)
        )

    def _legal(self, role: str, num_options: action_masks.NumOptions) -> Tensor:
        """A mask in which all options are legal: do not write."""
        length = sum(num_options) if isinstance(num_options, tuple) else num_options
        size = len(self.worlds), self.roles[role].num_agents, length
        if size not in self._all_legal:
            self._all_legal[size] = torch.ones(size, dtype=torch.bool, device=self.device)
        return self._all_legal[size]

    # --- steps -------------------------------------------------------------------------------

    def step(self, actions: Mapping[str, Tensor] | None = None) -> ExternalTurn:
        """Apply the actions of external agents, and step until they must act again.

        Without external agents a step is one round.

        Args:
            actions: actions of the external agents, by role: `[world, agent]`, or
                `[world, agent, size]` for boxes and several choices. They are detached: gradients
                end at actions.
        """
        self.check_reset("step")
        if self.autoreset_mode == "disabled" and self.all_finished:
            raise UserError("all worlds are finished: call reset", code="wrong_order")
        actions = actions or {}
        if wrong := actions.keys() ^ set(self.acting_roles):
            missing = sorted(wrong - actions.keys())
            raise UserError(
                f"actions: exactly {self.acting_roles} must act now, not {sorted(actions)}",
                code="missing" if missing else "unknown_name",
                path=f"actions.{(missing or sorted(wrong))[0]}",
            )
        waiting = self.finished if self.autoreset_mode == "next_step" else None
        projected = self._step_phase(actions)
        if waiting is not None:
            projected = {name: part & ~waiting[:, None] for name, part in projected.items()}
        ends = _RoundEnd(self._no_worlds, self._no_worlds)
        while True:
            if self.phase_index == 0 and (waiting is not None or self._may_have_ended()):
                ends = self._end_round(waiting)
                if self.autoreset_mode == "disabled" and self.all_finished:
                    self.phase_index = self._first_turn  # as if other worlds still ran
                    break
            if self.acting_roles or (self.phase_index == 0 and not self.external):
                break
            self._step_phase({})
        reward = self.reward_ledger.pop_pending_reward(ends.reset_mask, ends.previous_reward)
        return ExternalTurn(
            reward,
            ends.terminated,
            ends.truncated,
            ends.final_observation,
            projected,
            ends.final_state,
        )

    def _end_round(self, waiting: Bool[Tensor, " world"] | None) -> _RoundEnd:
        """Find the episodes that ended, and reset worlds as `autoreset_mode` says.

        `waiting`: worlds that ended a step ago and are reset now.
        """
        terminated, truncated = self._episode_ends()
        done = terminated if truncated is self._no_worlds else terminated | truncated
        on_host = done.cpu()  # the only read of a device in a round
        any_done = bool(on_host.numpy().any())
        final_observation = final_state = previous_reward = None
        if any_done:
            final_observation = {n: self._next_observation(n) for n in self.external}
            final_state = self.state
        reset_mask = waiting
        if self.autoreset_mode == "same_step":
            reset_mask = done if any_done else None
        elif self.autoreset_mode == "next_step":
            on_host = None if waiting is None else waiting.cpu()
            self.finished = done if any_done else None
        elif any_done:
            self.finished = done if self.finished is None else self.finished | done
        if reset_mask is not None and on_host is not None:
            self._reset_worlds(on_host)
            if not self.acting_roles:  # rewards of the new episodes may come before the next turn
                previous_reward = self.reward_ledger.reset_worlds(reset_mask)
        return _RoundEnd(
            terminated, truncated, final_observation, final_state, reset_mask, previous_reward
        )

    def _step_phase(self, external_actions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Step one phase, in which all roles act on the same state; returns replaced actions."""
        phase, before = self.phase, self.state
        environment, streams = self.environment, self._streams
        actions: dict[str, Tensor] = {}
        projected: dict[str, Tensor] = {}
        for name in phase.action_spaces:
            if name in self.policies:
                policy = self._acting[name]
                obs, mask = self._observe(name, phase.name), self._action_mask(name, phase)
                stream = streams.child(f"{addresses.POLICY}/{name}/{phase.name}")
                options: dict[str, Any] = {"search": True} if self._search[name] else {}
                if policy.skips_finished:
                    options["finished"] = self.finished
                output = policy.act(phase, obs, mask, self.policy_states[name], stream, **options)
                self.checks.action(before, name, phase, mask, output, self.finished)
                action = output.action  # no graph through later rounds
                actions[name] = action.detach() if action.requires_grad else action
                self._set_policy_state(name, output.state)
            if name in external_actions:
                legal, projected[name] = self._project_actions(name, external_actions[name])
                if name in actions:
                    legal = actions[name].index_copy(1, self._external_indices[name], legal)
                elif self.external[name] != list(range(self.roles[name].num_agents)):
                    legal = legal.index_copy(1, self._external_indices[name], legal)
                actions[name] = legal
        if self._recorder is not None:
            for name, action in actions.items():
                obs, mask = self._observe(name, phase.name), self._action_mask(name, phase)
                self._recorder.record_action(name, phase, obs, action, mask)
        result = environment.step(before, phase.name, actions, streams.child(addresses.ENVIRONMENT))
        self.checks.step(before, phase, result, self.finished)
        self.state = result.state
        if result.state is before:  # a careless environment may have written into it
            self._views.clear()
        if self.finished is not None:
            self.state = pytree.where(self.finished, before, result.state)
        if self.reward_ledger.enabled:
            self.reward_ledger.add_reward(result.reward, self.finished)
            self.reward_ledger.add_feedback(result.feedback, self.finished)
        self.phase_index = (self.phase_index + 1) % len(self.phases)
        if self.phase_index == 0:
            self._terminated = result.terminated
            self._streams = streams.next_round()
            if self.learning_roles or self._recorder is not None:
                self._finish_round(streams)
        return projected

    def _set_policy_state(self, role: str, state: Any) -> None:
        """Set a policy's state; it does not change in finished worlds."""
        if self.finished is not None:
            state = pytree.where(self.finished, self.policy_states[role], state)
        self.policy_states[role] = state

    def _finish_round(self, streams: RandomStreams) -> None:
        """Update the learning policies with the transition of the completed round."""
        terminated, truncated = self._episode_ends()
        finished = self._no_worlds if self.finished is None else self.finished
        if self._recorder is not None:
            self._recorder.record_round(terminated | truncated, finished)
        for name in self.learning_roles:
            reward, feedback = self.reward_ledger.pop_round(name)
            obs = self._next_observation(name)
            transition = Transition(reward, terminated, truncated, finished, obs, feedback)
            state = self._learners[name].update(
                self.policy_states[name], transition, streams.child(f"{addresses.UPDATE}/{name}")
            )
            self._set_policy_state(name, state)

    def _episode_ends(self) -> tuple[Tensor, Tensor]:
        """Worlds terminated and truncated in the completed round."""
        terminated = self._no_worlds if self._terminated is None else self._terminated
        truncated = self._no_worlds
        if self._streams.max_round >= self.rounds:
            truncated = (self.round >= self.rounds) & ~terminated
        if self.finished is not None:
            running = ~self.finished
            terminated = terminated & running
            truncated = truncated if truncated is self._no_worlds else truncated & running
        return terminated, truncated

    def _may_have_ended(self) -> bool:
        """Whether any world can have ended, without a read of tensors on the device."""
        return self._terminated is not None or self._streams.max_round >= self.rounds

    def _next_observation(self, role: str) -> Tensor:
        first = next(phase.name for phase in self.phases if role in phase.action_spaces)
        return self._observe(role, first)

    def _observe(self, role: str, phase: str) -> Tensor:
        """Checked observation of a role; computed once for every state."""
        obs = self._views.get("observe", self.state, role, phase)
        if obs is None:
            obs = self.environment.observe(self.state, role, phase)
            self.checks.observation(self.state, role, phase, obs)
            self._views.keep("observe", self.state, role, phase, obs)
        return obs

    def _action_mask(self, role: str, phase: Phase) -> Tensor | None:
        """Checked action mask of a role; computed once for every state, if there is any."""
        mask = self._views.get("action_mask", self.state, role, phase.name)
        if mask is None:
            mask = self.environment.action_mask(self.state, role, phase.name)
            self.checks.action_mask(self.state, role, phase, mask, self.finished)
            if mask is not None:
                self._views.keep("action_mask", self.state, role, phase.name, mask)
        return mask

    def _project_actions(self, role: str, action: Tensor) -> ProjectedAction:
        """Legal actions of the external agents of a role."""
        space, agents = self.phase.action_spaces[role], self._external_indices[role]
        leading = (len(self.worlds), len(agents))
        is_vector = not isinstance(space, Discrete)
        if tuple(action.shape[:2]) != leading or action.dim() != 2 + is_vector:
            expected = (*leading, space.size) if is_vector else leading
            raise UserError(
                f"actions of {role!r} must have shape {expected}, not {tuple(action.shape)}",
                code="wrong_shape",
                path=f"actions.{role}",
            )
        mask = self._action_mask(role, self.phase)
        if mask is not None:
            mask = mask[:, agents]
        return project_action(space, action.detach().to(self.device), mask, role)

    def state_dict(self) -> dict[str, Tensor]:
        """All tensors needed to resume the simulation, by name."""
        return simulator_state.state_dict(self)

    def load_state_dict(self, saved: Mapping[str, Tensor]) -> None:
        """Restore a saved state into a simulator constructed with the same arguments.

        Raises:
            UserError: the state is from a simulator with other arguments.
        """
        simulator_state.load_state_dict(self, saved)
