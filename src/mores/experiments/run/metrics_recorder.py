"""What is measured while a cell is played, in buffers made once for all of its worlds."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mores.experiments.results.cell_result import StageRecord
from mores.experiments.scenario.cell import Built, Cell
from mores.experiments.scenario.expansion import recorded_rounds
from mores.experiments.scenario.specification import Scenario
from mores.sim.simulation import Kept, play_episode
from mores.sim.simulator import Table


class Recorder:
    """Measures of all stages, chunk after chunk.

    Args:
        cell: what is played.
        scenario: what it belongs to.
        built: its objects.
        worlds: of the whole cell.
    """

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

    def keep(
        self, number: int, first: int, episode: int, table: Table, tick: Callable[[float], None]
    ) -> None:
        """Play the episode that a table is at, and put what was measured where it belongs.

        Args:
            number: of the stage.
            first: number in the cell of the table's first world.
            episode: number of the episode in the stage.
            table: at the beginning of that episode.
            tick: told of every round.
        """
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

    def taken(self, rows: int, unfinished: int | None, episodes: int) -> dict[str, Tensor]:
        """What was measured so far, to be put back later.

        Args:
            rows: worlds that have played, or are playing.
            unfinished: a stage of which no world has played more than `episodes`.
            episodes: see above.
        """
        found = {f"hidden/{name}": torch.from_numpy(v) for name, v in self.hidden.items()}
        for number, buffers in enumerate(self._buffers):
            for name, values in buffers.items():
                known = values[:rows, :episodes] if number == unfinished else values[:rows]
                found[f"{number}/{name}"] = torch.from_numpy(np.ascontiguousarray(known))
        return found

    def put_back(self, taken: Mapping[str, Tensor]) -> None:
        """Have what was measured before."""
        for path, tensor in taken.items():
            part, _, name = path.partition("/")
            values = tensor.numpy()
            if part == "hidden":
                self.hidden[name] = values.copy()
                continue
            number = int(part)
            shape = (self._worlds, self._built.stages[number].stage.episodes, values.shape[2])
            buffer = self._buffers[number].setdefault(name, np.empty(shape, values.dtype))
            buffer[: values.shape[0], : values.shape[1]] = values


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
