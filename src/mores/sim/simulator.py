"""The one loop of the house: worlds played until somebody outside must act.

Every view stands on the `Simulator`, and so does `play`, which is a table with nobody outside. It
owns the seats, the players' memories, the clock and the end of episodes; what is owed and told
for them stands in its books (`mores.sim.reward_ledger`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.core import pytree
from mores.core.arguments import check_device, check_integer
from mores.core.environment import Discrete, Environment, Phase, Policy, Role, Transition
from mores.core.errors import UserError
from mores.core.people import Population as Population
from mores.core.random_streams import RandomStreams, Worlds
from mores.sim import action_masks, simulator_state
from mores.sim.action_validation import ProjectedAction, project_action
from mores.sim.check_policies import check_agent_assignment
from mores.sim.episode_dataset import EpisodeRecorder
from mores.sim.reward_ledger import RewardLedger


class ExternalTurn(NamedTuple):
    """What happened since the outside seats last acted.

    Attributes:
        reward: what the seats of each outside role earned, `[world, agent]`.
        terminated, truncated: worlds whose episode ended by itself, or by the limit of rounds.
        final_observation: in those worlds, what each outside role last saw, `[world, agent, size]`; else None.
        projected: outside actions that were out of range or illegal and had to be changed.
        final_state: the state of all worlds in which some ended, before any began anew; else None.
    """

    reward: dict[str, Float[Tensor, "world agent"]]
    terminated: Bool[Tensor, " world"]
    truncated: Bool[Tensor, " world"]
    final_observation: dict[str, Float[Tensor, "world agent size"]] | None
    projected: dict[str, Bool[Tensor, "world seat"]]
    final_state: Any = None


class Simulator:
    """A game being played in many worlds.

    Args:
        environment: the environment.
        policies: who sits where, by role.
        external: seats filled from outside, by role; a player fills the other seats of the role.
        worlds: how many worlds, or the replicates to play, or a `Worlds`.
        rounds: after so many an episode is cut off.
        autoreset: begin a new episode at once in the worlds that ended; else they stand still.
        population: a population that makes the people of every episode.
        stage: number of the stage, so that stages have draws of their own.
        device: where tensors live.
        roles_to_train: roles whose players may learn from reward; by default all that can.
        search: players that can search when they decide do so (`Policy.act_with_search`).
        recorder: told what everybody saw, did and earned.

    Attributes:
        learning_roles: roles whose players learn from reward here.
    """

    def __init__(
        self,
        environment: Environment[Any],
        policies: Mapping[str, Policy] | None = None,
        external: Mapping[str, Sequence[int]] | None = None,
        worlds: int | Sequence[int] | Worlds = 1,
        rounds: int = 100,
        autoreset: bool = False,
        population: Population | None = None,
        stage: int = 0,
        device: torch.device | str = "cpu",
        roles_to_train: Collection[str] | None = None,
        search: bool = False,
        recorder: EpisodeRecorder | None = None,
    ) -> None:
        self.environment, self.rounds, self.autoreset = (
            environment,
            check_integer("rounds", rounds),
            autoreset,
        )
        self.worlds = Worlds.of(worlds)
        self.population, self.stage, self.device = population, stage, check_device(device)
        self.roles: dict[str, Role] = {role.name: role for role in environment.roles}
        self.phases: tuple[Phase, ...] = environment.phases
        self.external = {name: list(seats) for name, seats in (external or {}).items() if seats}
        if not len(self.worlds):
            raise UserError("a table needs at least one world", code="out_of_range", path="worlds")
        check_agent_assignment(self.roles, self.phases, policies or {}, self.external)
        self.policies = {
            name: player
            for name, player in (policies or {}).items()
            if len(self.external.get(name, ())) < self.roles[name].num_agents
        }
        self.search, self._recorder = search, recorder
        self.learning_roles = [
            name
            for name, player in self.policies.items()
            if player.supports("update") and (roles_to_train is None or name in roles_to_train)
        ]
        self._external_indices = {
            name: torch.tensor(seats, device=self.device) for name, seats in self.external.items()
        }
        self._external_acting = [
            [name for name in phase.action_spaces if name in self.external] for phase in self.phases
        ]
        self._no_worlds = torch.zeros(len(self.worlds), dtype=torch.bool, device=self.device)
        counts = {name: role.num_agents for name, role in self.roles.items()}
        self.reward_ledger = RewardLedger(
            counts, len(self.worlds), self.external, self.learning_roles, recorder, self.device
        )
        self.seed: int | None = None

    # --- the episode -------------------------------------------------------------------------

    def reset(self, seed: int, policy_states: Mapping[str, Any] | None = None) -> None:
        """Begin the first episode in every world, and play on to the first outside turn.

        Args:
            seed: of all draws.
            policy_states: by role, what players bring from an earlier stage; they begin `again` with it.
        """
        self.seed = seed
        self.episode = torch.zeros(len(self.worlds), dtype=torch.int64)
        self._open_span(torch.zeros_like(self.episode))
        everyone = ~self._no_worlds
        self.state, begin = self._initial_states(everyone.cpu())
        kept = policy_states or {}
        self.policy_states = {}
        for name, fresh in begin.items():
            player = self.policies[name]
            if name in kept:
                moved = player.on_stage_start(kept[name], self.roles[name])
                self.policy_states[name] = player.on_episode_start(moved, fresh, everyone)
            else:
                self.policy_states[name] = fresh()
        self.share_parameters()
        self._start_episode()

    def share_parameters(self) -> None:
        """Let equal players at several roles share what they learn, if that is how they are."""
        first: list[str] = []
        for name, player in self.policies.items():
            if not player.supports("share_parameters"):
                continue
            equal = next((other for other in first if self.policies[other] == player), None)
            if equal is None:
                first.append(name)
            else:
                self.policy_states[name] = player.share_parameters(
                    self.policy_states[name], self.policy_states[equal]
                )

    def next_episode(self) -> None:
        """Begin a new episode in every world, wherever it stands."""
        if self.seed is None:
            raise UserError("reset the table before the next episode", code="wrong_order")
        self._reset_worlds(~self._no_worlds)
        self._start_episode()

    def _start_episode(self) -> None:
        """The clock and the books at an episode's start."""
        self.finished: Bool[Tensor, " world"] | None = None
        self._phase_index = 0
        self.reward_ledger.reset()
        while self.external and not self.acting_roles:
            self._step_phase({})

    def _open_span(self, rounds: Tensor) -> None:
        """From here on worlds stand at these rounds, `[world]`."""
        assert self.seed is not None
        equal = bool((rounds == rounds[0]).all())
        self._streams = RandomStreams.of(
            self.seed,
            self.worlds,
            stage=self.stage,
            episode=self.episode,
            round=int(rounds[0]) if equal else rounds,
            device=self.device,
        )
        self._round_offset = 0  # rounds since the span was opened
        self._max_round = int(rounds.max())  # the most advanced world, known without a look

    def _initial_states(self, reset_mask: Tensor) -> tuple[Any, dict[str, Callable[[], Any]]]:
        """First state of the worlds `reset_mask`, and what makes players' first memories of them."""
        draws = self._streams.take(reset_mask.nonzero()[:, 0].to(self.device)).child("start")
        start = None if self.population is None else self.population.sample_people(draws.child("people"))
        state = self.environment.reset(draws.child("game"), start)
        memory = {
            name: functools.partial(
                player.initial_state, self.roles[name], self.phases, draws.child(f"player/{name}")
            )
            for name, player in self.policies.items()
        }
        return state, memory

    def _reset_worlds(self, reset_mask: Tensor) -> None:
        """Begin a new episode in the worlds `reset_mask`."""
        on_host = reset_mask.cpu()
        self.episode = self.episode + on_host
        self._open_span(torch.where(on_host, 0, self.round.cpu()))
        state, memory = self._initial_states(on_host)
        self.state = pytree.scatter(self.state, state, reset_mask)
        for name, player in self.policies.items():
            self.policy_states[name] = player.on_episode_start(
                self.policy_states[name], memory[name], reset_mask
            )

    # --- what is known from outside -----------------------------------------------------------

    @property
    def phase(self) -> Phase:
        """The phase to be played next."""
        return self.phases[self._phase_index]

    @property
    def acting_roles(self) -> list[str]:
        """Outside roles that must act now."""
        return self._external_acting[self._phase_index]

    @property
    def round(self) -> Int[Tensor, " world"]:
        """Rounds each world has completed in its episode."""
        return self._streams.round + self._round_offset

    @property
    def all_finished(self) -> bool:
        """No world plays on."""
        return self.finished is not None and bool(self.finished.all())

    def observe(self, role: str) -> Float[Tensor, "world agent size"]:
        """What the seats of a role see now."""
        return self.environment.observe(self.state, role, self.phase.name)

    def action_mask(
        self, role: str, num_options: action_masks.NumOptions
    ) -> Bool[Tensor, "world agent option"]:
        """Which of so many options are open to each seat now, in one choice or each of several.

        A waiting seat has the first, and it is ignored. Masks of several choices stand one after
        the other.
        """
        length = sum(num_options) if isinstance(num_options, tuple) else num_options
        blank = self._no_worlds[:, None, None].expand(-1, self.roles[role].num_agents, length)
        space = self.phase.action_spaces.get(role)
        legal = (
            None
            if space is None
            else self.environment.action_mask(self.state, role, self.phase.name)
        )
        return action_masks.pad_action_mask(space, legal, num_options, blank)

    # --- playing --------------------------------------------------------------------------------

    def step(self, actions: Mapping[str, Tensor] | None = None) -> ExternalTurn:
        """Let the outside seats act, and play on until they must act again.

        Args:
            actions: by role, the actions of its outside seats: `[world, seat]`, or
                `[world, seat, size]` where a seat gives several numbers. With nobody outside, one
                whole round is played.
        """
        if self.seed is None:
            raise UserError("reset the table before the first step", code="wrong_order")
        if self.all_finished:
            raise UserError("every world has ended: reset the table", code="wrong_order")
        actions = actions or {}
        if wrong := actions.keys() ^ set(self.acting_roles):
            missing = sorted(wrong - actions.keys())
            raise UserError(
                f"{self.acting_roles} must act now, and nobody else; got {sorted(actions)}",
                code="missing" if missing else "unknown_name",
                path=f"actions.{(missing or sorted(wrong))[0]}",
            )
        terminated = truncated = self._no_worlds
        final, ended_in, owed_then = None, None, None
        repaired = self._step_phase(actions)
        while True:
            if self._phase_index == 0 and self._may_have_ended():
                terminated, truncated = self._episode_ends()
                over = terminated | truncated
                if over.any():
                    final = {name: self._next_observation(name) for name in self.external}
                    ended_in = self.state
                    if self.autoreset:
                        self._reset_worlds(over)
                        owed_then = self.reward_ledger.reset_worlds(over)
                    else:
                        self.finished = over if self.finished is None else self.finished | over
                        if self.all_finished:
                            break
            if self.acting_roles or (self._phase_index == 0 and not self.external):
                break
            self._step_phase({})
        pay = self.reward_ledger.pop_pending_reward(terminated | truncated, owed_then)
        return ExternalTurn(pay, terminated, truncated, final, repaired, ended_in)

    def _step_phase(self, external_actions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """One phase: all its roles see the same state, act, and the worlds move."""
        phase, before = self.phase, self.state
        game, draws = self.environment, self._streams.at(self._round_offset)
        actions: dict[str, Tensor] = {}
        repaired: dict[str, Tensor] = {}
        for name in phase.action_spaces:
            if name in self.policies:
                player = self.policies[name]
                decide = player.act_with_search if self.search else player.act
                act = decide(
                    phase,
                    game.observe(before, name, phase.name),
                    game.action_mask(before, name, phase.name),
                    self.policy_states[name],
                    draws.child(f"player/{name}/{phase.name}"),
                )
                actions[name] = act.action
                self._set_policy_state(name, act.state)
            if name in external_actions:
                theirs, repaired[name] = self._project_actions(name, external_actions[name])
                inside = actions.get(name, theirs)  # nobody inside: all seats are overwritten
                actions[name] = inside.index_copy(1, self._external_indices[name], theirs)
        if self._recorder is not None:
            for name, action in actions.items():
                seen = game.observe(before, name, phase.name)
                legal = game.action_mask(before, name, phase.name)
                self._recorder.record_action(name, phase, seen, action, legal)
        step = game.step(before, phase.name, actions, draws.child("game"))
        self.state = (
            step.state if self.finished is None else pytree.where(self.finished, before, step.state)
        )
        if self.reward_ledger.enabled:
            self.reward_ledger.add_reward(step.reward, self.finished)
            self.reward_ledger.add_feedback(step.feedback)
        self._phase_index = (self._phase_index + 1) % len(self.phases)
        if self._phase_index == 0:
            self._terminated = step.terminated
            self._round_offset += 1
            if self.learning_roles or self._recorder is not None:
                self._finish_round(draws)
        return repaired

    def _set_policy_state(self, role: str, state: Any) -> None:
        """Keep a player's memory; in worlds that are over it stands still, as their state does."""
        held = self.policy_states[role]
        self.policy_states[role] = (
            state if self.finished is None else pytree.where(self.finished, held, state)
        )

    def _finish_round(self, streams: RandomStreams) -> None:
        """Tell the players that learn what the round just completed led to."""
        terminated, truncated = self._episode_ends()
        over = self._no_worlds if self.finished is None else self.finished
        if self._recorder is not None:
            self._recorder.record_round(terminated | truncated, over)
        for name in self.learning_roles:
            earned, told = self.reward_ledger.pop_round(name)
            seen = self._next_observation(name)
            outcome = Transition(earned, terminated, truncated, over, seen, told)
            learned = self.policies[name].update(
                self.policy_states[name], outcome, streams.child(f"learner/{name}")
            )
            self._set_policy_state(name, learned)

    def _episode_ends(self) -> tuple[Tensor, Tensor]:
        """Which worlds ended in the round just completed: by themselves, by the limit."""
        terminated = self._no_worlds if self._terminated is None else self._terminated
        truncated = self._no_worlds
        if self._max_round + self._round_offset >= self.rounds:
            truncated = (self.round >= self.rounds) & ~terminated
        if self.finished is not None:
            terminated, truncated = terminated & ~self.finished, truncated & ~self.finished
        return terminated, truncated

    def _may_have_ended(self) -> bool:
        """Whether any world can have ended now, as far as is known without looking at tensors."""
        return self._terminated is not None or self._max_round + self._round_offset >= self.rounds

    def _next_observation(self, role: str) -> Tensor:
        first = next(phase.name for phase in self.phases if role in phase.action_spaces)
        return self.environment.observe(self.state, role, first)

    def _project_actions(self, role: str, action: Tensor) -> ProjectedAction:
        """What the outside seats of a role do, made legal."""
        space, seats = self.phase.action_spaces[role], self._external_indices[role]
        expected = (len(self.worlds), len(seats))
        several = not isinstance(space, Discrete)
        if tuple(action.shape[:2]) != expected or action.dim() != 2 + several:
            wanted = (*expected, space.size) if several else expected
            raise UserError(
                f"actions of {role!r} are {wanted}, not {tuple(action.shape)}",
                code="wrong_shape",
                path=f"actions.{role}",
            )
        legal = self.environment.action_mask(self.state, role, self.phase.name)
        if legal is not None:
            legal = legal[:, seats]
        return project_action(space, action.to(self.device), legal, role)

    def state_dict(self) -> dict[str, Tensor]:
        """All that is needed to play on from here, as named tensors."""
        return simulator_state.state_dict(self)

    def load_state_dict(self, saved: Mapping[str, Tensor]) -> None:
        """Play on from a saved state of a table made with the same arguments.

        Raises:
            UserError: it was saved from another kind of table.
        """
        simulator_state.load_state_dict(self, saved)
