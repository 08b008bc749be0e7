"""What a cell leaves on disk, and reading it back. A cell's folder is complete or absent.

measures.parquet   replicate, world, stage, episode, round, measure, value: one row a number
trajectory.zarr    sampled hidden quantities, with units and names
checkpoints        what was learned, stage by stage: see `mores.experiments.results.policy_checkpoints`
cell.json          stages, their formulas' values, names; size and checksum of every other file

Measures are float32, formulas float64. A cell that was read back is bit for bit the cell that was
written, so claims are always judged from what is on disk, whoever played it and when.
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

from mores.core.errors import UserError
from mores.experiments.results.atomic_files import atomic_folder
from mores.experiments.results.cell_result import (
    AnalyticValue,
    CellResult,
    StageResult,
    StoppedTraining,
)
from mores.experiments.results.cell_tables import read_world_labels, write_metrics, write_trajectory
from mores.experiments.results.policy_checkpoints import write_checkpoints
from mores.sim.training_status import TrainingStatus

METRICS, TRAJECTORY, METADATA_FILE = "measures.parquet", "trajectory.zarr", "cell.json"
FORMAT_VERSION = 1
MAX_CACHED_VALUES = 2**28  # measured numbers that are kept in memory at a time: 1 GiB


class DamagedCellError(UserError):
    """A cell's folder is not as it was written."""


def _damaged(path: Path, why: object) -> DamagedCellError:
    return DamagedCellError(f"cannot read {path}: {why}", code="unreadable", path=str(path))


def write_cell_result(folder: Path, cell_result: CellResult) -> None:
    """Write a cell: measures, sampled trajectory, and what they are about.

    Raises:
        CannotWrite: the disk says no; there is no such cell then.
    """
    with atomic_folder(folder) as spare:
        write_metrics(spare / METRICS, cell_result)
        if cell_result.latent:
            write_trajectory(spare / TRAJECTORY, cell_result)
        write_checkpoints(spare, cell_result.checkpoints)
        about = _make_metadata(cell_result)
        about["files"] = {
            str(file.relative_to(spare)): _size_and_checksum(file)
            for file in sorted(spare.rglob("*"))
            if file.is_file()
        }
        about["seal"] = _self_checksum(about)
        text = json.dumps(about, indent=1, ensure_ascii=False, allow_nan=False)
        (spare / METADATA_FILE).write_text(text + "\n", encoding="utf-8")


def read_cell_result(folder: Path) -> CellResult:
    """A cell as it was written; its sampled trajectory is read when it is looked at.

    Raises:
        Damaged: it is not there, or cut off.
    """
    import pyarrow.parquet as pq

    about = _read_metadata(folder)
    path = folder / METRICS
    try:
        with pq.ParquetFile(path) as file:
            values = file.read(["value"], use_threads=False)["value"].to_numpy()
            first = about["stages"][0]
            repeats = first["episodes"] * len(first["rounds"])
            replicate, world = read_world_labels(file, about["worlds"], repeats)
        return CellResult(
            cell=about["cell"],
            replicate=replicate,
            world=world,
            stages=_stage_results(about, values),
            latent=_LazyTrajectory(folder / TRAJECTORY, about["hidden"]),
            latent_rounds=tuple(about["hidden_rounds"]),
            value_names=tuple(about["value_names"]),
            num_models=about.get("learners", 0),
            **_training_summary(about)._asdict(),
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise _damaged(path, error) from None


class TrainingSummary(NamedTuple):
    """What there is to tell of a cell's learners: see `CellResult`."""

    stopped: tuple[StoppedTraining, ...]
    training_statuses: tuple[TrainingStatus, ...]


def read_training_summary(folder: Path) -> TrainingSummary:
    """Who stopped early in a cell, and who learned anything.

    Raises:
        Damaged: its folder is not as it was written.
    """
    try:
        return _training_summary(_read_metadata(folder))
    except TypeError as error:
        raise _damaged(folder / METADATA_FILE, error) from None


def _training_summary(metadata: Mapping[str, Any]) -> TrainingSummary:
    return TrainingSummary(
        tuple(StoppedTraining(*one) for one in metadata.get("stopped", ())),
        tuple(TrainingStatus(*one) for one in metadata.get("taught", ())),
    )


def _self_checksum(metadata: Mapping[str, Any]) -> int:
    """A checksum of what a cell says of itself."""
    return zlib.crc32(json.dumps(metadata, sort_keys=True).encode("utf-8"))


def find_damage(folder: Path) -> str | None:
    """What is wrong with a cell's folder; None where every file is as it was written."""
    try:
        about = _read_metadata(folder)
        if about.pop("seal", None) != _self_checksum(about) or METRICS not in about["files"]:
            return f"{METADATA_FILE} was changed"
        for name, (size, checksum) in about["files"].items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != size:
                return f"{name} is {path.stat().st_size} bytes long and should be {size}"
            if _size_and_checksum(path)[1] != checksum:
                return f"{name} was changed"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UserError) as error:
        return f"{METADATA_FILE}: {error}"
    return None


class StoredCellResults(Mapping[str, CellResult]):
    """The cells of a run by id, read when they are asked for; a few are kept in memory."""

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
    """The arrays of a trajectory, read when they are asked for."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self._path, self._names = path, tuple(names)

    def __getitem__(self, name: str) -> np.ndarray:
        import zarr

        if name not in self._names:
            raise KeyError(name)
        try:
            return np.asarray(zarr.open_array(self._path / name, mode="r")[...])
        except (OSError, ValueError, KeyError) as error:
            raise _damaged(self._path, error) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _num_values(cell_result: CellResult) -> int:
    return sum(rows.size for stage in cell_result.stages for rows in stage.metrics.values())


def _size_and_checksum(path: Path) -> list[int]:
    """Size and checksum of a file."""
    size = checksum = 0
    with path.open("rb") as file:
        while block := file.read(2**20):
            size, checksum = size + len(block), zlib.crc32(block, checksum)
    return [size, checksum]


def _make_metadata(cell_result: CellResult) -> dict[str, Any]:
    """What the numbers of a cell are about, as JSON."""
    learned = {
        "learners": cell_result.num_models,
        "stopped": [[one.stage, one.role, one.message] for one in cell_result.stopped],
        "taught": [list(dataclasses.astuple(one)) for one in cell_result.training_statuses],
    }
    return {
        "format": FORMAT_VERSION,
        "cell": cell_result.cell,
        "worlds": len(cell_result.replicate),
        "stages": [
            {
                "name": stage.name,
                "episodes": next(iter(stage.metrics.values())).shape[1],
                "rounds": list(stage.rounds),
                "measures": list(stage.metrics),
                "predictions": {
                    n: _to_json_number(value) for n, value in stage.analytic_values.items()
                },
            }
            for stage in cell_result.stages
        ],
        "hidden": list(cell_result.latent),
        "hidden_rounds": list(cell_result.latent_rounds),
        "value_names": list(cell_result.value_names),
        **(learned if cell_result.num_models or cell_result.stopped else {}),
    }


def _to_json_number(value: AnalyticValue) -> Any:
    """Numbers as JSON has them, exactly; those it has not as `nan`, `inf`, `-inf`."""
    if np.ndim(value):
        return [_to_json_number(float(one)) for one in np.asarray(value)]
    number = float(value)
    return number if np.isfinite(number) else repr(number)


def _from_json_number(value: Any) -> AnalyticValue:
    return np.array([float(one) for one in value]) if isinstance(value, list) else float(value)


def _read_metadata(folder: Path) -> dict[str, Any]:
    path = folder / METADATA_FILE
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from None
    if not isinstance(about, dict) or about.get("format") != FORMAT_VERSION:
        raise _damaged(path, "not a cell as this version of mores writes it")
    return about


def _stage_results(metadata: Mapping[str, Any], values: np.ndarray) -> tuple[StageResult, ...]:
    stages, start = [], 0
    for told in metadata["stages"]:
        shape = (metadata["worlds"], told["episodes"], len(told["rounds"]))
        measures = {}
        for name in told["measures"]:
            stop = start + int(np.prod(shape))
            measures[name] = values[start:stop].reshape(shape)
            start = stop
        predictions = {
            name: _from_json_number(value) for name, value in told["predictions"].items()
        }
        stages.append(StageResult(told["name"], tuple(told["rounds"]), measures, predictions))
    if start != len(values):
        raise ValueError(f"{len(values)} numbers, not {start}")
    return tuple(stages)
