"""The course of a cell: chunks of worlds, stages within a chunk, episodes within a stage.

What decides how play goes on at the beginning of an episode is its number, what players know
(`mores.sim.policy_states`) and, for players that are fitted later, what they went through: everything
else is made from draws. Whoever wants to keep that on disk is asked at every such moment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from mores.core.random_streams import RandomStreams, Worlds
from mores.experiments.results.cell_result import CellResult
from mores.experiments.results.policy_checkpoints import CheckpointCollector
from mores.experiments.run.metrics_recorder import MetricsRecorder
from mores.experiments.scenario.cell import BuiltCell, BuiltStage, Cell
from mores.experiments.scenario.specification import Scenario
from mores.sim.episode_dataset import EpisodeRecorder, concatenate_datasets
from mores.sim.policy_states import PolicyStateStore, state_key, store_states, stored_states
from mores.sim.simulator import Simulator

ProgressCallback = Callable[[float], None]


class Cursor(NamedTuple):
    """Where play stands in a cell: what comes next.

    Attributes:
        first_world: first world of the chunk.
        stage_index: its number.
        episode: its number in the stage; where players are fitted, the pass.
    """

    first_world: int = 0
    stage_index: int = 0
    episode: int = 0

    @property
    def is_chunk_start(self) -> bool:
        """A chunk begins, in which nobody knows anything yet."""
        return self.stage_index == self.episode == 0

    @property
    def last_started_stage(self) -> int:
        """The last stage that players know of."""
        return self.stage_index if self.episode else self.stage_index - 1


class CellRunner:
    """A cell that is being played.

    Args:
        cell: which.
        scenario: what it belongs to.
        built_cell: its objects.
        worlds: all of its worlds.
        chunk_size: worlds of a chunk.
        callback: told how much of the cell was played since it was last called, in all 1.

    Attributes:
        metrics_recorder: what was measured.
        checkpoint_collector: what was learned.
        policy_state_store: what players know.
        episode_recorders: what they went through, by the number of the stage, where somebody is fitted to
            that.
        on_episode_end: called between two episodes with what comes next, and whether a stage is over.
    """

    def __init__(
        self,
        cell: Cell,
        scenario: Scenario,
        built_cell: BuiltCell,
        worlds: Worlds,
        chunk_size: int,
        callback: ProgressCallback,
    ) -> None:
        self.cell, self.scenario, self.built_cell = cell, scenario, built_cell
        self.worlds, self.chunk_size, self._callback = worlds, chunk_size, callback
        self.on_episode_end: Callable[[Cursor, bool], None] = lambda at, stage_over: None
        self.reset()

    def reset(self) -> None:
        """Nothing was played yet."""
        replicates = self.worlds.replicate.unique().tolist()
        self.metrics_recorder = MetricsRecorder(
            self.cell, self.scenario, self.built_cell, len(self.worlds)
        )
        self.checkpoint_collector = CheckpointCollector(self.cell, replicates)
        self._reset_chunk()

    def _reset_chunk(self) -> None:
        self.episode_recorders: dict[int, EpisodeRecorder] = {}
        for number, staged in enumerate(self.built_cell.stages):
            if staged.stage.loop != "fit_offline":
                fitted = self._roles_fitted_on(number)
                self.episode_recorders |= {number: EpisodeRecorder(fitted)} if fitted else {}
        self.policy_state_store: PolicyStateStore = {}

    def run(self, cursor: Cursor) -> CellResult:
        """Play what is left to play from there on; what is left of the whole cell."""
        self._callback(self._completed_fraction(cursor))
        while cursor.first_world < len(self.worlds):
            if cursor.is_chunk_start:
                self._reset_chunk()
            self._run_chunk(cursor)
            cursor = Cursor(cursor.first_world + self.chunk_size)
        return CellResult(
            cell=self.cell.id,
            replicate=self.worlds.replicate.numpy(),
            world=self.worlds.world.numpy(),
            stages=self.metrics_recorder.stage_results(),
            latent=self.metrics_recorder.latent,
            latent_rounds=self.metrics_recorder.latent_rounds,
            num_models=self.checkpoint_collector.num_models,
            stopped=self.checkpoint_collector.stopped_trainings,
            training_statuses=self.checkpoint_collector.training_statuses,
            checkpoints=self.checkpoint_collector.checkpoints,
            **_value_names(self.built_cell),
        )

    def _run_chunk(self, cursor: Cursor) -> None:
        """Play a chunk of worlds through the stages that are left."""
        count = len(self.built_cell.stages)
        for number in range(cursor.stage_index, count):
            now = cursor if number == cursor.stage_index else Cursor(cursor.first_world, number)
            staged = self.built_cell.stages[number]
            (self._fit_offline if staged.stage.loop == "fit_offline" else self._run_stage)(staged, now)
            self.checkpoint_collector.collect(number, staged, self.policy_state_store)
            last = number == count - 1
            self.on_episode_end(
                Cursor(cursor.first_world + self.chunk_size)
                if last
                else Cursor(cursor.first_world, number + 1),
                True,
            )

    def _run_stage(self, built_stage: BuiltStage, cursor: Cursor) -> None:
        """Play the episodes of a stage that are left."""
        seed, known = (
            self.scenario.seed,
            stored_states(self.policy_state_store, built_stage.policies),
        )
        table = self.make_simulator(
            cursor.first_world, cursor.stage_index, self.episode_recorders.get(cursor.stage_index)
        )
        if not cursor.episode:
            table.reset(seed, known)
        else:  # as the table stood at the end of the episode before
            table.reset(seed)
            table.policy_states |= known
            table.share_parameters()
            table.episode = torch.full_like(table.episode, cursor.episode - 1)
            table.next_episode()
        tick = self._scaled_callback(len(table.worlds))
        for episode in range(cursor.episode, built_stage.stage.episodes):
            if episode > cursor.episode:
                table.next_episode()
            self.metrics_recorder.record_episode(
                cursor.stage_index, cursor.first_world, episode, table, tick
            )
            store_states(self.policy_state_store, built_stage.policies, table.policy_states)
            if episode + 1 < built_stage.stage.episodes:
                self.on_episode_end(
                    Cursor(cursor.first_world, cursor.stage_index, episode + 1), False
                )

    def _fit_offline(self, built_stage: BuiltStage, cursor: Cursor) -> None:
        """Let the stage's roles learn from all they went through, `episodes` times over."""
        table = self.make_simulator(cursor.first_world, cursor.stage_index, None)
        if not cursor.episode:  # players begin again, as in every stage
            table.reset(
                self.scenario.seed, stored_states(self.policy_state_store, built_stage.policies)
            )
            store_states(self.policy_state_store, built_stage.policies, table.policy_states)
        able = {
            role: built_stage.policies[role]
            for role in built_stage.stage.roles_to_train
            if role in built_stage.policies
            and built_stage.policies[role].supports("fit_offline")
            and built_stage.policies[role].supports("on_episode_start")
        }  # in some arms nobody learns
        told = [
            self.episode_recorders[n]
            for n in self.built_cell.dataset_stage_indices(cursor.stage_index)
        ]
        experience = {
            role: concatenate_datasets([diary.dataset(role) for diary in told]) for role in able
        }
        draws = RandomStreams.of(self.scenario.seed, table.worlds, stage=cursor.stage_index)
        tick = self._scaled_callback(len(table.worlds))
        for episode in range(cursor.episode, built_stage.stage.episodes):
            for role, player in able.items():
                key, now = state_key(role, player), draws.at(episode).child(f"fit/{role}")
                self.policy_state_store[key] = player.fit_offline(
                    self.policy_state_store[key], experience[role], now
                )
            tick(1.0)
            if episode + 1 < built_stage.stage.episodes:
                self.on_episode_end(
                    Cursor(cursor.first_world, cursor.stage_index, episode + 1), False
                )

    def _roles_fitted_on(self, stage_index: int) -> set[str]:
        """Roles that are fitted later to what they go through in a stage."""
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
        """A table for a stage, and the chunk of worlds that begins with the `first_world`."""
        staged, rows = (
            self.built_cell.stages[stage_index],
            slice(first_world, first_world + self.chunk_size),
        )
        return Simulator(
            staged.environment,
            staged.policies,
            {},
            Worlds(self.worlds.replicate[rows], self.worlds.world[rows]),
            staged.rounds,
            population=self.built_cell.population,
            stage=stage_index,
            roles_to_train=staged.stage.roles_to_train,
            search=staged.stage.loop == "search",
            recorder=episode_recorder,
        )

    def _scaled_callback(self, num_worlds: int) -> ProgressCallback:
        """Told of rounds in so many worlds, which are a share of the cell."""
        share = num_worlds / len(self.worlds) / sum(map(_stage_cost, self.built_cell.stages))
        return lambda rounds: self._callback(rounds * share)

    def _completed_fraction(self, cursor: Cursor) -> float:
        """How much of the cell is played when play stands there."""
        stages, every = self.built_cell.stages, len(self.worlds)
        over = float(sum(map(_stage_cost, stages[: cursor.stage_index])))
        if cursor.episode:
            over += (
                cursor.episode
                * _stage_cost(stages[cursor.stage_index])
                / stages[cursor.stage_index].stage.episodes
            )
        chunk = max(0, min(self.chunk_size, every - cursor.first_world))
        return (
            min(cursor.first_world, every) + chunk * over / sum(map(_stage_cost, stages))
        ) / every


def _stage_cost(built_stage: BuiltStage) -> int:
    """How much there is to do in a stage, in rounds; a pass over a record counts as one."""
    return built_stage.stage.episodes * (
        1 if built_stage.stage.loop == "fit_offline" else built_stage.rounds
    )


def _value_names(built_cell: BuiltCell) -> dict[str, tuple[str, ...]]:
    """What the values are called: by the population, else by the environment."""
    names = getattr(built_cell.population, "value_names", None) or built_cell.environment.value_names
    return {"value_names": tuple(name.replace("_", " ") for name in names)} if names else {}
