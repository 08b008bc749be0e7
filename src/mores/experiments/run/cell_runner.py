"""The course of a cell: chunks of worlds, stages within a chunk, episodes within a stage.

What decides how play goes on at the beginning of an episode is its number, what players know
(`mores.sim.policy_states`) and, for players that are fitted later, what they went through: everything
else is made from draws. Whoever wants to keep that on disk is asked at every such moment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from mores.core.random_streams import Draws, Worlds
from mores.experiments.results.cell_result import Record
from mores.experiments.results.policy_checkpoints import Learned
from mores.experiments.run.metrics_recorder import Recorder
from mores.experiments.scenario.cell import Built, Cell, Staged
from mores.experiments.scenario.specification import Scenario
from mores.sim.episode_dataset import Diary, together
from mores.sim.policy_states import Memories, brought, keep, key_of
from mores.sim.simulator import Table

Tick = Callable[[float], None]


class At(NamedTuple):
    """Where play stands in a cell: what comes next.

    Attributes:
        first: first world of the chunk.
        stage: its number.
        episode: its number in the stage; where players are fitted, the pass.
    """

    first: int = 0
    stage: int = 0
    episode: int = 0

    @property
    def begins(self) -> bool:
        """A chunk begins, in which nobody knows anything yet."""
        return self.stage == self.episode == 0

    @property
    def known(self) -> int:
        """The last stage that players know of."""
        return self.stage if self.episode else self.stage - 1


class Course:
    """A cell that is being played.

    Args:
        cell: which.
        scenario: what it belongs to.
        built: its objects.
        worlds: all of its worlds.
        size: worlds of a chunk.
        tick: told how much of the cell was played since it was last called, in all 1.

    Attributes:
        recorder: what was measured.
        learned: what was learned.
        memories: what players know.
        diaries: what they went through, by the number of the stage, where somebody is fitted to
            that.
        passed: called between two episodes with what comes next, and whether a stage is over.
    """

    def __init__(
        self, cell: Cell, scenario: Scenario, built: Built, worlds: Worlds, size: int, tick: Tick
    ) -> None:
        self.cell, self.scenario, self.built = cell, scenario, built
        self.worlds, self.size, self._tick = worlds, size, tick
        self.passed: Callable[[At, bool], None] = lambda at, stage_over: None
        self.open()

    def open(self) -> None:
        """Nothing was played yet."""
        replicates = self.worlds.replicate.unique().tolist()
        self.recorder = Recorder(self.cell, self.scenario, self.built, len(self.worlds))
        self.learned = Learned(self.cell, replicates)
        self._open_chunk()

    def _open_chunk(self) -> None:
        self.diaries: dict[int, Diary] = {}
        for number, staged in enumerate(self.built.stages):
            if staged.stage.loop != "fit":
                fitted = self._fitted_to(number)
                self.diaries |= {number: Diary(fitted)} if fitted else {}
        self.memories: Memories = {}

    def play(self, at: At) -> Record:
        """Play what is left to play from there on; what is left of the whole cell."""
        self._tick(self._share(at))
        while at.first < len(self.worlds):
            if at.begins:
                self._open_chunk()
            self._play_chunk(at)
            at = At(at.first + self.size)
        return Record(
            cell=self.cell.id,
            replicate=self.worlds.replicate.numpy(),
            world=self.worlds.world.numpy(),
            stages=self.recorder.stages(),
            hidden=self.recorder.hidden,
            hidden_rounds=self.recorder.hidden_rounds,
            learners=self.learned.learners,
            stopped=self.learned.troubles,
            taught=self.learned.taught,
            checkpoints=self.learned.checkpoints,
            **_names(self.built),
        )

    def _play_chunk(self, at: At) -> None:
        """Play a chunk of worlds through the stages that are left."""
        count = len(self.built.stages)
        for number in range(at.stage, count):
            now = at if number == at.stage else At(at.first, number)
            staged = self.built.stages[number]
            (self._fit if staged.stage.loop == "fit" else self._play_stage)(staged, now)
            self.learned.take(number, staged, self.memories)
            last = number == count - 1
            self.passed(At(at.first + self.size) if last else At(at.first, number + 1), True)

    def _play_stage(self, staged: Staged, at: At) -> None:
        """Play the episodes of a stage that are left."""
        seed, known = self.scenario.seed, brought(self.memories, staged.players)
        table = self.table(at.first, at.stage, self.diaries.get(at.stage))
        if not at.episode:
            table.reset(seed, known)
        else:  # as the table stood at the end of the episode before
            table.reset(seed)
            table.memory |= known
            table.join()
            table.episode = torch.full_like(table.episode, at.episode - 1)
            table.next_episode()
        tick = self._ticking(len(table.worlds))
        for episode in range(at.episode, staged.stage.episodes):
            if episode > at.episode:
                table.next_episode()
            self.recorder.keep(at.stage, at.first, episode, table, tick)
            keep(self.memories, staged.players, table.memory)
            if episode + 1 < staged.stage.episodes:
                self.passed(At(at.first, at.stage, episode + 1), False)

    def _fit(self, staged: Staged, at: At) -> None:
        """Let the stage's roles learn from all they went through, `episodes` times over."""
        table = self.table(at.first, at.stage, None)
        if not at.episode:  # players begin again, as in every stage
            table.reset(self.scenario.seed, brought(self.memories, staged.players))
            keep(self.memories, staged.players, table.memory)
        able = {
            role: staged.players[role]
            for role in staged.stage.learn
            if role in staged.players
            and staged.players[role].can("fit")
            and staged.players[role].can("again")
        }  # in some arms nobody learns
        told = [self.diaries[n] for n in self.built.record_of(at.stage)]
        experience = {role: together([diary.experience(role) for diary in told]) for role in able}
        draws = Draws.of(self.scenario.seed, table.worlds, stage=at.stage)
        tick = self._ticking(len(table.worlds))
        for episode in range(at.episode, staged.stage.episodes):
            for role, player in able.items():
                key, now = key_of(role, player), draws.at(episode).within(f"fit/{role}")
                self.memories[key] = player.fit(self.memories[key], experience[role], now)
            tick(1.0)
            if episode + 1 < staged.stage.episodes:
                self.passed(At(at.first, at.stage, episode + 1), False)

    def _fitted_to(self, number: int) -> set[str]:
        """Roles that are fitted later to what they go through in a stage."""
        return {
            role
            for n, staged in enumerate(self.built.stages)
            if staged.stage.loop == "fit" and number in self.built.record_of(n)
            for role in staged.stage.learn
        }

    def table(self, first: int, number: int, diary: Diary | None = None) -> Table:
        """A table for a stage, and the chunk of worlds that begins with the `first`."""
        staged, rows = self.built.stages[number], slice(first, first + self.size)
        return Table(
            staged.game,
            staged.players,
            {},
            Worlds(self.worlds.replicate[rows], self.worlds.world[rows]),
            staged.rounds,
            people=self.built.population,
            stage=number,
            learning=staged.stage.learn,
            assisting=staged.stage.loop == "assist",
            diary=diary,
        )

    def _ticking(self, worlds: int) -> Tick:
        """Told of rounds in so many worlds, which are a share of the cell."""
        share = worlds / len(self.worlds) / sum(map(_effort, self.built.stages))
        return lambda rounds: self._tick(rounds * share)

    def _share(self, at: At) -> float:
        """How much of the cell is played when play stands there."""
        stages, every = self.built.stages, len(self.worlds)
        over = float(sum(map(_effort, stages[: at.stage])))
        if at.episode:
            over += at.episode * _effort(stages[at.stage]) / stages[at.stage].stage.episodes
        chunk = max(0, min(self.size, every - at.first))
        return (min(at.first, every) + chunk * over / sum(map(_effort, stages))) / every


def _effort(staged: Staged) -> int:
    """How much there is to do in a stage, in rounds; a pass over a record counts as one."""
    return staged.stage.episodes * (1 if staged.stage.loop == "fit" else staged.rounds)


def _names(built: Built) -> dict[str, tuple[str, ...]]:
    """What the values are called: by the population, else by the environment."""
    names = getattr(built.population, "names", None) or built.game.value_names
    return {"value_names": tuple(name.replace("_", " ") for name in names)} if names else {}
