"""What a run leaves on disk. Every file is whole or absent: written beside, then renamed.

measures.parquet   replicate, world, stage, episode, round, measure, value: one row a number
trajectory.zarr    sampled hidden quantities, with units and names
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mores.errors import UserError
from mores.run.cells import Record

STAGE = "play"  # the one stage there is


def write_text(path: Path, text: str) -> None:
    """Write a file that is either whole or not there."""
    _beside(path, lambda spare: spare.write_text(text, encoding="utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file that is either whole or not there."""
    _beside(path, lambda spare: spare.write_bytes(data))


def write_json(path: Path, data: Any) -> None:
    """Write strict JSON: what is not a finite number becomes null."""
    write_text(path, json.dumps(_finite(data), indent=2, ensure_ascii=False) + "\n")


def _beside(path: Path, write: Callable[[Path], Any]) -> None:
    spare = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(spare)
        os.replace(spare, path)
    except OSError as error:
        spare.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None


def _finite(data: Any) -> Any:
    if isinstance(data, float) and not math.isfinite(data):
        return None
    if isinstance(data, Mapping):
        return {str(key): _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    if isinstance(data, np.generic):
        return _finite(data.item())
    return data


def write_record(folder: Path, record: Record) -> None:
    """Write a cell's measures and sampled trajectory into its folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror or error}") from None
    _write_measures(folder / "measures.parquet", record)
    if record.hidden:
        _write_trajectory(folder / "trajectory.zarr", record)


def _write_measures(path: Path, record: Record) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    worlds, rounds = len(record.replicate), len(record.rounds)
    size = worlds * rounds
    names = list(record.measures)

    def write(spare: Path) -> None:
        with pq.ParquetWriter(spare, _schema()) as writer:
            for number, name in enumerate(names):  # a measure at a time: memory stays small
                columns = {
                    "replicate": np.repeat(record.replicate, rounds).astype(np.int32),
                    "world": np.repeat(record.world, rounds).astype(np.int32),
                    "stage": pa.DictionaryArray.from_arrays(np.zeros(size, np.int32), [STAGE]),
                    "episode": np.zeros(size, np.int32),
                    "round": np.tile(np.array(record.rounds, np.int32), worlds),
                    "measure": pa.DictionaryArray.from_arrays(
                        np.full(size, number, np.int32), names
                    ),
                    "value": record.measures[name].reshape(-1).astype(np.float32),
                }
                writer.write_table(pa.table(columns, schema=_schema()))

    _beside(path, write)


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


def _write_trajectory(path: Path, record: Record) -> None:
    import xarray as xr

    variables = {}
    for name, values in record.hidden.items():
        inner = [f"{name}_{axis}" for axis in range(values.ndim - 2)]
        variables[name] = (["sample", "round", *inner], values, {"units": "1", "long_name": name})
    kept = len(next(iter(record.hidden.values())))
    data = xr.Dataset(
        variables,
        coords={
            "round": ("round", list(record.hidden_rounds), {"units": "rounds completed"}),
            "replicate": ("sample", record.replicate[:kept]),
            "world": ("sample", record.world[:kept]),
        },
        attrs={"cell": record.cell, "stage": STAGE},
    )
    spare = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        data.to_zarr(spare, mode="w", consolidated=False)
        if path.exists():
            shutil.rmtree(path)
        os.replace(spare, path)
    except OSError as error:
        shutil.rmtree(spare, ignore_errors=True)
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None
