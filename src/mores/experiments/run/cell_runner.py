"""The loops of a cell: chunks of worlds, stages within a chunk, episodes within a stage.

At the start of an episode the continuation depends on the episode's index, the policy states
(`mores.sim.policy_states`) and, for policies that are fitted later, the recorded episodes; all else
is recomputed from random streams. A checkpoint can be written at each of these moments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from mores.core import stream_addresses as addresses
from mores.core.environment import ENVIRONMENT
from mores.core.episode_dataset import concatenate_datasets
from mores.core.learner import can_train
from mores.core.policy import draws_from_global_state
from mores.core.random_streams import DrawCounter, RandomStreams, Worlds
from mores.experiments.results.cell_result import CellResult
from mores.experiments.results.policy_checkpoints import CheckpointCollector, order_stopped
from mores.experiments.run.cell_log import CellLog
from mores.experiments.run.metrics_recorder import MetricsRecorder
from mores.experiments.scenario.cell import BuiltCell, BuiltStage
from mores.experiments.scenario.specification import Scenario
from mores.sim.episode_recorder import EpisodeRecorder
from mores.sim.learning_recorder import learning_metrics
from mores.sim.policy_states import (
    PolicyStateStore,
    drop_stage_states,
    state_key,
    store_states,
    stored_states,
)
from mores.sim.simulation import simulate_episode
from mores.sim.simulator import Simulator

ProgressCallback = Callable[[float], None]


class Cursor(NamedTuple):
    """Position in a cell: what is simulated next.

    Attributes:
        first_world: first world of the chunk.
        stage_index: index of the stage.
        episode: index of the episode in the stage; in a stage of `fit_offline`, of the pass.
    """

    first_world: int = 0
    stage_index: int = 0
    episode: int = 0

    @property
    def is_chunk_start(self) -> bool:
        """Whether a chunk starts here, with no policy state."""
        return self.stage_index == self.episode == 0

    @property
    def last_started_stage(self) -> int:
        """Index of the last stage that has started."""
        return self.stage_index if self.episode else self.stage_index - 1


class CellRunner:
    """Simulates a cell.

    Args:
        built_cell: the cell and its objects.
        scenario: its scenario.
        worlds: all of its worlds.
        chunk_size: number of worlds in a chunk.
        callback: called with the fraction of the cell simulated since its last call; the sum is 1.

    Attributes:
        metrics_recorder: recorded metrics.
        checkpoint_collector: learned parameters.
        draws: counts the random numbers drawn.
        policy_state_store: policy states.
        episode_recorders: recorded episodes by stage index, for stages that policies are fitted on.
        on_episode_end: called between episodes with the next position and whether a stage ended.
        cell_log: logs the episodes; `None`: there is no log.
    """

    def __init__(
        self,
        built_cell: BuiltCell,
        scenario: Scenario,
        worlds: Worlds,
        chunk_size: int,
        callback: ProgressCallback,
    ) -> None:
        self.scenario, self.built_cell = scenario, built_cell
        self.worlds, self.chunk_size, self._callback = worlds, chunk_size, callback
        self.on_episode_end: Callable[[Cursor, bool], None] = lambda cursor, stage_ended: None
        self.cell_log: CellLog | None = None
        self.reset()

    def reset(self) -> None:
        """Discard all results."""
        replicates = self.worlds.replicate.unique().tolist()
        self.metrics_recorder = MetricsRecorder(self.built_cell, self.scenario, self.worlds)
        self.checkpoint_collector = CheckpointCollector(self.built_cell.cell, replicates)
        self.draws = DrawCounter()
        self._reset_chunk()

    def _reset_chunk(self) -> None:
        self.episode_recorders: dict[int, EpisodeRecorder] = {}
        for index, staged in enumerate(self.built_cell.stages):
            if staged.stage.loop != "fit_offline":
                roles = self._roles_fitted_on(index)
                self.episode_recorders |= {index: EpisodeRecorder(roles)} if roles else {}
        self.policy_state_store: PolicyStateStore = {}

    def run(self, cursor: Cursor) -> CellResult:
        """Simulate the rest of the cell from a position; return the results of the whole cell."""
        self._callback(self._completed_fraction(cursor))
        while cursor.first_world < len(self.worlds):
            if cursor.is_chunk_start:
                self._reset_chunk()
            index, staged = cursor.stage_index, self.built_cell.stages[cursor.stage_index]
            offline = staged.stage.loop == "fit_offline"
            (self._fit_offline if offline else self._run_stage)(staged, cursor)
            self.checkpoint_collector.collect(index, staged, self.policy_state_store)
            cursor = Cursor(cursor.first_world, index + 1)
            if cursor.stage_index == len(self.built_cell.stages):
                cursor = Cursor(cursor.first_world + self.chunk_size)
            self.on_episode_end(cursor, True)
        return CellResult(
            cell=self.built_cell.cell.id,
            stages=self.metrics_recorder.stage_results(),
            trajectory=self.metrics_recorder.trajectory,
            drew_random_numbers=self.draws.count > 0 or _draws_globally(self.built_cell),
            num_models=self.checkpoint_collector.num_models,
            stopped=order_stopped(
                self.checkpoint_collector.stopped.values(), self.built_cell.cell.roles_by_stage
            ),
            training_statuses=tuple(self.checkpoint_collector.training_statuses.values()),
            checkpoints=tuple(self.checkpoint_collector.checkpoints.values()),
            value_names=self.built_cell.value_names,
            uncoupled_roles=_uncoupled_roles(self.built_cell),
        )

    def _run_stage(self, built_stage: BuiltStage, cursor: Cursor) -> None:
        """Simulate the remaining episodes of a stage."""
        first_world, index, first_episode = cursor
        states = stored_states(self.policy_state_store, built_stage.policies)
        simulator = self.make_simulator(first_world, index, self.episode_recorders.get(index))
        if not first_episode:
            simulator.reset(self.scenario.seed, states)
        else:  # restore the simulator as it was at the end of the previous episode
            simulator.reset(self.scenario.seed)
            simulator.policy_states |= states
            simulator.share_parameters()
            simulator.episode = torch.full_like(simulator.episode, first_episode - 1)
            simulator.next_episode()
        callback = self._scaled_callback(len(simulator.worlds))
        for episode in range(first_episode, built_stage.stage.episodes):
            if episode > first_episode:
                simulator.next_episode()
            options = self.metrics_recorder.episode_options(index, first_world, episode, simulator)
            simulate_episode(simulator, **options, callback=lambda _: callback(1.0))
            if self.cell_log is not None:
                self.cell_log.simulated(first_world, index, options["recorder"], simulator)
            policies, policy_states = built_stage.policies, simulator.policy_states
            store_states(self.policy_state_store, policies, policy_states, within_stage=True)
            self._end_episode(built_stage, cursor._replace(episode=episode + 1))
        drop_stage_states(self.policy_state_store, built_stage.policies)

    def _fit_offline(self, built_stage: BuiltStage, cursor: Cursor) -> None:
        """Fit the stage's policies to the recorded episodes, in `episodes` passes."""
        policies, store = built_stage.policies, self.policy_state_store
        simulator = self.make_simulator(cursor.first_world, cursor.stage_index)
        if not cursor.episode:  # policies start the stage, as in every stage
            simulator.reset(self.scenario.seed, stored_states(store, policies))
            store_states(store, policies, simulator.policy_states)
        learners = {
            role: policy
            for role in built_stage.stage.roles_to_train
            if (policy := policies.get(role)) and can_train(policy, "offline")
        }  # empty in some arms
        indices = self.built_cell.dataset_stage_indices(cursor.stage_index)
        datasets = {
            role: concatenate_datasets([self.episode_recorders[n].dataset(role) for n in indices])
            for role in learners
        }
        streams = RandomStreams.of(
            self.scenario.seed, simulator.worlds, stage=cursor.stage_index, draws=self.draws
        )
        callback = self._scaled_callback(len(simulator.worlds))
        for episode in range(cursor.episode, built_stage.stage.episodes):
            for role, policy in learners.items():
                key = state_key(role, policy)
                stream = streams.at(episode).child(f"{addresses.OFFLINE}/{role}")
                store[key] = policy.fit_offline(store[key], datasets[role], stream)
            if self.cell_log is not None:
                states = {role: store[state_key(role, each)] for role, each in learners.items()}
                num_replicates = len(simulator.worlds.repetition.unique())
                learning = learning_metrics(learners, states, num_replicates)
                self.cell_log.fitted(cursor.first_world, cursor.stage_index, episode, learning)
            callback(1.0)
            self._end_episode(built_stage, cursor._replace(episode=episode + 1))

    def _end_episode(self, built_stage: BuiltStage, cursor: Cursor) -> None:
        """Report the end of an episode that is not the stage's last."""
        if cursor.episode < built_stage.stage.episodes:
            self.on_episode_end(cursor, False)

    def _roles_fitted_on(self, stage_index: int) -> set[str]:
        """Roles whose policies are later fitted to the episodes of a stage."""
        return {
            role
            for n, staged in enumerate(self.built_cell.stages)
            if staged.stage.loop == "fit_offline"
            and stage_index in self.built_cell.dataset_stage_indices(n)
            for role in staged.stage.roles_to_train
        }

    def make_simulator(
        self, first_world: int, stage_index: int, episode_recorder: EpisodeRecorder | None = None
    ) -> Simulator:
        """The simulator of a stage for the chunk of worlds that starts with `first_world`."""
        staged = self.built_cell.stages[stage_index]
        rows = slice(first_world, first_world + self.chunk_size)
        simulator = Simulator(
            staged.environment,
            staged.policies,
            {},
            self.worlds.take(rows),
            staged.rounds,
            population=self.built_cell.population,
            stage=stage_index,
            roles_to_train=staged.stage.roles_to_train,
            search=staged.stage.loop == "search",
            recorder=episode_recorder,
        )
        simulator.draws = self.draws
        return simulator

    def _scaled_callback(self, num_worlds: int) -> ProgressCallback:
        """A callback that takes rounds of so many worlds and reports a fraction of the cell."""
        scale = num_worlds / len(self.worlds) / sum(map(_stage_cost, self.built_cell.stages))
        return lambda rounds: self._callback(rounds * scale)

    def _completed_fraction(self, cursor: Cursor) -> float:
        """Fraction of the cell before a position."""
        stages, num_worlds = self.built_cell.stages, len(self.worlds)
        costs = [float(_stage_cost(staged)) for staged in stages]
        done = sum(costs[: cursor.stage_index])
        if cursor.episode:
            episodes = stages[cursor.stage_index].stage.episodes
            done += costs[cursor.stage_index] * cursor.episode / episodes
        first = min(cursor.first_world, num_worlds)
        chunk = min(self.chunk_size, num_worlds - first)
        return (first + chunk * done / sum(costs)) / num_worlds


def _stage_cost(built_stage: BuiltStage) -> int:
    """Cost of a stage in rounds; an offline pass over a dataset counts as one."""
    rounds = 1 if built_stage.stage.loop == "fit_offline" else built_stage.rounds
    return built_stage.stage.episodes * rounds


def _uncoupled_roles(built_cell: BuiltCell) -> tuple[str, ...]:
    """Roles with a policy whose draws arms do not share, and `environment` if it shares none."""
    policies = [item for staged in built_cell.stages for item in staged.policies.items()]
    roles = {role for role, policy in policies if not policy.couples_arms}
    if not all(staged.environment.couples_arms for staged in built_cell.stages):
        roles.add(ENVIRONMENT)
    return tuple(sorted(roles))


def _draws_globally(built_cell: BuiltCell) -> bool:
    """Whether a policy may draw from generators of the process, which are not counted."""
    policies = [policy for staged in built_cell.stages for policy in staged.policies.values()]
    return any(draws_from_global_state(policy) for policy in policies)
