"""Reader of run folders: metrics as pandas or xarray, trajectories, verdicts, checkpoints."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from mores.core.arguments import check_path
from mores.core.errors import UserError, did_you_mean, printable, unreadable
from mores.experiments.results.cell_identity import CellIdentity, from_ranges
from mores.experiments.results.cell_store import read_cell_result
from mores.experiments.results.checked_files import (
    MAX_JSON_BYTES,
    CheckedFolder,
    is_plain_name,
    missing,
)
from mores.experiments.results.run_manifest import (
    CELLS_FILE,
    CELLS_FOLDER,
    EXTENSION,
    RunManifest,
    check_run_format,
    digest_of,
    read_manifest,
)
from mores.experiments.results.stored_cell import DECODING_ERRORS, StoredCell
from mores.experiments.results.trajectory import labelled_trajectory

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from torch import Tensor

REQUIRED_FILES = ("scenario.yaml", "resolved.yaml", "cells.json", "status.json")
PURPOSES = ("arm", "draw", "design")


class LoadedCheckpoint(NamedTuple):
    """Parameters of a role's learner at the end of a stage.

    Attributes:
        tensors: by name, `[model, ...]`, ordered by replicate.
        metadata: `policy` (kind, parameters), `replicates`, `num_agents`, `num_models`, `tensors`
            (shape and dtype by name).
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, Any]


class Run:
    """A run on disk, finished or not. Reading changes no file and executes no code from it.

    Every file is verified by its checksum, and every cell by what its run lists. A cell that other
    code simulated causes one warning.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = check_path("folder", folder)
        self._files = CheckedFolder(self.folder)
        check_run_format(self._files)
        if self._files.kind(EXTENSION):
            message = (
                f"{self.folder}: its extension was interrupted; to complete it: "
                f"mores resume {self.folder}"
            )
            raise UserError(message, code="unreadable", path=str(self.folder / EXTENSION))
        absent = [name for name in REQUIRED_FILES if self._files.kind(name) != "file"]
        if absent:
            message = f"{self.folder} is not a run folder: {absent[0]} is missing"
            raise UserError(message, code="unreadable", path=str(self.folder))
        self._warned = self._warned_of_missing_cells = False

    def __repr__(self) -> str:
        return f"<run {self.folder}: {self.status['state']}, cells {', '.join(self.cells)}>"

    @cached_property
    def manifest(self) -> RunManifest:
        """Options of the command line, and versions: `run.json`."""
        return read_manifest(self.folder)

    @cached_property
    def status(self) -> dict[str, Any]:
        """Progress: `state`, cells `done` and `to_do`; possibly outdated for a killed run."""
        content, path = self._files.read_sealed("status.json"), self.folder / "status.json"
        cells = content.get("done")
        problem = ""
        if not isinstance(cells, list) or not isinstance(content.get("state"), str):
            problem = "is not the status of a run"
        elif not all(map(is_plain_name, cells)):
            problem = "names cells outside the run folder"
        if problem:
            raise UserError(f"{path} {problem}", code="unreadable", path=str(path))
        return content

    @property
    def cells(self) -> list[str]:
        """Complete cells of the arms, at every point of the sweep."""
        return self.cells_of("arm")

    def cells_of(self, purpose: str) -> list[str]:
        """Complete cells with a purpose.

        A finished run whose cells are missing causes one warning.

        Args:
            purpose: arm, draw (of the uncertain parameters) or design (of a sensitivity analysis).
        """
        if purpose not in PURPOSES:
            message = f"no purpose named {purpose!r}{did_you_mean(purpose, PURPOSES)}"
            raise UserError(message, code="unknown_name", path="purpose")
        _ = self.status  # raises for a damaged folder
        names = [c for c, info in self.cell_info.items() if info.get("purpose", "arm") == purpose]
        complete = [cell for cell in names if self._cell_folder.kind(cell)]
        if len(complete) < len(names) and self.status["state"] == "done":
            self._warn_of_missing_cells(sorted({*names} - {*complete}))
        return complete

    def _warn_of_missing_cells(self, cells: list[str]) -> None:
        if not self._warned_of_missing_cells:
            self._warned_of_missing_cells = True
            text = printable(", ".join(cells), 200)
            message = f"{self.folder}: cells of a finished run are missing: {text}"
            warnings.warn(f"{message}; mores resume simulates them again", stacklevel=4)

    @cached_property
    def cell_info(self) -> dict[str, dict[str, Any]]:
        """For each cell its `arm`, its `point`, and if it is no arm's cell its `purpose`.

        Such a cell holds `draws` of uncertain parameters: ranges of their numbers, and `points`,
        the values of the parameters at each of them.
        """
        path = self.folder / CELLS_FILE
        if digest_of(self._files.read(CELLS_FILE, MAX_JSON_BYTES)) != self.manifest.cells_digest:
            raise unreadable(path, "it was changed: run.json has another digest of it")
        content = self._files.read_json(CELLS_FILE)
        valid = isinstance(content, dict) and all(
            is_plain_name(cell)
            and isinstance(info, dict)
            and isinstance(info.get("arm"), str)
            and isinstance(info.get("point"), dict)
            and _are_points(info.get("points", []))
            for cell, info in content.items()
        )
        if not valid:
            message = f"{path} does not list the cells of a run"
            raise UserError(message, code="unreadable", path=str(path))
        return content

    @property
    def claims(self) -> list[dict[str, Any]]:
        """Claims, each with estimate, `low`, `high`, n, method, verdict and reason."""
        self._require_file("claims.json")
        final = self.status.get("files")
        if isinstance(final, dict) and "claims.json" in final:
            self._files.read_verified("claims.json", final["claims.json"])
        claims = self._files.read_json("claims.json")
        if not isinstance(claims, list) or not all(isinstance(entry, dict) for entry in claims):
            raise unreadable(self.folder / "claims.json", "it does not list the claims of a run")
        return claims

    @property
    def sensitivity(self) -> dict[str, Any]:
        """Sensitivity indices of a result with intervals, by uncertain parameter."""
        self._require_file("sensitivity.json")
        return self._files.read_sealed("sensitivity.json")

    @property
    def provenance(self) -> dict[str, Any]:
        """Versions, source, machine, command, times."""
        self._require_file("provenance.json")
        content = self._files.read_sealed("provenance.json")
        if content.get("resolved_hash") != self.manifest.resolved_hash:
            raise unreadable(self.folder / "provenance.json", "it belongs to another run")
        return content

    def dataframe(self, cell: str | None = None, purpose: str = "arm") -> pd.DataFrame:
        """Rows of cell, arm, replicate, draw, world, stage, episode, round, metric, value.

        Each swept or uncertain parameter is an additional column.

        Args:
            cell: this cell only; None: all cells with the purpose.
            purpose: see `cells_of`.
        """
        import pandas as pd

        frames = []
        for name in [self._require_cell(cell)] if cell is not None else self.cells_of(purpose):
            cell_files = self._open_cell(name)
            try:
                table = cell_files.open_metrics().read()
                if any(column.null_count for column in table.columns):
                    raise ValueError("it lacks numbers")
                frame = table.to_pandas()
            except DECODING_ERRORS as error:
                raise unreadable(cell_files.path / "metrics.parquet", error) from None
            frame.insert(0, "cell", name)
            info = self.cell_info[name]
            frame.insert(1, "arm", info["arm"])
            for path, value in info["point"].items():
                frame[path] = str(value) if isinstance(value, (dict, list)) else value
            for path, values in self._parameters_of_draws(name).items():
                frame[path] = frame["draw"].map(values)
            frames.append(frame)
        if not frames:
            message = f"{self.folder}: no complete cell with purpose {purpose!r}"
            raise UserError(message, code="missing", path=str(self.folder))
        return pd.concat(frames, ignore_index=True)

    def metrics(self, cell: str, stage: str | None = None) -> xr.Dataset:
        """Metrics of a cell, `[world, round]`, or `[world, episode, round]` for many episodes.

        A metric that is a vector has the further dimension `NAME_component`. The coordinates
        `replicate` and `world` identify the worlds. `world` counts from 0 within each replicate:
        with one world per replicate it is 0 everywhere, and `sel(world=0)` selects all. Replicate
        3 is `data.isel(world=data.replicate == 3)`.

        A cell of draws of uncertain parameters has the dimension `draw` first: `[draw, world,
        round]`. Its coordinates are the numbers of the draws, and the values of each parameter.

        Args:
            cell: name of the cell.
            stage: name of the stage; None: the last.

        Raises:
            UserError: an unknown cell or stage, or an unreadable file.
        """
        folder = self._open_cell(self._require_cell(cell)).folder
        stages = read_cell_result(folder, self._identity(cell)).stages
        by_name = {each.name: each.metrics for each in stages}
        if stage is not None and stage not in by_name:
            message = f"{cell} has no stage {stage!r}{did_you_mean(stage, list(by_name))}"
            raise UserError(message, code="unknown_name", path="stage")
        data = stages[-1].metrics if stage is None else by_name[stage]
        data = data.isel(episode=0, drop=True) if data.sizes["episode"] == 1 else data
        if "points" not in self.cell_info[cell]:
            return data.drop_vars("draw")
        return _by_draw(data, self._parameters_of_draws(cell))

    def _parameters_of_draws(self, cell: str) -> dict[str, dict[int, Any]]:
        """The values of each uncertain parameter in a cell, by number of the draw."""
        info, draws = self.cell_info[cell], list(from_ranges(self._identity(cell).draws))
        points = info.get("points", [])
        if points and len(points) != len(draws):
            raise unreadable(self.folder / CELLS_FILE, "it has not one point for each draw")
        values: dict[str, dict[int, Any]] = {}
        for number, point in zip(draws if points else (), points, strict=True):
            for path, value in point.items():
                values.setdefault(path, {})[number] = value
        return values

    def trajectory(self, cell: str) -> xr.Dataset:
        """People and other latent quantities of a few worlds of a cell, over rounds.

        Dimensions `world`, `round`, `person`, `value` (with names, if values have names) and
        others. Coordinates: `replicate` and `world` of each world, `stage`, `episode`, `round`,
        each trait of each person, and `groups`, by name if groups have names. They have the
        dimension `round` where people were replaced. A world whose episode has ended keeps its
        last state.
        """
        import xarray as xr

        files = self._open_cell(self._require_cell(cell))
        if "trajectory.zarr/zarr.json" not in files.files:
            message = f"{cell} has no trajectory: it is no arm, has no latent quantities, or the "
            message += "scenario has trajectory: {worlds: 0}"
            raise UserError(message, code="missing", path="trajectory")
        try:
            store = files.open_trajectory()
            # Without chunks: dask would pickle the store and start threads.
            data = xr.open_zarr(store, chunks=None, consolidated=False, zarr_format=3).load()
            return labelled_trajectory(data, files.metadata)
        except DECODING_ERRORS as error:
            raise unreadable(files.path / "trajectory.zarr", error) from None

    def checkpoints(self, cell: str) -> list[tuple[str, str]]:
        """Stages and roles of a cell with a checkpoint."""
        return self._saved_checkpoints(self._open_cell(self._require_cell(cell)))

    def _saved_checkpoints(self, files: StoredCell) -> list[tuple[str, str]]:
        folder = files.path / "checkpoints"
        names = [name for name in files.files if re.fullmatch(r"checkpoints/.*\.json", name)]
        metadata = [files.read_json(name) for name in sorted(names)]
        try:
            ordered = sorted(metadata, key=lambda entry: (entry["stage_index"], entry["role"]))
            return [(str(entry["stage"]), str(entry["role"])) for entry in ordered]
        except (KeyError, TypeError):
            message = f"{folder} does not list the checkpoints of a cell"
            raise UserError(message, code="unreadable", path=str(folder)) from None

    def checkpoint(self, cell: str, stage: str, role: str) -> LoadedCheckpoint:
        """Parameters of a role's learner at the end of a stage.

        Args:
            cell: name of the cell; without a sweep, the name of its arm.
            stage: name of the stage.
            role: name of the role.

        Raises:
            UserError: no such checkpoint, or its files were changed.
        """
        files = self._open_cell(self._require_cell(cell))
        saved = self._saved_checkpoints(files)
        stages = [saved_stage for saved_stage, _ in saved]
        roles = [saved_role for saved_stage, saved_role in saved if saved_stage == stage]
        if not saved:
            raise UserError(f"{cell} has no checkpoint", code="not_trained", path="cell")
        if not roles:
            message = f"{cell} has no checkpoint of stage {stage!r}{did_you_mean(stage, stages)}"
            raise UserError(message, code="unknown_name", path="stage")
        if role not in roles:
            message = f"{role!r} has no checkpoint of stage {stage}; known: {', '.join(roles)}"
            raise UserError(message, code="unknown_name", path="role")
        name = f"checkpoints/{stage}.{quote(role, safe='')}"
        metadata = files.read_json(f"{name}.json")
        return LoadedCheckpoint(files.read_tensors(f"{name}.safetensors"), metadata)

    @property
    def _cell_folder(self) -> CheckedFolder:
        return self._files.folder(CELLS_FOLDER)

    def _identity(self, cell: str) -> CellIdentity:
        try:
            return CellIdentity.from_json(self.cell_info[cell])
        except ValueError as error:
            raise unreadable(self.folder / CELLS_FILE, error) from None

    def _open_cell(self, cell: str) -> StoredCell:
        """A cell of this run, with a warning if other code simulated it."""
        stored = StoredCell(self._cell_folder.folder(cell), self._identity(cell))
        if not self._warned and (difference := stored.other_code):
            self._warned = True
            warnings.warn(f"{stored.path} was simulated with {difference}", stacklevel=3)
        return stored

    def _require_cell(self, cell: str) -> str:
        known = [name for purpose in PURPOSES for name in self.cells_of(purpose)]
        if cell not in known:
            message = f"no cell named {cell!r} in {self.folder}{did_you_mean(cell, known)}"
            if cell in {info["arm"] for info in self.cell_info.values()}:
                message = f"{self.folder}: the arm {cell} has a cell at every point of the sweep"
                message += f"{did_you_mean(cell, known)}; dataframe() reads all of them"
            raise UserError(message, code="unknown_name", path="cell")
        return cell

    def _require_file(self, name: str) -> None:
        if not self._files.kind(name):
            raise missing(self._files, name)


def _are_points(content: Any) -> bool:
    """Whether JSON lists values by path."""
    return isinstance(content, list) and all(isinstance(point, dict) for point in content)


def _by_draw(data: xr.Dataset, parameters: Mapping[str, Mapping[int, Any]]) -> xr.Dataset:
    """A dataset with a dimension for the draws: worlds are in order of the draws, equally many."""
    import xarray as xr

    draws = list(dict.fromkeys(data["draw"].values.tolist()))
    parts = [data.isel(world=data["draw"] == number).drop_vars("draw") for number in draws]
    whole = xr.concat(parts, "draw", coords="different", compat="equals", join="override")
    values: dict[str, Any] = {
        path: ("draw", [by_draw[number] for number in draws])
        for path, by_draw in parameters.items()
    }
    return whole.assign_coords(draw=draws, **values)


def open_run(folder: str | Path) -> Run:
    """Open the folder of a run that `mores run` wrote.

    Raises:
        UserError: not a run folder, or one of another format.
    """
    return Run(folder)
