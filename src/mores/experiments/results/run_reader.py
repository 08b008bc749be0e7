"""Reader of run folders: metrics as pandas or xarray, trajectories, verdicts, checkpoints."""

from __future__ import annotations

import json
import zlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from mores.core.arguments import check_path
from mores.core.errors import UserError, did_you_mean, unreadable
from mores.core.file_formats import check_run_format
from mores.experiments.results.cell_store import read_cell_result

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
    """A run on disk, finished or not. Reading changes no file and executes no code from it."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = check_path("folder", folder)
        check_run_format(self.folder)
        missing = [name for name in REQUIRED_FILES if not (self.folder / name).is_file()]
        if missing:
            message = f"{self.folder} is not a run folder: {missing[0]} is missing"
            raise UserError(message, code="unreadable", path=str(self.folder))

    def __repr__(self) -> str:
        return f"<run {self.folder}: {self.status['state']}, cells {', '.join(self.cells)}>"

    @cached_property
    def status(self) -> dict[str, Any]:
        """Progress: `state`, cells `done` and `to_do`; possibly outdated for a killed run."""
        content, path = self._read_json("status.json"), self.folder / "status.json"
        cells = content.get("done") if isinstance(content, dict) else None
        problem = ""
        if not isinstance(cells, list) or not all(isinstance(c, str) for c in cells):
            problem = "is not the status of a run"
        elif any(Path(cell).name != cell for cell in cells):
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

        Args:
            purpose: arm, draw (of the uncertain parameters) or design (of a sensitivity analysis).
        """
        if purpose not in PURPOSES:
            message = f"no purpose named {purpose!r}{did_you_mean(purpose, PURPOSES)}"
            raise UserError(message, code="unknown_name", path="purpose")
        _ = self.status  # raises for a damaged folder
        names = [c for c, info in self.cell_info.items() if info.get("purpose", "arm") == purpose]
        return [cell for cell in names if (self.folder / "cells" / cell).is_dir()]

    @cached_property
    def cell_info(self) -> dict[str, dict[str, Any]]:
        """For each cell its `arm`, its `point`, and its `purpose` if it is no arm's cell."""
        content = self._read_json("cells.json")
        valid = isinstance(content, dict) and all(
            Path(cell).name == cell
            and isinstance(info, dict)
            and isinstance(info.get("arm"), str)
            and isinstance(info.get("point"), dict)
            for cell, info in content.items()
        )
        if not valid:
            path = self.folder / "cells.json"
            message = f"{path} does not list the cells of a run"
            raise UserError(message, code="unreadable", path=str(path))
        return content

    @property
    def claims(self) -> list[dict[str, Any]]:
        """Claims, each with estimate, `low`, `high`, n, method, verdict and reason."""
        return self._read_json("claims.json")

    @property
    def sensitivity(self) -> dict[str, Any]:
        """Sensitivity indices of a result with intervals, by uncertain parameter."""
        return self._read_json("sensitivity.json")

    @property
    def provenance(self) -> dict[str, Any]:
        """Versions, source, machine, command, times."""
        return self._read_json("provenance.json")

    def dataframe(self, cell: str | None = None, purpose: str = "arm") -> pd.DataFrame:
        """Rows of cell, arm, replicate, world, stage, episode, round, metric, value.

        Each swept parameter is an additional column.

        Args:
            cell: this cell only; None: all cells with the purpose.
            purpose: see `cells_of`.
        """
        import pandas as pd

        frames = []
        for name in [self._require_cell(cell)] if cell is not None else self.cells_of(purpose):
            path = self.folder / "cells" / name / "metrics.parquet"
            try:
                frame = pd.read_parquet(path)
            except (OSError, ValueError) as error:  # base classes of pyarrow's errors
                raise unreadable(path, error) from None
            frame.insert(0, "cell", name)
            info = self.cell_info[name]
            frame.insert(1, "arm", info["arm"])
            for path, value in info["point"].items():
                frame[path] = str(value) if isinstance(value, (dict, list)) else value
            frames.append(frame)
        if not frames:
            message = f"{self.folder}: no complete cell with purpose {purpose!r}"
            raise UserError(message, code="missing", path=str(self.folder))
        return pd.concat(frames, ignore_index=True)

    def metrics(self, cell: str, stage: str | None = None) -> xr.Dataset:
        """Metrics of a cell, `[world, round]`, or `[world, episode, round]` for many episodes.

        A metric that is a vector has the further dimension `NAME_component`. The coordinates
        `replicate` and `world` identify the worlds.

        Args:
            cell: name of the cell.
            stage: name of the stage; None: the last.

        Raises:
            UserError: an unknown cell or stage, or an unreadable file.
        """
        stages = read_cell_result(self.folder / "cells" / self._require_cell(cell)).stages
        by_name = {each.name: each.metrics for each in stages}
        if stage is not None and stage not in by_name:
            message = f"{cell} has no stage {stage!r}{did_you_mean(stage, list(by_name))}"
            raise UserError(message, code="unknown_name", path="stage")
        data = stages[-1].metrics if stage is None else by_name[stage]
        return data.isel(episode=0, drop=True) if data.sizes["episode"] == 1 else data

    def trajectory(self, cell: str) -> xr.Dataset:
        """Sampled latent quantities of a cell over rounds, such as the people's values."""
        import xarray as xr

        path = self.folder / "cells" / self._require_cell(cell) / "trajectory.zarr"
        if not path.exists():
            message = f"{cell} has no trajectory: the scenario has sample_worlds: 0"
            raise UserError(message, code="missing", path="sample_worlds")
        try:
            # Format 2 may hold objects, which are pickles.
            return xr.open_zarr(path, consolidated=False, zarr_format=3)
        except Exception as error:  # the type depends on the file and the damage
            raise unreadable(path, f"{type(error).__name__}: {error}") from None

    def checkpoints(self, cell: str) -> list[tuple[str, str]]:
        """Stages and roles of a cell with a checkpoint."""
        folder = self.folder / "cells" / self._require_cell(cell) / "checkpoints"
        paths = sorted(folder.glob("*.json"))
        metadata = [self._read_json(str(path.relative_to(self.folder))) for path in paths]
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
        from safetensors.torch import load_file

        saved = self.checkpoints(cell)
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
        name = f"cells/{cell}/checkpoints/{stage}.{quote(role, safe='')}"
        metadata, path = self._read_json(f"{name}.json"), self.folder / f"{name}.safetensors"
        self._verify_checksums(cell, f"checkpoints/{stage}.{quote(role, safe='')}")
        try:
            tensors = load_file(path)
            shapes = {n: list(tensor.shape) for n, tensor in tensors.items()}
            if shapes != {n: info["shape"] for n, info in metadata["tensors"].items()}:
                raise ValueError("its tensors differ from those that its json lists")
        except Exception as error:  # safetensors raises subclasses of Exception only
            raise unreadable(path, error) from None
        return LoadedCheckpoint({n: tensors[n] for n in sorted(tensors)}, metadata)

    def _verify_checksums(self, cell: str, name: str) -> None:
        """Check size and checksum of a checkpoint's files against the cell's `cell.json`."""
        cell_metadata = self._read_json(f"cells/{cell}/cell.json")
        for file in (f"{name}.json", f"{name}.safetensors"):
            path = self.folder / "cells" / cell / file
            try:
                data = path.read_bytes()
                if [len(data), zlib.crc32(data)] != list(cell_metadata["files"][file]):
                    raise ValueError("its size or checksum differs from cell.json")
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise unreadable(path, error) from None

    def _require_cell(self, cell: str) -> str:
        known = [name for purpose in PURPOSES for name in self.cells_of(purpose)]
        if cell not in known:
            message = f"no cell named {cell!r} in {self.folder}{did_you_mean(cell, known)}"
            raise UserError(message, code="unknown_name", path="cell")
        return cell

    def _read_json(self, name: str) -> Any:
        path = self.folder / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            message = f"{self.folder} has no {name}: the run writes none, or has not written it yet"
            raise UserError(message, code="unreadable", path=str(path)) from None
        except (OSError, ValueError) as error:
            raise unreadable(path, error) from None


def open_run(folder: str | Path) -> Run:
    """Open the folder of a run that `mores run` wrote.

    Raises:
        UserError: not a run folder, or one of another format.
    """
    return Run(folder)
