"""People and other latent quantities of a few worlds of a cell, over rounds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

GROUPS = "groups"  # in `Trajectory.people`


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """The first worlds of a cell in the last episode of its last simulated stage.

    A world whose episode has ended keeps its last state.

    Attributes:
        rounds: numbers of completed rounds at which they were recorded.
        latent: latent quantities by name, `[world, round, ...]`; `values` are those of people.
        people: `groups` (indices) and traits by name, `[world, round, person]`, or
            `[world, person]` where they are the same in all rounds.
        dimensions: names of the dimensions after `world` and `round`, of quantities whose
            environment names them.
        group_names: names of the groups, by index; empty: they have none.
        episode: index of the episode in the stage.
    """

    rounds: tuple[int, ...] = ()
    latent: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    people: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    dimensions: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    group_names: tuple[str, ...] = ()
    episode: int = 0

    def append_worlds(self, added: Trajectory, num_worlds: int) -> Trajectory:
        """The first worlds of both.

        Args:
            added: the trajectory of the worlds after these, in the same rounds.
            num_worlds: number of worlds to keep.

        Raises:
            ValueError: it holds other quantities or rounds.
        """
        held = [(each.rounds, [*each.latent], [*each.people]) for each in (self, added)]
        if held[0] != held[1]:
            raise ValueError("the earlier worlds have other sampled quantities or rounds")
        return dataclasses.replace(
            added,
            latent={
                name: np.concatenate([self.latent[name], values])[:num_worlds]
                for name, values in added.latent.items()
            },
            people={
                name: np.concatenate([self._over_rounds(name), added._over_rounds(name)])[
                    :num_worlds
                ]
                for name in added.people
            },
        )

    def _over_rounds(self, name: str) -> np.ndarray:
        """A quantity of people, `[world, round, person]`."""
        values = self.people[name]
        return np.repeat(values[:, None], len(self.rounds), 1) if values.ndim == 2 else values


def array_name(name: str) -> str:
    """Name of the array of a quantity in the folder `trajectory.zarr`, in which `/` separates."""
    escaped = name.replace("%", "%25").replace("/", "%2F")
    return f"%2E{escaped[1:]}" if escaped.startswith(".") else escaped


def dimension_names(name: str, shape: tuple[int, ...], known: tuple[str, ...]) -> list[str]:
    """Names of the dimensions of a quantity.

    Args:
        name: of the quantity.
        shape: its sizes.
        known: names that its environment gives; others are `NAME_0`, `NAME_1`, ...
    """
    if len(known) == len(shape):
        return list(known)
    return [f"{name}_{axis}" for axis in range(len(shape))]


def labelled_trajectory(data: xr.Dataset, metadata: Mapping[str, Any]) -> xr.Dataset:
    """A trajectory as stored, with its names, groups and traits as coordinates.

    Args:
        data: the arrays on disk.
        metadata: of the cell.
    """
    listed = metadata["trajectory"]
    data = data.rename(
        {
            array_name(name): name
            for name in (*listed["latent"], *listed["people"])
            if array_name(name) != name
        }
    )
    data = data.set_coords(list(listed["people"])).assign_coords(episode=listed["episode"])
    data = data.assign_coords(stage=metadata["stages"][-1]["name"])
    names = metadata["value_names"]
    if names and data.sizes.get("value") == len(names):
        data = data.assign_coords(value=names)
    if GROUPS in listed["people"] and (names := listed["group_names"]):
        groups = data[GROUPS]
        if ((groups.values >= 0) & (groups.values < len(names))).all():
            data = data.assign_coords({GROUPS: (groups.dims, np.array(names)[groups.values])})
    return data
