"""Recorded metrics, trajectories and checkpoints of a cell."""

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
    """Recorded metrics of one stage of a cell.

    Attributes:
        name: of the stage.
        rounds: at which metrics were recorded, in every episode.
        metrics: by name; a metric of several components is several: `name[0]`, `name[1]`, ...
        analytic_values: by name: a number, or one for each number of rounds.
    """

    name: str
    rounds: tuple[int, ...]
    metrics: Mapping[str, Float[np.ndarray, "world episode round"]]
    analytic_values: Mapping[str, AnalyticValue]

    def components(self, metric: str) -> list[str]:
        """Names of the components of a metric, in order."""
        names = [name for name in self.metrics if name.startswith(f"{metric}[")]
        if not names:
            raise KeyError(metric)
        return sorted(names, key=lambda name: int(name[len(metric) + 1 : -1]))

    def values(self, metric: str) -> Float[np.ndarray, "world episode round"]:
        """A metric; a name without index stands for the mean over all components."""
        if metric in self.metrics:
            return self.metrics[metric].astype(np.float64)
        parts = [self.metrics[name].astype(np.float64) for name in self.components(metric)]
        return np.mean(parts, axis=0)


@dataclasses.dataclass(frozen=True)
class PolicyCheckpoint:
    """Learned parameters of a role at the end of a stage.

    Attributes:
        stage, role: their names.
        tensors: by name, each leading with the models, those of a replicate together.
        metadata: kind and parameters of the policy, replicates and shapes, as JSON.
    """

    stage: str
    role: str
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class StoppedTraining:
    """A model that stopped training early.

    Attributes:
        stage: stage at whose end this was recorded.
        role: role of the model.
        message: which model, when and why.
    """

    stage: str
    role: str
    message: str

    @property
    def replicate(self) -> int:
        """Replicate of the model; -1 if the message does not name it."""
        match = re.search(r"\breplicate (\d+)", self.message)
        return int(match[1]) if match else -1

    def __str__(self) -> str:
        prefix = "" if self.message.startswith(self.role) else f"{self.role}, "
        return f"stage {self.stage}: {prefix}{self.message}"


@dataclasses.dataclass(frozen=True)
class CellResult:
    """Results of a cell.

    Attributes:
        cell: its id.
        replicate, world: of each row.
        stages: recorded metrics of each stage, in order.
        latent: sampled quantities by name, for figures, of the last stage's last episode.
        latent_rounds: rounds at which they were recorded.
        value_names: names of the dimensions of people's values, for figures.
        num_models: number of trained models; 0 if policies report none.
        stopped: models that stopped training early.
        training_statuses: numbers of models that were updated, stage by stage.
        checkpoints: learned parameters, stage by stage; not read back with the rest.
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
        """The stage of that name; by default the last."""
        return self.stages[-1] if name is None else next(s for s in self.stages if s.name == name)

    @property
    def rounds(self) -> tuple[int, ...]:
        """The rounds at which metrics were recorded in the last stage."""
        return self.stages[-1].rounds

    @property
    def metrics(self) -> Mapping[str, Float[np.ndarray, "world episode round"]]:
        """The metrics of the last stage."""
        return self.stages[-1].metrics

    def by_replicate(
        self, metric: str, stage: str | None = None
    ) -> Float[np.ndarray, "replicate round"]:
        """A metric averaged over worlds and episodes: one row per independent repetition."""
        return mean_by_label(self.replicate, self.stage(stage).values(metric).mean(1))

    def by_episode(
        self, metric: str, stage: str | None = None
    ) -> Float[np.ndarray, "replicate episode round"]:
        """A metric averaged over worlds only."""
        return mean_by_label(self.replicate, self.stage(stage).values(metric))


def mean_by_label(labels: Int[np.ndarray, " row"], values: np.ndarray) -> np.ndarray:
    """Mean over the rows of each label, in the order of the labels."""
    unique, index = np.unique(labels, return_inverse=True)
    sums = np.zeros((len(unique), *values.shape[1:]))
    np.add.at(sums, index, values)
    return sums / np.bincount(index).reshape(-1, *[1] * (values.ndim - 1))
