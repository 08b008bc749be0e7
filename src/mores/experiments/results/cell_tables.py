"""A cell's numbers as files: a Parquet table of metrics, a Zarr group of sampled people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mores.experiments.results.cell_result import CellResult, StageResult


def write_metrics(path: Path, cell_result: CellResult) -> None:
    """Write one row per number, metric after metric."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [(stage, name) for stage in cell_result.stages for name in stage.metrics]
    with pq.ParquetWriter(path, _schema()) as writer:
        for stage, name in names:  # one metric at a time bounds memory
            writer.write_table(
                pa.table(_metric_columns(cell_result, stage, name), schema=_schema())
            )


def read_world_labels(
    file: Any, num_worlds: int, rows_per_world: int
) -> tuple[np.ndarray, np.ndarray]:
    """Replicate and world of each world, from the rows of a table's first metric.

    Args:
        file: the open table.
        num_worlds: number of worlds.
        rows_per_world: rows of the metric in each world.
    """
    columns: dict[str, list[np.ndarray]] = {"replicate": [], "world": []}
    rows = 0
    for batch in file.iter_batches(columns=list(columns), use_threads=False):
        for name, parts in columns.items():
            parts.append(
                batch[name].to_numpy()[(-rows) % rows_per_world :: rows_per_world].astype(np.int64)
            )
        rows += len(batch)
        if rows >= num_worlds * rows_per_world:
            break
    replicate, world = (np.concatenate(parts)[:num_worlds] for parts in columns.values())
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


def _metric_columns(
    cell_result: CellResult, stage_result: StageResult, name: str
) -> dict[str, Any]:
    """The columns of one metric."""
    import pyarrow as pa

    values = stage_result.metrics[name]
    worlds, episodes, rounds = values.shape

    def constant(text: str) -> Any:
        return pa.DictionaryArray.from_arrays(np.zeros(values.size, np.int32), [text])

    return {
        "replicate": np.repeat(cell_result.replicate, episodes * rounds).astype(np.int32),
        "world": np.repeat(cell_result.world, episodes * rounds).astype(np.int32),
        "stage": constant(stage_result.name),
        "episode": np.tile(np.repeat(np.arange(episodes, dtype=np.int32), rounds), worlds),
        "round": np.tile(np.array(stage_result.rounds, np.int32), worlds * episodes),
        "metric": constant(name),
        "value": values.reshape(-1).astype(np.float32),
    }


def _schema() -> Any:
    import pyarrow as pa

    name = pa.dictionary(pa.int32(), pa.string())
    integer = pa.int32()
    return pa.schema(
        [
            ("replicate", integer),
            ("world", integer),
            ("stage", name),
            ("episode", integer),
            ("round", integer),
            ("metric", name),
            ("value", pa.float32()),
        ]
    )
