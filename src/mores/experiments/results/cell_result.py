"""Recorded metrics, trajectories and checkpoints of a cell."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from mores.core.component_names import component_index, component_labels, split_component
from mores.experiments.results.trajectory import Trajectory
from mores.sim.training_status import TrainingStatus

if TYPE_CHECKING:
    import xarray as xr

AnalyticValue = float | Float[np.ndarray, " round"]


@dataclasses.dataclass(frozen=True)
class StageResult:
    """Recorded metrics of one stage of a cell.

    Attributes:
        name: of the stage.
        metrics: `[world, episode, round]`, vectors `[world, episode, round, component]`: see
            `mores.sim.round_recorder.metric_dataset`.
        analytic_values: by name: a number, or one for each number of rounds.
        analytic_values_of_draws: the same by number of the draw, in a cell of several draws.
    """

    name: str
    metrics: xr.Dataset
    analytic_values: Mapping[str, AnalyticValue]
    analytic_values_of_draws: Mapping[int, Mapping[str, AnalyticValue]] = dataclasses.field(
        default_factory=dict
    )

    @property
    def rounds(self) -> tuple[int, ...]:
        """Numbers of completed rounds at which metrics were recorded, in every episode."""
        return tuple(self.metrics["round"].values.tolist())

    @property
    def names(self) -> list[str]:
        """Names of all single numbers: metrics, and components `NAME[care]`, else `NAME[0]`."""
        return [name for metric in self.metrics for name in self.components(str(metric))]

    def components(self, metric: str) -> list[str]:
        """Names of the components of a metric; of a single number or component, its own.

        Raises:
            KeyError: no such metric or component.
        """
        name, index = self._split(metric)
        if self.metrics[name].ndim == 3:
            return [name]
        labels = component_labels(self._names(name), self.metrics[name].shape[3])
        return [f"{name}[{label}]" for label in (labels if index is None else [labels[index]])]

    @property
    def component_names(self) -> dict[str, list[str]]:
        """Names of the components of the vectors that have names."""
        names = {str(metric): self._names(str(metric)) for metric in self.metrics}
        return {metric: each for metric, each in names.items() if each}

    def _names(self, metric: str) -> list[str]:
        """Names of the components of a vector; empty: they have none."""
        coordinate = self.metrics.coords.get(f"{metric}_component")
        return [] if coordinate is None else [str(name) for name in coordinate.values]

    def _split(self, metric: str) -> tuple[str, int | None]:
        """Name of a metric, and index of the component if the name or index of one is given.

        Raises:
            KeyError: no such metric or component.
        """
        name, component = split_component(metric)
        if name not in self.metrics.data_vars:
            raise KeyError(metric)
        data = self.metrics[name]
        if component is None:
            return name, None
        index = None
        if data.ndim == 4:
            index = component_index(component, self._names(name), data.shape[3])
        if index is None:
            raise KeyError(metric)
        return name, index

    def bounds(self, metric: str) -> tuple[float, float] | None:
        """Smallest and largest possible value of a metric or component, if it declares both."""
        return self.metrics[split_component(metric)[0]].attrs.get("bounds")

    def array(self, name: str) -> Float[np.ndarray, "world episode round"]:
        """A metric that is a single number, or a component of a vector, by name or index.

        Raises:
            KeyError: no such metric or component.
        """
        metric, index = self._split(name)
        values = self.metrics[metric].values
        if index is not None:
            return values[..., index]
        if values.ndim > 3:
            raise KeyError(name)
        return values

    def values(self, metric: str) -> Float[np.ndarray, "world episode round"]:
        """A metric in double precision; the name of a vector stands for its components' mean."""
        parts = [self.array(name).astype(np.float64) for name in self.components(metric)]
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

    @property
    def draw(self) -> int:
        """Draw of uncertain parameters of the model."""
        match = re.search(r"\bdraw (\d+), replicate", self.message)
        return int(match[1]) if match else 0

    def __str__(self) -> str:
        prefix = "" if self.message.startswith(self.role) else f"{self.role}, "
        return f"stage {self.stage}: {prefix}{self.message}"


@dataclasses.dataclass(frozen=True)
class CellResult:
    """Results of a cell.

    Attributes:
        cell: its id.
        stages: recorded metrics of each stage, in order.
        trajectory: people and other latent quantities of a few worlds; without rounds: none.
        value_names: names of the dimensions of people's values; empty: they have none.
        drew_random_numbers: whether any random number was drawn in the cell.
        num_models: number of trained models; 0 if policies report none.
        stopped: models that stopped training early.
        training_statuses: numbers of models that were updated, stage by stage.
        checkpoints: learned parameters, stage by stage; not read back with the rest.
        uncoupled_roles: roles with a policy whose draws arms do not share (`Policy.couples_arms`),
            and `environment` if it shares none either (`Environment.couples_arms`).
    """

    cell: str
    stages: tuple[StageResult, ...]
    trajectory: Trajectory = dataclasses.field(default_factory=Trajectory)
    value_names: tuple[str, ...] = ()
    drew_random_numbers: bool = True
    num_models: int = 0
    stopped: tuple[StoppedTraining, ...] = ()
    training_statuses: tuple[TrainingStatus, ...] = ()
    checkpoints: tuple[PolicyCheckpoint, ...] = ()
    uncoupled_roles: tuple[str, ...] = ()

    def stage(self, name: str | None = None) -> StageResult:
        """The stage of that name; by default the last."""
        return self.stages[-1] if name is None else next(s for s in self.stages if s.name == name)

    @property
    def replicate(self) -> Int[np.ndarray, " world"]:
        """Replicate of each world."""
        return self.stages[0].metrics["replicate"].values

    @property
    def draw(self) -> Int[np.ndarray, " world"]:
        """Draw of uncertain parameters of each world; 0 in an arm."""
        coordinates = self.stages[0].metrics.coords
        return coordinates["draw"].values if "draw" in coordinates else 0 * self.replicate

    @functools.cached_property
    def by_draw(self) -> Mapping[int, CellResult]:
        """The results of each draw of uncertain parameters, as if it had been simulated alone.

        Only `cell` and `drew_random_numbers` are those of the whole cell, and learned parameters
        are left out.
        """
        numbers, first = np.unique(self.draw, return_index=True)
        counts = np.bincount(self.draw)
        return {
            number: self._at_draw(number, slice(start, start + counts[number]))
            for number, start in zip(numbers.tolist(), first.tolist(), strict=True)
        }

    def _at_draw(self, number: int, worlds: slice) -> CellResult:
        """The results of one draw, whose worlds are these."""
        stages = tuple(
            dataclasses.replace(
                stage,
                metrics=stage.metrics.isel(world=worlds),
                analytic_values=stage.analytic_values_of_draws.get(number, stage.analytic_values),
                analytic_values_of_draws={},
            )
            for stage in self.stages
        )
        return dataclasses.replace(
            self,
            stages=stages,
            stopped=tuple(each for each in self.stopped if each.draw == number),
            training_statuses=tuple(s for s in self.training_statuses if s.draw == number),
            checkpoints=(),
        )

    @property
    def rounds(self) -> tuple[int, ...]:
        """The rounds at which metrics were recorded in the last stage."""
        return self.stages[-1].rounds

    @property
    def names(self) -> list[str]:
        """Names of the metrics of the last stage, one for each component."""
        return self.stages[-1].names

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
