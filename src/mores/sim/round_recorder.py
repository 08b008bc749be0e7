"""Tensors recorded at some rounds of one or many episodes, and their labelled dataset."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mores.core.random_streams import Worlds

if TYPE_CHECKING:
    import xarray

COORDINATES = ("replicate", "draw", "world", "episode", "round")  # no metric may have these names


@dataclasses.dataclass(frozen=True)
class RoundRecorder:
    """Tensors over worlds, episodes and rounds, allocated on the CPU at the first write.

    Attributes:
        rounds: numbers of completed rounds at which tensors are recorded.
        num_worlds: number of worlds; None: those of the first write.
        num_episodes: number of episodes.
        first_world, episode: where the next writes go.
        tensors: what was recorded, by name: `[world, episode, round, ...]`.
    """

    rounds: tuple[int, ...]
    num_worlds: int | None = None
    num_episodes: int = 1
    first_world: int = 0
    episode: int = 0
    tensors: dict[str, Tensor] = dataclasses.field(default_factory=dict)

    def at(self, first_world: int, episode: int) -> RoundRecorder:
        """The same tensors, to be written from a world on and in an episode."""
        return dataclasses.replace(self, first_world=first_world, episode=episode)

    def includes(self, completed_rounds: int) -> bool:
        """Whether tensors are recorded after this number of rounds."""
        return completed_rounds in self._index

    def write(self, completed_rounds: int, values: Mapping[str, Tensor]) -> None:
        """Record tensors `[world, ...]` after a number of rounds, one of `rounds`."""
        index = self._index[completed_rounds]
        for name, value in values.items():
            if name not in self.tensors:
                num_worlds = len(value) if self.num_worlds is None else self.num_worlds
                shape = (num_worlds, self.num_episodes, len(self.rounds), *value.shape[1:])
                self.tensors[name] = torch.empty(shape, dtype=value.dtype)
            worlds = slice(self.first_world, self.first_world + len(value))
            self.tensors[name][worlds, self.episode, index] = value.detach().cpu()

    @cached_property
    def _index(self) -> dict[int, int]:
        return {completed_rounds: index for index, completed_rounds in enumerate(self.rounds)}

    def dataset(
        self, worlds: Worlds, component_names: Mapping[str, Sequence[str]] | None = None
    ) -> xarray.Dataset:
        """The recorded metrics, without a copy: see `metric_dataset`."""
        return metric_dataset(self.tensors, worlds, self.num_episodes, self.rounds, component_names)


class StateRecording(NamedTuple):
    """Quantities of states that an episode records beside its metrics.

    Attributes:
        recorder: where and in which rounds they are recorded.
        quantities: those of a state by name, `[world, ...]`.
    """

    recorder: RoundRecorder
    quantities: Callable[[Any], Mapping[str, Tensor]]


def metric_dataset(
    metrics: Mapping[str, Tensor],
    worlds: Worlds,
    num_episodes: int,
    rounds: Sequence[int],
    component_names: Mapping[str, Sequence[str]] | None = None,
) -> xarray.Dataset:
    """Metrics as a labelled dataset, the form in which claims, reports and users receive them.

    Args:
        metrics: by name, `[world, episode, round]`, `[world, episode, round, component]`, or with
            more dimensions, as latent quantities.
        worlds: the worlds.
        num_episodes: number of episodes.
        rounds: numbers of completed rounds at which they were recorded.
        component_names: names of the components of metrics that are vectors; another number of
            names than of components is ignored.

    Returns:
        Dimensions `world`, `episode`, `round`, and `NAME_component` of a metric that is a vector,
        or `NAME_0`, `NAME_1`, ... of a quantity with several more dimensions.
        Coordinates: `replicate` of each world, `world` (its number within the replicate),
        `episode`, `round`; `NAME_component` where its components have names; `draw` of each world
        if the worlds have draws of uncertain parameters.
    """
    import xarray  # slow to import

    leading = ("world", "episode", "round")
    data = {}
    for name, values in metrics.items():
        inner = [f"{name}_component"]
        if values.ndim > len(leading) + 1:
            inner = [f"{name}_{axis}" for axis in range(values.ndim - len(leading))]
        data[name] = ((*leading, *inner)[: values.ndim], values.numpy())
    coordinates = {
        "replicate": ("world", worlds.replicate.numpy()),
        **({} if worlds.draw is None else {"draw": ("world", worlds.draw.numpy())}),
        "world": worlds.world.numpy(),
        "episode": range(num_episodes),
        "round": np.array(rounds, np.int64),
    }
    for name, names in (component_names or {}).items():
        if name in metrics and metrics[name].shape[3:] == (len(names),):
            coordinates[f"{name}_component"] = list(names)
    return xarray.Dataset(data, coordinates)
