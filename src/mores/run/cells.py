"""Play one cell of an experiment, and keep what was measured in it.

A cell is one arm at one point of the sweep. It is played in chunks of worlds, so that memory is
bounded whatever the number of replicates; a world's numbers do not depend on the chunk it is in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int

from mores.draws import Worlds
from mores.play import Played, play
from mores.scenario.cell import Built, Cell
from mores.scenario.model import Scenario
from mores.table import Table

CHUNK = 2**23  # numbers that a chunk of worlds may need at once


@dataclasses.dataclass(frozen=True)
class Record:
    """What is left of a cell.

    Attributes:
        cell: its id.
        rounds: at which measures were taken.
        replicate, world: of each row.
        measures: by name; a measure of several numbers is several, `name[0]`, `name[1]`, ...
        hidden: sampled quantities by name, for pictures.
        hidden_rounds: at which they were taken.
        predictions: formulas by name: a number, or one for each number of rounds.
        value_names: of the dimensions of people's values, for pictures.
    """

    cell: str
    rounds: tuple[int, ...]
    replicate: Int[np.ndarray, " world"]
    world: Int[np.ndarray, " world"]
    measures: Mapping[str, Float[np.ndarray, "world round"]]
    hidden: Mapping[str, np.ndarray]
    hidden_rounds: tuple[int, ...]
    predictions: Mapping[str, float | Float[np.ndarray, " round"]]
    value_names: tuple[str, ...] = ("first value", "second value")

    def by_replicate(self, measure: str) -> Float[np.ndarray, "replicate round"]:
        """A measure averaged over the worlds of each replicate: one row an independent repetition.

        A name without index stands for all numbers of the measure, averaged.
        """
        if measure in self.measures:
            rows = self.measures[measure].astype(np.float64)
        else:
            parts = self.components(measure)
            rows = np.mean([self.measures[part].astype(np.float64) for part in parts], axis=0)
        return mean_by(self.replicate, rows)

    def components(self, measure: str) -> list[str]:
        """The names under which a measure of several numbers is kept, in order."""
        parts = [name for name in self.measures if name.startswith(f"{measure}[")]
        if not parts:
            raise KeyError(measure)
        return sorted(parts, key=lambda name: int(name[len(measure) + 1 : -1]))


def mean_by(label: Int[np.ndarray, " row"], rows: np.ndarray) -> np.ndarray:
    """Mean over the rows of each label, in the order of the labels."""
    known, index = np.unique(label, return_inverse=True)
    sums = np.zeros((len(known), *rows.shape[1:]))
    np.add.at(sums, index, rows)
    return sums / np.bincount(index).reshape(-1, *[1] * (rows.ndim - 1))


def play_cell(
    cell: Cell,
    scenario: Scenario,
    rounds: Sequence[int],
    replicates: Sequence[int],
    tick: Callable[[float], None],
) -> Record:
    """Play a cell.

    Args:
        cell: which.
        scenario: what it belongs to.
        rounds: at which rounds to measure.
        replicates: which replicates.
        tick: told how much of the cell was played since it was last called, in all 1.
    """
    built = cell.build()
    every = Worlds.grid(replicates, scenario.worlds)
    size = max(1, CHUNK // built.game.working_size)
    hidden_rounds = _hidden_rounds(scenario.rounds)
    names = _hidden_names(built) if scenario.sample else []
    chunks: list[Played] = []
    for first in range(0, len(every), size):
        chosen = Worlds(every.replicate[first : first + size], every.world[first : first + size])
        share = len(chosen) / len(every) / scenario.rounds
        keep = max(0, scenario.sample - first)
        chunks.append(
            play(
                built.game,
                built.players,
                chosen,
                scenario.rounds,
                scenario.seed,
                scenario.measures,
                at=rounds,
                people=built.population,
                keep_hidden=dict.fromkeys(names, keep) if keep else None,
                hidden_at=hidden_rounds,
                tick=lambda _, share=share: tick(share),
            )
        )
    return Record(
        cell=cell.id,
        rounds=tuple(rounds),
        replicate=every.replicate.numpy(),
        world=every.world.numpy(),
        measures=_split({n: _joined([c.measures for c in chunks], n) for n in scenario.measures}),
        hidden={n: _joined([c.hidden for c in chunks if c.hidden], n) for n in names},
        hidden_rounds=hidden_rounds if scenario.sample else (),
        predictions=dict(built.game.predictions(built.players, scenario.rounds)),
        **_names(built),
    )


def _names(built: Built) -> dict[str, tuple[str, ...]]:
    names = getattr(built.population, "names", None)
    return {"value_names": tuple(name.replace("_", " ") for name in names)} if names else {}


def _hidden_names(built: Built) -> list[str]:
    """The names of hidden quantities, from a first state of one world."""
    table = Table(built.game, built.players, rounds=1, people=built.population)
    table.reset(0)
    return list(built.game.hidden(table.state))


def _hidden_rounds(rounds: int, most: int = 50) -> tuple[int, ...]:
    """Start, end, and evenly in between."""
    return tuple(int(r) for r in np.unique(np.linspace(0, rounds, min(most, rounds) + 1).round()))


def _joined(chunks: Sequence[Mapping[str, torch.Tensor]], name: str) -> np.ndarray:
    return torch.cat([chunk[name] for chunk in chunks]).numpy()


def _split(measures: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Measures of several numbers a world, one by one."""
    split: dict[str, np.ndarray] = {}
    for name, values in measures.items():
        if values.ndim == 2:
            split[name] = values
        else:
            split |= {f"{name}[{i}]": values[..., i] for i in range(values.shape[-1])}
    return split
