"""A cell's numbers as files: one Parquet table of measures, one Zarr group of sampled people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mores.experiments.results.cell_result import CellResult, StageResult


def write_metrics(path: Path, cell_result: CellResult) -> None:
    """One row a number, measure after measure."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [(stage, name) for stage in cell_result.stages for name in stage.metrics]
    with pq.ParquetWriter(path, _schema()) as writer:
        for stage, name in names:  # a measure at a time: memory stays small
            writer.write_table(
                pa.table(_metric_columns(cell_result, stage, name), schema=_schema())
            )


def read_world_labels(
    file: Any, num_worlds: int, rows_per_world: int
) -> tuple[np.ndarray, np.ndarray]:
    """Replicate and world of each world, from the rows of an open table's first measure.

    Args:
        file: the table.
        num_worlds: how many there are.
        rows_per_world: rows of a measure in each.
    """
    found: dict[str, list[np.ndarray]] = {"replicate": [], "world": []}
    rows = 0
    for batch in file.iter_batches(columns=list(found), use_threads=False):
        for name, parts in found.items():
            parts.append(
                batch[name].to_numpy()[(-rows) % rows_per_world :: rows_per_world].astype(np.int64)
            )
        rows += len(batch)
        if rows >= num_worlds * rows_per_world:
            break
    replicate, world = (np.concatenate(parts)[:num_worlds] for parts in found.values())
    return replicate, world


def write_trajectory(path: Path, cell_result: CellResult) -> None:
    """Sampled quantities over rounds, with units and names."""
    import xarray as xr

    variables = {}
    for name, values in cell_result.latent.items():
        inner = [f"{name}_{axis}" for axis in range(values.ndim - 2)]
        variables[name] = (["sample", "round", *inner], values, {"units": "1", "long_name": name})
    kept = len(next(iter(cell_result.latent.values())))
    data = xr.Dataset(
        variables,
        coords={
            "round": ("round", list(cell_result.latent_rounds), {"units": "rounds completed"}),
            "replicate": ("sample", cell_result.replicate[:kept]),
            "world": ("sample", cell_result.world[:kept]),
        },
        attrs={"cell": cell_result.cell, "stage": cell_result.stages[-1].name},
    )
    data.to_zarr(path, mode="w", consolidated=False)


def _metric_columns(
    cell_result: CellResult, stage_result: StageResult, name: str
) -> dict[str, Any]:
    """The columns of one measure."""
    import pyarrow as pa

    values = stage_result.metrics[name]
    worlds, episodes, rounds = values.shape

    def same(text: str) -> Any:
        return pa.DictionaryArray.from_arrays(np.zeros(values.size, np.int32), [text])

    return {
        "replicate": np.repeat(cell_result.replicate, episodes * rounds).astype(np.int32),
        "world": np.repeat(cell_result.world, episodes * rounds).astype(np.int32),
        "stage": same(stage_result.name),
        "episode": np.tile(np.repeat(np.arange(episodes, dtype=np.int32), rounds), worlds),
        "round": np.tile(np.array(stage_result.rounds, np.int32), worlds * episodes),
        "measure": same(name),
        "value": values.reshape(-1).astype(np.float32),
    }


def _schema() -> Any:
    import pyarrow as pa

    name = pa.dictionary(pa.int32(), pa.string())
    whole = pa.int32()
    return pa.schema(
        [
            ("replicate", whole),
            ("world", whole),
            ("stage", name),
            ("episode", whole),
            ("round", whole),
            ("measure", name),
            ("value", pa.float32()),
        ]
    )
