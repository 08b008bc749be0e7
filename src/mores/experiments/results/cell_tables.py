"""A cell's numbers as files: a Parquet table of metrics, a Zarr group of sampled people."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from mores.experiments.results.cell_result import CellResult, StageResult


def write_metrics(path: Path, cell_result: CellResult) -> None:
    """Write one row per number, metric after metric."""
    import pyarrow.parquet as pq

    names = [(stage, name) for stage in cell_result.stages for name in stage.metrics]
    tables = (_metric_table(cell_result, *name) for name in names)  # one at a time bounds memory
    first = next(tables)
    with pq.ParquetWriter(path, first.schema) as writer:
        for table in itertools.chain([first], tables):
            writer.write_table(table)


def read_world_labels(
    file: Any, num_worlds: int, rows_per_world: int
) -> tuple[np.ndarray, np.ndarray]:
    """Replicate and world of each world, from the rows of a table's first metric.

    Args:
        file: the open table.
        num_worlds: number of worlds.
        rows_per_world: rows of the metric in each world.
    """
    groups, rows = 0, 0
    while rows < num_worlds * rows_per_world:
        rows += file.metadata.row_group(groups).num_rows
        groups += 1
    names = ["replicate", "world"]
    table = file.read_row_groups(list(range(groups)), names, use_threads=False)
    columns = (table[name].to_numpy()[::rows_per_world][:num_worlds] for name in names)
    replicate, world = (column.astype(np.int64) for column in columns)
    return replicate, world


def write_trajectory(path: Path, cell_result: CellResult) -> None:
    """Write sampled quantities over rounds, with units and names."""
    import xarray as xr

    variables = {}
    for name, values in cell_result.latent.items():
        inner = [f"{name}_{axis}" for axis in range(values.ndim - 2)]
        variables[name] = (["sample", "round", *inner], values, {"units": "1", "long_name": name})
    num_samples = len(next(iter(cell_result.latent.values())))
    data = xr.Dataset(
        variables,
        coords={
            "round": ("round", list(cell_result.latent_rounds), {"units": "rounds completed"}),
            "replicate": ("sample", cell_result.replicate[:num_samples]),
            "world": ("sample", cell_result.world[:num_samples]),
        },
        attrs={"cell": cell_result.cell, "stage": cell_result.stages[-1].name},
    )
    data.to_zarr(path, mode="w", consolidated=False)


def _metric_table(cell_result: CellResult, stage_result: StageResult, name: str) -> Any:
    """The rows of one metric."""
    import pyarrow as pa

    values = stage_result.metrics[name]
    worlds, episodes, rounds = values.shape

    def constant(text: str) -> Any:
        return pa.DictionaryArray.from_arrays(np.zeros(values.size, np.int32), [text])

    return pa.table(
        {
            "replicate": np.repeat(cell_result.replicate, episodes * rounds).astype(np.int32),
            "world": np.repeat(cell_result.world, episodes * rounds).astype(np.int32),
            "stage": constant(stage_result.name),
            "episode": np.tile(np.repeat(np.arange(episodes, dtype=np.int32), rounds), worlds),
            "round": np.tile(np.array(stage_result.rounds, np.int32), worlds * episodes),
            "metric": constant(name),
            "value": values.reshape(-1).astype(np.float32),
        }
    )
