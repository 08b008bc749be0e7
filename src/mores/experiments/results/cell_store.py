"""Write a cell's results to its folder and read them back. The folder is complete or absent.

metrics.parquet    replicate, world, stage, episode, round, metric, value: one row per number
trajectory.zarr    sampled latent quantities, with units and names
checkpoints        learned parameters by stage: `mores.experiments.results.policy_checkpoints`
cell.json          stages, analytic values, names; size and checksum of every other file

Metrics are float32, analytic values float64. A cell is read back bit for bit, and claims are always
evaluated from disk, so a verdict does not depend on which process simulated a cell, or when.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from mores.core.errors import UserError, unreadable
from mores.core.file_formats import RUN_FORMAT
from mores.core.random_streams import Worlds
from mores.experiments.results.atomic_files import atomic_folder
from mores.experiments.results.cell_result import (
    AnalyticValue,
    CellResult,
    StageResult,
    StoppedTraining,
)
from mores.experiments.results.cell_tables import read_worlds, write_metrics, write_trajectory
from mores.experiments.results.policy_checkpoints import write_checkpoints
from mores.sim.round_recorder import metric_dataset
from mores.sim.training_status import TrainingStatus

METRICS, TRAJECTORY, METADATA_FILE = "metrics.parquet", "trajectory.zarr", "cell.json"
MAX_CACHED_VALUES = 2**28  # recorded numbers in memory at a time: 1 GiB


def write_cell_result(folder: Path, cell_result: CellResult) -> None:
    """Write a cell: metrics, sampled trajectory, checkpoints and metadata.

    Raises:
        WriteError: the folder cannot be written; it is then absent.
    """
    with atomic_folder(folder) as temporary:
        write_metrics(temporary / METRICS, cell_result)
        if cell_result.latent:
            write_trajectory(temporary / TRAJECTORY, cell_result)
        write_checkpoints(temporary, cell_result.checkpoints)
        metadata = _make_metadata(cell_result)
        metadata["files"] = {
            str(file.relative_to(temporary)): _size_and_checksum(file)
            for file in sorted(temporary.rglob("*"))
            if file.is_file()
        }
        metadata["self_checksum"] = _self_checksum(metadata)
        text = json.dumps(metadata, indent=1, ensure_ascii=False, allow_nan=False)
        (temporary / METADATA_FILE).write_text(text + "\n", encoding="utf-8")


def read_cell_result(folder: Path) -> CellResult:
    """The results in a cell's folder; the sampled trajectory is read on access.

    Raises:
        UserError: the folder is absent, incomplete or of another format.
    """
    import pyarrow.parquet as pq

    metadata = _read_metadata(folder)
    path = folder / METRICS
    try:
        with pq.ParquetFile(path) as file:
            values = file.read(["value"], use_threads=False)["value"].to_numpy()
            first = metadata["stages"][0]
            rows_per_world = first["num_episodes"] * len(first["rounds"])
            worlds = read_worlds(file, metadata["num_worlds"], rows_per_world)
        return CellResult(
            cell=metadata["cell"],
            stages=_stage_results(metadata, values, worlds),
            latent=_LazyTrajectory(folder / TRAJECTORY, metadata["latent"]),
            latent_rounds=tuple(metadata["latent_rounds"]),
            value_names=tuple(metadata["value_names"]),
            drew_random_numbers=bool(metadata["drew_random_numbers"]),
            num_models=metadata.get("num_models", 0),
            **_training_summary(metadata)._asdict(),
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise unreadable(path, error) from None


class TrainingSummary(NamedTuple):
    """Diagnostics of a cell's learners: see `CellResult`."""

    stopped: tuple[StoppedTraining, ...]
    training_statuses: tuple[TrainingStatus, ...]


def read_training_summary(folder: Path) -> TrainingSummary:
    """Models of a cell that stopped early, and numbers of models that were updated.

    Raises:
        UserError: the folder is absent, incomplete or of another format.
    """
    try:
        return _training_summary(_read_metadata(folder))
    except TypeError as error:
        raise unreadable(folder / METADATA_FILE, error) from None


def _training_summary(metadata: Mapping[str, Any]) -> TrainingSummary:
    return TrainingSummary(
        tuple(StoppedTraining(*fields) for fields in metadata.get("stopped", ())),
        tuple(TrainingStatus(*fields) for fields in metadata.get("training_statuses", ())),
    )


def _self_checksum(metadata: Mapping[str, Any]) -> int:
    """Checksum of a cell's metadata."""
    return zlib.crc32(json.dumps(metadata, sort_keys=True).encode("utf-8"))


def find_damage(folder: Path) -> str | None:
    """What is wrong with a cell's folder; None if every file is unchanged."""
    try:
        metadata = _read_metadata(folder)
        recorded = metadata.pop("self_checksum", None)
        if recorded != _self_checksum(metadata) or METRICS not in metadata["files"]:
            return f"{METADATA_FILE} was changed"
        for name, (size, checksum) in metadata["files"].items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != size:
                return f"{name} has {path.stat().st_size} bytes, not {size}"
            if _size_and_checksum(path)[1] != checksum:
                return f"{name} was changed"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UserError) as error:
        return f"{METADATA_FILE}: {error}"
    return None


class StoredCellResults(Mapping[str, CellResult]):
    """The cell results of a run by cell id, read on access; a few stay in memory."""

    def __init__(self, folder: Path, cells: Sequence[str]) -> None:
        self._folder, self._cells = folder, dict.fromkeys(cells)
        self._cache: OrderedDict[str, CellResult] = OrderedDict()

    def __getitem__(self, cell: str) -> CellResult:
        if cell not in self._cache:
            if cell not in self._cells:
                raise KeyError(cell)
            self._cache[cell] = read_cell_result(self._folder / cell)
            while (
                len(self._cache) > 1
                and sum(map(_num_values, self._cache.values())) > MAX_CACHED_VALUES
            ):
                self._cache.popitem(last=False)
        self._cache.move_to_end(cell)
        return self._cache[cell]

    def __iter__(self) -> Iterator[str]:
        return iter(self._cells)

    def __len__(self) -> int:
        return len(self._cells)


class _LazyTrajectory(Mapping[str, np.ndarray]):
    """The arrays of a trajectory, read on access."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self._path, self._names = path, tuple(names)

    def __getitem__(self, name: str) -> np.ndarray:
        import zarr

        if name not in self._names:
            raise KeyError(name)
        try:
            return np.asarray(zarr.open_array(self._path / name, mode="r", zarr_format=3)[...])
        except (OSError, ValueError, KeyError) as error:
            raise unreadable(self._path, error) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _num_values(cell_result: CellResult) -> int:
    return sum(values.size for stage in cell_result.stages for values in stage.metrics.values())


def _size_and_checksum(path: Path) -> list[int]:
    size = checksum = 0
    with path.open("rb") as file:
        while block := file.read(2**20):
            size, checksum = size + len(block), zlib.crc32(block, checksum)
    return [size, checksum]


def _make_metadata(cell_result: CellResult) -> dict[str, Any]:
    """The metadata of a cell's numbers, as JSON."""
    training = {
        "num_models": cell_result.num_models,
        "stopped": [list(dataclasses.astuple(s)) for s in cell_result.stopped],
        "training_statuses": [list(dataclasses.astuple(s)) for s in cell_result.training_statuses],
    }
    return {
        "format": RUN_FORMAT,
        "cell": cell_result.cell,
        "num_worlds": len(cell_result.replicate),
        "stages": [
            {
                "name": stage.name,
                "num_episodes": stage.metrics.sizes["episode"],
                "rounds": list(stage.rounds),
                "metrics": stage.names,
                "bounds": {
                    str(name): list(metric.attrs["bounds"])
                    for name, metric in stage.metrics.items()
                    if "bounds" in metric.attrs
                },
                "analytic_values": {
                    n: _to_json_number(value) for n, value in stage.analytic_values.items()
                },
            }
            for stage in cell_result.stages
        ],
        "latent": list(cell_result.latent),
        "latent_rounds": list(cell_result.latent_rounds),
        "value_names": list(cell_result.value_names),
        "drew_random_numbers": cell_result.drew_random_numbers,
        **(training if cell_result.num_models or cell_result.stopped else {}),
    }


def _to_json_number(value: AnalyticValue) -> Any:
    """Numbers in JSON, exactly; numbers that JSON lacks as `nan`, `inf`, `-inf`."""
    if np.ndim(value):
        return [_to_json_number(float(number)) for number in np.asarray(value)]
    number = float(value)
    return number if np.isfinite(number) else repr(number)


def _from_json_number(value: Any) -> AnalyticValue:
    return np.array([float(part) for part in value]) if isinstance(value, list) else float(value)


def _read_metadata(folder: Path) -> dict[str, Any]:
    path = folder / METADATA_FILE
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    if not isinstance(metadata, dict) or metadata.get("format") != RUN_FORMAT:
        raise unreadable(path, f"it does not have format {RUN_FORMAT}")
    return metadata


def _stage_results(
    metadata: Mapping[str, Any], values: np.ndarray, worlds: Worlds
) -> tuple[StageResult, ...]:
    """The stages of a cell from the column `value` of its table."""
    stages, start = [], 0
    for entry in metadata["stages"]:
        rounds, num_episodes = entry["rounds"], entry["num_episodes"]
        shape = (len(worlds), num_episodes, len(rounds))
        parts: dict[str, list[np.ndarray]] = {}
        for name in entry["metrics"]:
            stop = start + int(np.prod(shape))
            parts.setdefault(name.partition("[")[0], []).append(values[start:stop].reshape(shape))
            start = stop
        vectors = {name.partition("[")[0] for name in entry["metrics"] if name.endswith("]")}
        metrics = {
            name: torch.from_numpy(np.stack(arrays, -1) if name in vectors else arrays[0].copy())
            for name, arrays in parts.items()
        }
        analytic_values = {
            name: _from_json_number(value) for name, value in entry["analytic_values"].items()
        }
        dataset = metric_dataset(metrics, worlds, num_episodes, rounds)
        for name, (low, high) in entry["bounds"].items():
            dataset[name].attrs["bounds"] = (float(low), float(high))
        stages.append(StageResult(entry["name"], dataset, analytic_values))
    if start != len(values):
        raise ValueError(f"{len(values)} numbers, not {start}")
    return tuple(stages)
