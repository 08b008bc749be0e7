"""Write a cell's results to its folder and read them back. The folder is complete or absent.

metrics.parquet    replicate, draw, world, stage, episode, round, metric, value: one row per number;
                   draw: of uncertain parameters, 0 in an arm
trajectory.zarr    sampled latent quantities, with units and names
checkpoints        learned parameters by stage: `mores.experiments.results.policy_checkpoints`
cell.json          stages, analytic values, names; what the cell belongs to, and the code that
                   simulated it; size and checksum of every other file

Metrics are float32, analytic values float64. A cell is read back bit for bit, and claims are always
evaluated from disk, so a verdict does not depend on which process simulated a cell, or when.
"""

from __future__ import annotations

import dataclasses
import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from mores.core.component_names import component_labels, split_component
from mores.core.errors import unreadable
from mores.core.file_formats import RUN_FORMAT
from mores.core.random_streams import Worlds
from mores.experiments.results.atomic_files import atomic_folder
from mores.experiments.results.cell_identity import CellIdentity, to_ranges
from mores.experiments.results.cell_result import (
    AnalyticValue,
    CellResult,
    StageResult,
    StoppedTraining,
)
from mores.experiments.results.cell_tables import write_metrics, write_trajectory
from mores.experiments.results.checked_files import (
    SEAL,
    CheckedFolder,
    self_checksum,
)
from mores.experiments.results.checked_tables import read_worlds
from mores.experiments.results.policy_checkpoints import write_checkpoints
from mores.experiments.results.provenance import code_info
from mores.experiments.results.stored_cell import (
    DECODING_ERRORS,
    METADATA_FILE,
    METRICS,
    TRAJECTORY,
    StoredCell,
)
from mores.experiments.results.trajectory import Trajectory, array_name
from mores.sim.round_recorder import metric_dataset
from mores.sim.training_status import TrainingStatus

MAX_CACHED_VALUES = 2**28  # recorded numbers in memory at a time: 1 GiB


def write_cell_result(
    folder: Path, cell_result: CellResult, identity: CellIdentity | None = None
) -> None:
    """Write a cell: metrics, sampled trajectory, checkpoints and metadata.

    Args:
        folder: folder of the cell.
        cell_result: its results.
        identity: what it belongs to; None: to no run.

    Raises:
        WriteError: the folder cannot be written; it is then absent.
    """
    with atomic_folder(folder) as temporary:
        write_metrics(temporary / METRICS, cell_result)
        if cell_result.trajectory.rounds:
            write_trajectory(temporary / TRAJECTORY, cell_result)
        write_checkpoints(temporary, cell_result.checkpoints)
        metadata = _make_metadata(cell_result)
        if identity is not None:
            metadata["identity"] = identity.to_json()
        metadata["code"] = code_info()
        written = CheckedFolder(temporary)
        metadata["files"] = {
            name: written.size_and_checksum(name)
            for name in (
                str(file.relative_to(temporary))
                for file in sorted(temporary.rglob("*"))
                if file.is_file()
            )
        }
        metadata[SEAL] = self_checksum(metadata)
        text = json.dumps(metadata, indent=1, ensure_ascii=False, allow_nan=False)
        (temporary / METADATA_FILE).write_text(text + "\n", encoding="utf-8")


def read_cell_result(
    folder: Path | CheckedFolder, expected: CellIdentity | None = None
) -> CellResult:
    """The results in a cell's folder.

    Args:
        folder: the folder.
        expected: identity that its run lists; None: any.

    Raises:
        UserError: the folder is absent, incomplete, changed, of another format or another run.
    """
    cell = StoredCell(folder, expected)
    metadata = cell.metadata
    try:
        file = cell.open_metrics()
        column = file.read(["value"], use_threads=False)["value"]
        if column.null_count:
            raise ValueError("it lacks numbers")
        first = metadata["stages"][0]
        rows_per_world = first["num_episodes"] * len(first["rounds"])
        worlds = read_worlds(file, metadata["num_worlds"], rows_per_world)
        if expected is not None:
            _check_content(metadata, worlds, expected)
        return CellResult(
            cell=metadata["cell"],
            stages=_stage_results(metadata, column.to_numpy(), worlds),
            trajectory=_read_trajectory(cell),
            value_names=tuple(metadata["value_names"]),
            drew_random_numbers=bool(metadata["drew_random_numbers"]),
            num_models=metadata.get("num_models", 0),
            uncoupled_roles=tuple(map(str, metadata.get("uncoupled_roles", ()))),
            **_training_summary(metadata)._asdict(),
        )
    except DECODING_ERRORS as error:
        raise unreadable(cell.path / METRICS, error) from None


class TrainingSummary(NamedTuple):
    """Diagnostics of a cell's learners: see `CellResult`."""

    stopped: tuple[StoppedTraining, ...]
    training_statuses: tuple[TrainingStatus, ...]


def read_training_summary(folder: CheckedFolder) -> TrainingSummary:
    """Models of a cell that stopped early, and numbers of models that were updated.

    Raises:
        UserError: the folder is absent, incomplete or of another format.
    """
    try:
        return _training_summary(StoredCell(folder).metadata)
    except TypeError as error:
        raise unreadable(folder.path / METADATA_FILE, error) from None


def _training_summary(metadata: Mapping[str, Any]) -> TrainingSummary:
    stopped = metadata.get("stopped", ())
    if not all(isinstance(field, str) for fields in stopped for field in fields):
        raise TypeError("stopped trainings are not texts")
    return TrainingSummary(
        tuple(StoppedTraining(*fields) for fields in stopped),
        tuple(TrainingStatus(*fields) for fields in metadata.get("training_statuses", ())),
    )


class StoredCellResults(Mapping[str, CellResult]):
    """The cell results of a run by cell id, read on access; a few stay in memory.

    Args:
        folder: the folder of all cells.
        cells: identities of the cells.
    """

    def __init__(self, folder: CheckedFolder, cells: Mapping[str, CellIdentity]) -> None:
        self._folder, self._cells = folder, dict(cells)
        self._cache: OrderedDict[str, CellResult] = OrderedDict()

    def __getitem__(self, cell: str) -> CellResult:
        if cell not in self._cache:
            if cell not in self._cells:
                raise KeyError(cell)
            self._cache[cell] = read_cell_result(self._folder.folder(cell), self._cells[cell])
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


def _read_trajectory(cell: StoredCell) -> Trajectory:
    """The trajectory of a cell, verified at once; an array is decoded on access."""
    metadata = cell.metadata["trajectory"]
    store = cell.open_trajectory() if metadata["rounds"] else None
    return Trajectory(
        rounds=tuple(metadata["rounds"]),
        latent=_LazyArrays(cell, store, metadata["latent"]),
        people=_LazyArrays(cell, store, metadata["people"]),
        dimensions={name: tuple(each) for name, each in metadata["dimensions"].items()},
        group_names=tuple(metadata["group_names"]),
        episode=int(metadata["episode"]),
    )


class _LazyArrays(Mapping[str, np.ndarray]):
    """Arrays of a trajectory, decoded on access."""

    def __init__(self, cell: StoredCell, store: Any, names: Sequence[str]) -> None:
        self._path, self._store, self._names = cell.path / TRAJECTORY, store, tuple(names)

    def __getitem__(self, name: str) -> np.ndarray:
        import zarr

        if name not in self._names:
            raise KeyError(name)
        try:
            array = zarr.open_array(self._store, path=array_name(name), mode="r", zarr_format=3)
            return np.asarray(array[...])
        except DECODING_ERRORS as error:
            raise unreadable(self._path / name, error) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _num_values(cell_result: CellResult) -> int:
    return sum(values.size for stage in cell_result.stages for values in stage.metrics.values())


def _make_metadata(cell_result: CellResult) -> dict[str, Any]:
    """The metadata of a cell's numbers, as JSON."""
    uncoupled = {"uncoupled_roles": list(cell_result.uncoupled_roles)}
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
                "analytic_values_of_draws": {
                    str(draw): {n: _to_json_number(value) for n, value in values.items()}
                    for draw, values in stage.analytic_values_of_draws.items()
                },
            }
            for stage in cell_result.stages
        ],
        "trajectory": {
            "rounds": list(cell_result.trajectory.rounds),
            "episode": cell_result.trajectory.episode,
            "latent": list(cell_result.trajectory.latent),
            "people": list(cell_result.trajectory.people),
            "dimensions": {n: list(d) for n, d in cell_result.trajectory.dimensions.items()},
            "group_names": list(cell_result.trajectory.group_names),
        },
        "value_names": list(cell_result.value_names),
        "drew_random_numbers": cell_result.drew_random_numbers,
        **(uncoupled if cell_result.uncoupled_roles else {}),
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


def _check_content(metadata: Mapping[str, Any], worlds: Worlds, expected: CellIdentity) -> None:
    """Check that the table and the stages hold what the identity says.

    Raises:
        ValueError: they do not.
    """
    rounds = {stage["name"]: to_ranges(stage["rounds"]) for stage in metadata["stages"]}
    replicates = to_ranges(worlds.replicate.unique().tolist())
    if (replicates, rounds) != (expected.replicates, expected.rounds):
        raise ValueError("it holds other replicates or rounds than cell.json says")
    draw = torch.zeros_like(worlds.replicate) if worlds.draw is None else worlds.draw
    if to_ranges(draw.unique().tolist()) != expected.draws or (draw.diff() < 0).any():
        raise ValueError("it holds other draws than cell.json says")


def _stage_results(
    metadata: Mapping[str, Any], values: np.ndarray, worlds: Worlds
) -> tuple[StageResult, ...]:
    """The stages of a cell from the column `value` of its table."""
    stages, start = [], 0
    for entry in metadata["stages"]:
        rounds, num_episodes = entry["rounds"], entry["num_episodes"]
        shape = (len(worlds), num_episodes, len(rounds))
        parts: dict[str, list[np.ndarray]] = {}
        labels: dict[str, list[str]] = {}  # of the components of vectors
        for name in entry["metrics"]:
            metric, component = split_component(name)
            stop = start + int(np.prod(shape))
            parts.setdefault(metric, []).append(values[start:stop].reshape(shape))
            if component is not None:
                labels.setdefault(metric, []).append(component)
            start = stop
        metrics = {
            name: torch.from_numpy(np.stack(arrays, -1) if name in labels else arrays[0].copy())
            for name, arrays in parts.items()
        }
        analytic_values, *of_draws = (
            {name: _from_json_number(value) for name, value in values.items()}
            for values in (entry["analytic_values"], *entry["analytic_values_of_draws"].values())
        )
        draws = map(int, entry["analytic_values_of_draws"])
        names = {n: each for n, each in labels.items() if each != component_labels((), len(each))}
        dataset = metric_dataset(metrics, worlds, num_episodes, rounds, names)
        for name, (low, high) in entry["bounds"].items():
            dataset[name].attrs["bounds"] = (float(low), float(high))
        by_draw = dict(zip(draws, of_draws, strict=True))
        stages.append(StageResult(entry["name"], dataset, analytic_values, by_draw))
    if start != len(values):
        raise ValueError(f"{len(values)} numbers, not {start}")
    return tuple(stages)
