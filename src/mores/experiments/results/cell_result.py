"""What was measured in a cell."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from mores.sim.training_status import Taught

Prediction = float | Float[np.ndarray, " round"]


@dataclasses.dataclass(frozen=True)
class StageRecord:
    """What was measured in one stage of a cell.

    Attributes:
        name: of the stage.
        rounds: at which measures were taken, in every episode.
        measures: by name; a measure of several numbers is several, `name[0]`, `name[1]`, ...
        predictions: formulas by name: a number, or one for each number of rounds.
    """

    name: str
    rounds: tuple[int, ...]
    measures: Mapping[str, Float[np.ndarray, "world episode round"]]
    predictions: Mapping[str, Prediction]

    def components(self, measure: str) -> list[str]:
        """The names under which a measure of several numbers is kept, in order."""
        parts = [name for name in self.measures if name.startswith(f"{measure}[")]
        if not parts:
            raise KeyError(measure)
        return sorted(parts, key=lambda name: int(name[len(measure) + 1 : -1]))

    def of(self, measure: str) -> Float[np.ndarray, "world episode round"]:
        """A measure; a name without index stands for all numbers of the measure, averaged."""
        if measure in self.measures:
            return self.measures[measure].astype(np.float64)
        parts = [self.measures[part].astype(np.float64) for part in self.components(measure)]
        return np.mean(parts, axis=0)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What the learners of a role had learned at the end of a stage.

    Attributes:
        stage, role: whose and when.
        tensors: by name, led by the policies, those of a replicate together.
        about: of what kind the player is and with which parameters, and the like, as JSON.
    """

    stage: str
    role: str
    tensors: Mapping[str, Tensor]
    about: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Stopped:
    """A learner that stopped early.

    Attributes:
        stage: at whose end that was seen.
        role: where it sits.
        line: which, when and why.
    """

    stage: str
    role: str
    line: str

    @property
    def replicate(self) -> int:
        """Of which replicate it is; -1 where its line does not say."""
        found = re.search(r"\breplicate (\d+)", self.line)
        return int(found[1]) if found else -1

    def __str__(self) -> str:
        who = "" if self.line.startswith(self.role) else f"{self.role}, "
        return f"stage {self.stage}: {who}{self.line}"


@dataclasses.dataclass(frozen=True)
class Record:
    """What is left of a cell.

    Attributes:
        cell: its id.
        replicate, world: of each row.
        stages: what was measured in each, in order.
        hidden: sampled quantities by name, for pictures, of the last stage's last episode.
        hidden_rounds: at which they were taken.
        value_names: of the dimensions of people's values, for pictures.
        learners: how many policies learned in it; 0 where nobody tells.
        stopped: those that stopped early.
        taught: who learned anything, stage by stage.
        checkpoints: what was learned, stage by stage; not read again with the rest.
    """

    cell: str
    replicate: Int[np.ndarray, " world"]
    world: Int[np.ndarray, " world"]
    stages: tuple[StageRecord, ...]
    hidden: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    hidden_rounds: tuple[int, ...] = ()
    value_names: tuple[str, ...] = ("first value", "second value")
    learners: int = 0
    stopped: tuple[Stopped, ...] = ()
    taught: tuple[Taught, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()

    def stage(self, name: str | None = None) -> StageRecord:
        """The stage of that name; the last where none is given."""
        return self.stages[-1] if name is None else next(s for s in self.stages if s.name == name)

    @property
    def rounds(self) -> tuple[int, ...]:
        """The rounds at which measures were taken in the last stage."""
        return self.stages[-1].rounds

    @property
    def measures(self) -> Mapping[str, Float[np.ndarray, "world episode round"]]:
        """The measures of the last stage."""
        return self.stages[-1].measures

    def by_replicate(
        self, measure: str, stage: str | None = None
    ) -> Float[np.ndarray, "replicate round"]:
        """A measure averaged over worlds and episodes: one row an independent repetition."""
        return mean_by(self.replicate, self.stage(stage).of(measure).mean(1))

    def by_episode(
        self, measure: str, stage: str | None = None
    ) -> Float[np.ndarray, "replicate episode round"]:
        """A measure averaged over worlds alone."""
        return mean_by(self.replicate, self.stage(stage).of(measure))


def mean_by(label: Int[np.ndarray, " row"], rows: np.ndarray) -> np.ndarray:
    """Mean over the rows of each label, in the order of the labels."""
    known, index = np.unique(label, return_inverse=True)
    sums = np.zeros((len(known), *rows.shape[1:]))
    np.add.at(sums, index, rows)
    return sums / np.bincount(index).reshape(-1, *[1] * (rows.ndim - 1))
