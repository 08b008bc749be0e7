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
from mores.experiments.results.atomic_files import whole_folder
from mores.experiments.results.cell_result import Prediction, Record, StageRecord, Stopped
from mores.experiments.results.cell_tables import labels, write_measures, write_trajectory
from mores.experiments.results.policy_checkpoints import write_checkpoints
from mores.sim.training_status import Taught

MEASURES, TRAJECTORY, ABOUT = "measures.parquet", "trajectory.zarr", "cell.json"
FORMAT = 1
KEPT = 2**28  # measured numbers that are kept in memory at a time: 1 GiB


class Damaged(UserError):
    """A cell's folder is not as it was written."""


def _damaged(path: Path, why: object) -> Damaged:
    return Damaged(f"cannot read {path}: {why}", code="unreadable", path=str(path))


def write_record(folder: Path, record: Record) -> None:
    """Write a cell: measures, sampled trajectory, and what they are about.

    Raises:
        CannotWrite: the disk says no; there is no such cell then.
    """
    with whole_folder(folder) as spare:
        write_measures(spare / MEASURES, record)
        if record.hidden:
            write_trajectory(spare / TRAJECTORY, record)
        write_checkpoints(spare, record.checkpoints)
        about = _about(record)
        about["files"] = {
            str(file.relative_to(spare)): _seal(file)
            for file in sorted(spare.rglob("*"))
            if file.is_file()
        }
        about["seal"] = _own_seal(about)
        text = json.dumps(about, indent=1, ensure_ascii=False, allow_nan=False)
        (spare / ABOUT).write_text(text + "\n", encoding="utf-8")


def read_record(folder: Path) -> Record:
    """A cell as it was written; its sampled trajectory is read when it is looked at.

    Raises:
        Damaged: it is not there, or cut off.
    """
    import pyarrow.parquet as pq

    about = _read_about(folder)
    path = folder / MEASURES
    try:
        with pq.ParquetFile(path) as file:
            values = file.read(["value"], use_threads=False)["value"].to_numpy()
            first = about["stages"][0]
            repeats = first["episodes"] * len(first["rounds"])
            replicate, world = labels(file, about["worlds"], repeats)
        return Record(
            cell=about["cell"],
            replicate=replicate,
            world=world,
            stages=_stages(about, values),
            hidden=_Sampled(folder / TRAJECTORY, about["hidden"]),
            hidden_rounds=tuple(about["hidden_rounds"]),
            value_names=tuple(about["value_names"]),
            learners=about.get("learners", 0),
            **_learners(about)._asdict(),
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise _damaged(path, error) from None


class Learners(NamedTuple):
    """What there is to tell of a cell's learners: see `Record`."""

    stopped: tuple[Stopped, ...]
    taught: tuple[Taught, ...]


def learners_in(folder: Path) -> Learners:
    """Who stopped early in a cell, and who learned anything.

    Raises:
        Damaged: its folder is not as it was written.
    """
    try:
        return _learners(_read_about(folder))
    except TypeError as error:
        raise _damaged(folder / ABOUT, error) from None


def _learners(about: Mapping[str, Any]) -> Learners:
    return Learners(
        tuple(Stopped(*one) for one in about.get("stopped", ())),
        tuple(Taught(*one) for one in about.get("taught", ())),
    )


def _own_seal(about: Mapping[str, Any]) -> int:
    """A checksum of what a cell says of itself."""
    return zlib.crc32(json.dumps(about, sort_keys=True).encode("utf-8"))


def damage(folder: Path) -> str | None:
    """What is wrong with a cell's folder; None where every file is as it was written."""
    try:
        about = _read_about(folder)
        if about.pop("seal", None) != _own_seal(about) or MEASURES not in about["files"]:
            return f"{ABOUT} was changed"
        for name, (size, checksum) in about["files"].items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != size:
                return f"{name} is {path.stat().st_size} bytes long and should be {size}"
            if _seal(path)[1] != checksum:
                return f"{name} was changed"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UserError) as error:
        return f"{ABOUT}: {error}"
    return None


class StoredRecords(Mapping[str, Record]):
    """The cells of a run by id, read when they are asked for; a few are kept in memory."""

    def __init__(self, folder: Path, cells: Sequence[str]) -> None:
        self._folder, self._cells = folder, dict.fromkeys(cells)
        self._kept: OrderedDict[str, Record] = OrderedDict()

    def __getitem__(self, cell: str) -> Record:
        if cell not in self._kept:
            if cell not in self._cells:
                raise KeyError(cell)
            self._kept[cell] = read_record(self._folder / cell)
            while len(self._kept) > 1 and sum(map(_size, self._kept.values())) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(cell)
        return self._kept[cell]

    def __iter__(self) -> Iterator[str]:
        return iter(self._cells)

    def __len__(self) -> int:
        return len(self._cells)


class _Sampled(Mapping[str, np.ndarray]):
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


def _size(record: Record) -> int:
    return sum(rows.size for stage in record.stages for rows in stage.measures.values())


def _seal(path: Path) -> list[int]:
    """Size and checksum of a file."""
    size = checksum = 0
    with path.open("rb") as file:
        while block := file.read(2**20):
            size, checksum = size + len(block), zlib.crc32(block, checksum)
    return [size, checksum]


def _about(record: Record) -> dict[str, Any]:
    """What the numbers of a cell are about, as JSON."""
    learned = {
        "learners": record.learners,
        "stopped": [[one.stage, one.role, one.line] for one in record.stopped],
        "taught": [list(dataclasses.astuple(one)) for one in record.taught],
    }
    return {
        "format": FORMAT,
        "cell": record.cell,
        "worlds": len(record.replicate),
        "stages": [
            {
                "name": stage.name,
                "episodes": next(iter(stage.measures.values())).shape[1],
                "rounds": list(stage.rounds),
                "measures": list(stage.measures),
                "predictions": {n: _plain(value) for n, value in stage.predictions.items()},
            }
            for stage in record.stages
        ],
        "hidden": list(record.hidden),
        "hidden_rounds": list(record.hidden_rounds),
        "value_names": list(record.value_names),
        **(learned if record.learners or record.stopped else {}),
    }


def _plain(value: Prediction) -> Any:
    """Numbers as JSON has them, exactly; those it has not as `nan`, `inf`, `-inf`."""
    if np.ndim(value):
        return [_plain(float(one)) for one in np.asarray(value)]
    number = float(value)
    return number if np.isfinite(number) else repr(number)


def _number(value: Any) -> Prediction:
    return np.array([float(one) for one in value]) if isinstance(value, list) else float(value)


def _read_about(folder: Path) -> dict[str, Any]:
    path = folder / ABOUT
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise _damaged(path, "not a cell as this version of mores writes it")
    return about


def _stages(about: Mapping[str, Any], values: np.ndarray) -> tuple[StageRecord, ...]:
    stages, start = [], 0
    for told in about["stages"]:
        shape = (about["worlds"], told["episodes"], len(told["rounds"]))
        measures = {}
        for name in told["measures"]:
            stop = start + int(np.prod(shape))
            measures[name] = values[start:stop].reshape(shape)
            start = stop
        predictions = {name: _number(value) for name, value in told["predictions"].items()}
        stages.append(StageRecord(told["name"], tuple(told["rounds"]), measures, predictions))
    if start != len(values):
        raise ValueError(f"{len(values)} numbers, not {start}")
    return tuple(stages)
