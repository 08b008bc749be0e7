"""Play one cell of an experiment, and keep what was measured in it.

A cell is one arm at one point. It is played in chunks of worlds, so that memory is bounded whatever
the number of replicates; a world's numbers do not depend on the chunk it is in. Stages follow one
another within a chunk, and players take what they learned along.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mores.diary import Diary
from mores.draws import Draws, Worlds
from mores.game import Player
from mores.play import Kept, play_episode
from mores.run.record import Record, StageRecord
from mores.scenario.cell import Built, Cell, Staged
from mores.scenario.expand import recorded_rounds
from mores.scenario.model import Scenario
from mores.table import Table

CHUNK = 2**23  # numbers that a chunk of worlds may need at once
Tick = Callable[[float], None]


def play_cell(
    cell: Cell,
    scenario: Scenario,
    replicates: Sequence[int],
    tick: Tick,
    built: Built | None = None,
) -> Record:
    """Play a cell.

    Args:
        cell: which.
        scenario: what it belongs to.
        replicates: which replicates; at points of uncertain parameters there are others.
        tick: told how much of the cell was played since it was last called, in all 1.
        built: its objects, if they are there already.
    """
    built = built or cell.build()
    if cell.purpose != "arm" and scenario.uncertain is not None:
        replicates = _replicates_at(cell, scenario.uncertain.replicates)
    every = Worlds.grid(replicates, scenario.worlds)
    size = max(1, CHUNK // max(staged.game.working_size for staged in built.stages))
    if any(staged.stage.learn for staged in built.stages):
        size = max(1, size // scenario.worlds) * scenario.worlds  # those of a replicate together
    recorder = _Recorder(cell, scenario, built, len(every))
    effort = sum(_effort(staged) for staged in built.stages)
    for first in range(0, len(every), size):
        chosen = Worlds(every.replicate[first : first + size], every.world[first : first + size])
        share = len(chosen) / len(every) / effort
        _play_stages(built, chosen, scenario, recorder, first, lambda n, s=share: tick(n * s))
    return Record(
        cell=cell.id,
        replicate=every.replicate.numpy(),
        world=every.world.numpy(),
        stages=recorder.stages(),
        hidden=recorder.hidden,
        hidden_rounds=recorder.hidden_rounds,
        **_names(built),
    )


def _replicates_at(cell: Cell, count: int) -> range:
    """The replicates at a point of uncertain parameters.

    Every draw has chance events of its own, so that what chance does is in the interval over
    draws. The points of a sensitivity analysis share theirs: it asks what the parameters do.
    """
    first = cell.number * count if cell.purpose == "draw" else 0
    return range(first, first + count)


def _effort(staged: Staged) -> int:
    """How much there is to do in a stage, in rounds; a pass over a record counts as one."""
    return staged.stage.episodes * (1 if staged.stage.loop == "fit" else staged.rounds)


def _play_stages(
    built: Built,
    worlds: Worlds,
    scenario: Scenario,
    recorder: _Recorder,
    first: int,
    tick: Tick,
) -> None:
    """Play all stages of a chunk, whose first world is the `first` of the cell."""
    memory: dict[str, Any] = {}
    diary = _diary(built)
    for number, staged in enumerate(built.stages):
        stage = staged.stage
        if stage.loop == "fit":
            assert diary is not None
            draws = Draws.of(scenario.seed, worlds, stage=number)
            _fit(staged, memory, diary, draws, tick)
            continue
        table = Table(
            staged.game,
            staged.players,
            {},
            worlds,
            staged.rounds,
            people=built.population,
            stage=number,
            learning=stage.learn,
            assisting=stage.loop == "assist",
            diary=diary,
        )
        table.reset(scenario.seed, memory)
        for episode in range(stage.episodes):
            if episode:
                table.next_episode()
            recorder.keep(number, first, episode, table, tick)
        memory |= table.memory


def _fit(staged: Staged, memory: dict[str, Any], diary: Diary, draws: Draws, tick: Tick) -> None:
    """Let the stage's roles learn from all they went through, `episodes` times over."""
    for role in staged.stage.learn:
        player = staged.players.get(role)
        if player is None or type(player).fit is Player.fit:
            continue  # an arm in which nobody learns
        experience = diary.experience(role)
        for episode in range(staged.stage.episodes):
            now = draws.at(episode).within(f"fit/{role}")
            memory[role] = player.fit(memory[role], experience, now)
    for _ in range(staged.stage.episodes):
        tick(1.0)


def _diary(built: Built) -> Diary | None:
    """One in which the roles that are fitted later are followed, if there are any."""
    fitted = {role for s in built.stages if s.stage.loop == "fit" for role in s.stage.learn}
    return Diary(fitted) if fitted else None


class _Recorder:
    """Measures of all stages, in buffers made once, chunk after chunk."""

    def __init__(self, cell: Cell, scenario: Scenario, built: Built, worlds: int) -> None:
        self._scenario, self._built, self._worlds = scenario, built, worlds
        arm = cell.purpose == "arm"
        self._sample = min(scenario.sample, worlds) if arm else 0
        self._rounds = [recorded_rounds(scenario, s.stage, cell.purpose) for s in built.stages]
        self._buffers: list[dict[str, np.ndarray]] = [{} for _ in built.stages]
        self.hidden: dict[str, np.ndarray] = {}
        played = [n for n, s in enumerate(built.stages) if s.stage.loop != "fit"]
        self._last = played[-1]
        self.hidden_rounds = _hidden_rounds(built.stages[self._last].rounds) if self._sample else ()

    def keep(self, number: int, first: int, episode: int, table: Table, tick: Tick) -> None:
        """Play the episode that a table is at, and put what was measured where it belongs."""
        staged = self._built.stages[number]
        keep = max(0, self._sample - first)
        pictured = number == self._last and episode == staged.stage.episodes - 1 and keep > 0
        names = list(table.game.hidden(table.state)) if pictured else []
        kept = play_episode(
            table,
            self._scenario.measures,
            at=self._rounds[number],
            keep_hidden=dict.fromkeys(names, keep),
            hidden_at=self.hidden_rounds if names else (),
            tick=lambda _: tick(1.0),
        )
        rows = slice(first, first + len(table.worlds))
        self._put_measures(number, rows, episode, kept)
        for name, values in kept.hidden.items():
            if name not in self.hidden:
                shape = (self._sample, *values.shape[1:])
                self.hidden[name] = np.empty(shape, values.numpy().dtype)
            self.hidden[name][first : first + len(values)] = values.numpy()

    def _put_measures(self, number: int, rows: slice, episode: int, kept: Kept) -> None:
        buffers, episodes = self._buffers[number], self._built.stages[number].stage.episodes
        for name, values in _split(kept.measures).items():
            if name not in buffers:
                shape = (self._worlds, episodes, len(kept.rounds))
                buffers[name] = np.empty(shape, values.dtype)
            buffers[name][rows, episode] = values

    def stages(self) -> tuple[StageRecord, ...]:
        """What was recorded of each stage in which somebody played."""
        return tuple(
            StageRecord(
                name=staged.stage.name,
                rounds=rounds,
                measures=buffers,
                predictions=dict(staged.game.predictions(staged.players, staged.rounds)),
            )
            for staged, rounds, buffers in zip(
                self._built.stages, self._rounds, self._buffers, strict=True
            )
            if staged.stage.loop != "fit"
        )


def _names(built: Built) -> dict[str, tuple[str, ...]]:
    """What the values are called: by the population, else by the environment."""
    names = getattr(built.population, "names", None) or built.game.value_names
    return {"value_names": tuple(name.replace("_", " ") for name in names)} if names else {}


def _hidden_rounds(rounds: int, most: int = 50) -> tuple[int, ...]:
    """Start, end, and evenly in between."""
    return tuple(int(r) for r in np.unique(np.linspace(0, rounds, min(most, rounds) + 1).round()))


def _split(measures: Mapping[str, Tensor]) -> dict[str, Float[np.ndarray, "world round"]]:
    """Measures of several numbers a world, one by one."""
    split: dict[str, np.ndarray] = {}
    for name, tensor in measures.items():
        values = tensor.numpy()
        if values.ndim == 2:
            split[name] = values
        else:
            split |= {f"{name}[{i}]": values[..., i] for i in range(values.shape[-1])}
    return split
