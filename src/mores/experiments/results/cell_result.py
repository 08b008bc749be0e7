"""What was measured in a cell."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from mores.sim.training_status import TrainingStatus

AnalyticValue = float | Float[np.ndarray, " round"]


@dataclasses.dataclass(frozen=True)
class StageResult:
    """What was measured in one stage of a cell.

    Attributes:
        name: of the stage.
        rounds: at which measures were taken, in every episode.
        metrics: by name; a measure of several numbers is several, `name[0]`, `name[1]`, ...
        analytic_values: formulas by name: a number, or one for each number of rounds.
    """

    name: str
    rounds: tuple[int, ...]
    metrics: Mapping[str, Float[np.ndarray, "world episode round"]]
    analytic_values: Mapping[str, AnalyticValue]

    def components(self, metric: str) -> list[str]:
        """The names under which a measure of several numbers is kept, in order."""
        parts = [name for name in self.metrics if name.startswith(f"{metric}[")]
        if not parts:
            raise KeyError(metric)
        return sorted(parts, key=lambda name: int(name[len(metric) + 1 : -1]))

    def values(self, metric: str) -> Float[np.ndarray, "world episode round"]:
        """A measure; a name without index stands for all numbers of the measure, averaged."""
        if metric in self.metrics:
            return self.metrics[metric].astype(np.float64)
        parts = [self.metrics[part].astype(np.float64) for part in self.components(metric)]
        return np.mean(parts, axis=0)


@dataclasses.dataclass(frozen=True)
class PolicyCheckpoint:
    """What the learners of a role had learned at the end of a stage.

    Attributes:
        stage, role: whose and when.
        tensors: by name, led by the policies, those of a replicate together.
        metadata: of what kind the player is and with which parameters, and the like, as JSON.
    """

    stage: str
    role: str
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class StoppedTraining:
    """A learner that stopped early.

    Attributes:
        stage: at whose end that was seen.
        role: where it sits.
        message: which, when and why.
    """

    stage: str
    role: str
    message: str

    @property
    def replicate(self) -> int:
        """Of which replicate it is; -1 where its line does not say."""
        found = re.search(r"\breplicate (\d+)", self.message)
        return int(found[1]) if found else -1

    def __str__(self) -> str:
        who = "" if self.message.startswith(self.role) else f"{self.role}, "
        return f"stage {self.stage}: {who}{self.message}"


@dataclasses.dataclass(frozen=True)
class CellResult:
    """What is left of a cell.

    Attributes:
        cell: its id.
        replicate, world: of each row.
        stages: what was measured in each, in order.
        latent: sampled quantities by name, for pictures, of the last stage's last episode.
        latent_rounds: at which they were taken.
        value_names: of the dimensions of people's values, for pictures.
        num_models: how many policies learned in it; 0 where nobody tells.
        stopped: those that stopped early.
        training_statuses: who learned anything, stage by stage.
        checkpoints: what was learned, stage by stage; not read again with the rest.
    """

    cell: str
    replicate: Int[np.ndarray, " world"]
    world: Int[np.ndarray, " world"]
    stages: tuple[StageResult, ...]
    latent: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    latent_rounds: tuple[int, ...] = ()
    value_names: tuple[str, ...] = ("first value", "second value")
    num_models: int = 0
    stopped: tuple[StoppedTraining, ...] = ()
    training_statuses: tuple[TrainingStatus, ...] = ()
    checkpoints: tuple[PolicyCheckpoint, ...] = ()

    def stage(self, name: str | None = None) -> StageResult:
        """The stage of that name; the last where none is given."""
        return self.stages[-1] if name is None else next(s for s in self.stages if s.name == name)

    @property
    def rounds(self) -> tuple[int, ...]:
        """The rounds at which measures were taken in the last stage."""
        return self.stages[-1].rounds

    @property
    def metrics(self) -> Mapping[str, Float[np.ndarray, "world episode round"]]:
        """The measures of the last stage."""
        return self.stages[-1].metrics

    def by_replicate(
        self, metric: str, stage: str | None = None
    ) -> Float[np.ndarray, "replicate round"]:
        """A measure averaged over worlds and episodes: one row an independent repetition."""
        return mean_by_label(self.replicate, self.stage(stage).values(metric).mean(1))

    def by_episode(
        self, metric: str, stage: str | None = None
    ) -> Float[np.ndarray, "replicate episode round"]:
        """A measure averaged over worlds alone."""
        return mean_by_label(self.replicate, self.stage(stage).values(metric))


def mean_by_label(labels: Int[np.ndarray, " row"], values: np.ndarray) -> np.ndarray:
    """Mean over the rows of each label, in the order of the labels."""
    known, index = np.unique(labels, return_inverse=True)
    sums = np.zeros((len(known), *values.shape[1:]))
    np.add.at(sums, index, values)
    return sums / np.bincount(index).reshape(-1, *[1] * (values.ndim - 1))
