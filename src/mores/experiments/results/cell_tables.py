"""A cell's numbers as files: a Parquet table of metrics, a Zarr group of sampled people."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from mores.experiments.results.cell_result import CellResult, StageResult
from mores.experiments.results.trajectory import array_name, dimension_names
from mores.sim.round_recorder import COORDINATES


def write_metrics(path: Path, cell_result: CellResult) -> None:
    """Write one row per number, metric after metric."""
    import pyarrow.parquet as pq

    names = [(stage, name) for stage in cell_result.stages for name in stage.names]
    tables = (_metric_table(*name) for name in names)  # one at a time bounds memory
    first = next(tables)
    with pq.ParquetWriter(path, first.schema) as writer:
        for table in itertools.chain([first], tables):
            writer.write_table(table)


def write_trajectory(path: Path, cell_result: CellResult) -> None:
    """Write sampled quantities over rounds, with units and names of dimensions."""
    import xarray as xr

    trajectory = cell_result.trajectory
    variables: dict[str, tuple[list[str], np.ndarray, dict[str, str]]] = {}

    def add(name: str, dimensions: list[str], values: np.ndarray) -> None:
        variables[array_name(name)] = (dimensions, values, {"units": "1", "long_name": name})

    num_worlds = len(next(iter(trajectory.latent.values())))
    sizes: dict[str, int] = {}
    for name, values in trajectory.latent.items():
        shape = values.shape[2:]
        inner = dimension_names(name, shape, trajectory.dimensions.get(name, ()))
        if any(sizes.get(each, size) != size for each, size in zip(inner, shape, strict=True)):
            inner = dimension_names(name, shape, ())  # another quantity has this dimension
        sizes |= zip(inner, shape, strict=True)
        add(name, ["world", "round", *inner], values)
    for name, values in trajectory.people.items():
        constant = values.ndim == 3 and values.shape[1] and (values == values[:, :1]).all()
        values = values[:, 0] if constant else values
        add(name, ["world", "person"] if values.ndim == 2 else ["world", "round", "person"], values)
    data = xr.Dataset(
        variables,
        coords={
            "round": ("round", list(trajectory.rounds), {"units": "rounds completed"}),
            **{
                name: ("world", cell_result.stages[0].metrics[name].values[:num_worlds])
                for name in ("replicate", "world")
            },
        },
        attrs={"cell": cell_result.cell, "stage": cell_result.stages[-1].name},
    )
    # Empty chunks too: a missing file is damage.
    data.to_zarr(path, mode="w", consolidated=False, write_empty_chunks=True)


def _metric_table(stage_result: StageResult, name: str) -> Any:
    """The rows of one metric."""
    import pyarrow as pa

    values = stage_result.array(name)
    coordinates = stage_result.metrics.coords
    worlds, episodes, rounds = values.shape
    labels = {"draw": np.zeros(worlds, np.int32)} | {
        name: coordinates[name].values.astype(np.int32)
        for name in COORDINATES
        if name in coordinates
    }

    def constant(text: str) -> Any:
        return pa.DictionaryArray.from_arrays(np.zeros(values.size, np.int32), [text])

    return pa.table(
        {
            "replicate": np.repeat(labels["replicate"], episodes * rounds),
            "draw": np.repeat(labels["draw"], episodes * rounds),
            "world": np.repeat(labels["world"], episodes * rounds),
            "stage": constant(stage_result.name),
            "episode": np.tile(np.repeat(labels["episode"], rounds), worlds),
            "round": np.tile(labels["round"], worlds * episodes),
            "metric": constant(name),
            "value": values.reshape(-1).astype(np.float32),
        }
    )
