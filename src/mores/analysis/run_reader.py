"""Open a run's folder: its numbers as a pandas table or xarray arrays, its people, its verdicts."""

from __future__ import annotations

import json
import zlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from mores.core.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from torch import Tensor

REQUIRED_FILES = ("scenario.yaml", "resolved.yaml", "cells.json", "status.json")
PURPOSES = ("arm", "draw", "design")


class LoadedCheckpoint(NamedTuple):
    """What the learners of a role had learned at the end of a stage.

    Attributes:
        tensors: by name, each led by the policies, those of a replicate together.
        metadata: whose they are: `player` (kind and parameters), `replicates`, `seats`, `policies`,
            and of every tensor its shape.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, Any]


class Run:
    """A finished or stopped run on disk. Nothing in it is executed; nothing is changed."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        missing = [name for name in REQUIRED_FILES if not (self.folder / name).is_file()]
        if missing:
            message = f"{self.folder} is not a run's folder: it has no {missing[0]}"
            raise UserError(message, code="unreadable", path=str(self.folder))

    def __repr__(self) -> str:
        return f"<run {self.folder}: {self.status['state']}, cells {', '.join(self.cells)}>"

    @cached_property
    def status(self) -> dict[str, Any]:
        """How far the run came: `state`, cells `done` and `to_do`; of a killed run a while ago."""
        found, path = self._read_json("status.json"), self.folder / "status.json"
        cells = found.get("done") if isinstance(found, dict) else None
        if not isinstance(cells, list) or not all(isinstance(c, str) for c in cells):
            message = f"{path} is not a run's status"
            raise UserError(message, code="unreadable", path=str(path))
        if any(Path(cell).name != cell for cell in cells):
            message = f"{path} names cells outside the run's folder"
            raise UserError(message, code="unreadable", path=str(path))
        return found

    @property
    def cells(self) -> list[str]:
        """The arms' cells that are whole, at every point of the sweep."""
        return self.cells_of("arm")

    def cells_of(self, purpose: str) -> list[str]:
        """The cells that are whole and of a purpose.

        Args:
            purpose: arm; draw, at draws of uncertain parameters; design, at the points of a
                sensitivity analysis.
        """
        if purpose not in PURPOSES:
            message = f"no purpose {purpose!r}{did_you_mean(purpose, PURPOSES)}"
            raise UserError(message, code="unknown_name", path="purpose")
        _ = self.status  # a folder that is damaged is told so
        asked = [c for c, about in self.cell_info.items() if about.get("purpose", "arm") == purpose]
        return [cell for cell in asked if (self.folder / "cells" / cell).is_dir()]

    @cached_property
    def cell_info(self) -> dict[str, dict[str, Any]]:
        """The arm of each cell, and its point of the sweep, or its values of the parameters."""
        found = self._read_json("cells.json")
        whole = isinstance(found, dict) and all(
            Path(cell).name == cell
            and isinstance(about, dict)
            and isinstance(about.get("arm"), str)
            and isinstance(about.get("point"), dict)
            for cell, about in found.items()
        )
        if not whole:
            path = self.folder / "cells.json"
            message = f"{path} does not tell a run's cells"
            raise UserError(message, code="unreadable", path=str(path))
        return found

    @property
    def claims(self) -> list[dict[str, Any]]:
        """Every claim with its estimate, interval, n, method and verdict."""
        return self._read_json("claims.json")

    @property
    def sensitivity(self) -> dict[str, Any]:
        """Which uncertain parameters carry a result: indices with intervals, by parameter."""
        return self._read_json("sensitivity.json")

    @property
    def provenance(self) -> dict[str, Any]:
        """Versions, source, machine, command, times."""
        return self._read_json("provenance.json")

    def dataframe(self, cell: str | None = None, purpose: str = "arm") -> pd.DataFrame:
        """All numbers: cell, arm, replicate, world, stage, episode, round, measure, value a row.

        Over a sweep each swept path is a column, too.

        Args:
            cell: of this cell alone.
            purpose: else of all cells of a purpose: see `cells_of`.
        """
        import pandas as pd

        frames = []
        for name in [self._require_cell(cell)] if cell is not None else self.cells_of(purpose):
            path = self.folder / "cells" / name / "measures.parquet"
            try:
                frame = pd.read_parquet(path)
            except (OSError, ValueError) as error:  # pyarrow's own errors are of both kinds
                raise _unreadable(path, error) from None
            frame.insert(0, "cell", name)
            about = self.cell_info[name]
            frame.insert(1, "arm", about["arm"])
            for path, value in about["point"].items():
                frame[path] = str(value) if isinstance(value, (dict, list)) else value
            frames.append(frame)
        if not frames:
            there = "no cell is done yet" if purpose == "arm" else f"no cell is a {purpose}"
            raise UserError(f"{self.folder}: {there}", code="missing", path=str(self.folder))
        return pd.concat(frames, ignore_index=True)

    def metrics(self, cell: str, stage: str | None = None) -> xr.Dataset:
        """A cell's measures as arrays over (row, round); `replicate` and `world` tell the rows.

        With several episodes they are over (row, episode, round).

        Args:
            cell: which.
            stage: of the scenario; by default the last.

        Raises:
            UserError: there is no such cell or stage; a measure is called as the arrays' axes are.
        """
        import xarray as xr

        table = self.dataframe(cell)
        stages = list(dict.fromkeys(table["stage"]))
        if stage is not None and stage not in stages:
            message = f"{cell} has no stage {stage!r}{did_you_mean(stage, stages)}"
            raise UserError(message, code="unknown_name", path="stage")
        table = table[table["stage"] == (stages[-1] if stage is None else stage)]
        names, rounds, episodes = (
            list(dict.fromkeys(table[column])) for column in ("measure", "round", "episode")
        )
        if taken := [n for n in names if n in ("replicate", "world", "episode", "round")]:
            message = f"{taken[0]!r} is what arrays are laid out by: see `table` for it"
            raise UserError(message, code="conflict", path=taken[0])
        wide = table.pivot(
            index=["replicate", "world"], columns=["measure", "episode", "round"], values="value"
        )
        shape = (len(wide), len(episodes), len(rounds))
        inner = ("row", "episode", "round")
        arrays = {str(n): (inner, wide[n].to_numpy().reshape(shape)) for n in names}
        data = xr.Dataset(
            arrays,
            coords={
                "episode": episodes,
                "round": rounds,
                "replicate": ("row", wide.index.get_level_values("replicate").to_numpy()),
                "world": ("row", wide.index.get_level_values("world").to_numpy()),
            },
            attrs={"cell": cell},
        )
        return data.isel(episode=0, drop=True) if len(episodes) == 1 else data

    def trajectory(self, cell: str) -> xr.Dataset:
        """The sampled people (and what else is hidden from players) of a cell, over rounds."""
        import xarray as xr

        path = self.folder / "cells" / self._require_cell(cell) / "trajectory.zarr"
        if not path.exists():
            message = f"{cell} kept no trajectory: the scenario has sample: 0"
            raise UserError(message, code="missing", path="sample")
        try:
            return xr.open_zarr(path, consolidated=False)
        except Exception as error:  # of many kinds, by what is wrong with which file
            raise _unreadable(path, f"{type(error).__name__}: {error}") from None

    def checkpoints(self, cell: str) -> list[tuple[str, str]]:
        """The stages and roles of a cell at whose ends was kept what had been learned."""
        folder = self.folder / "cells" / self._require_cell(cell) / "checkpoints"
        found = sorted(folder.glob("*.json"))
        told = [self._read_json(str(path.relative_to(self.folder))) for path in found]
        try:
            ordered = sorted(told, key=lambda one: (one["number"], one["role"]))
            return [(str(one["stage"]), str(one["role"])) for one in ordered]
        except (KeyError, TypeError):
            message = f"{folder} does not tell what was learned"
            raise UserError(message, code="unreadable", path=str(folder)) from None

    def checkpoint(self, cell: str, stage: str, role: str) -> LoadedCheckpoint:
        """What the learners of a role had learned at the end of a stage.

        Args:
            cell: which; without a sweep it is called as its arm.
            stage: of the scenario.
            role: whose.

        Raises:
            UserError: there is none, or its files are not as they were written.
        """
        from safetensors.torch import load_file

        known = self.checkpoints(cell)
        stages = [at for at, _ in known]
        roles = [who for at, who in known if at == stage]
        if not known:
            raise UserError(f"nobody learned in {cell}", code="not_trained", path="cell")
        if not roles:
            message = f"nobody learned in a stage {stage!r} of {cell}{did_you_mean(stage, stages)}"
            raise UserError(message, code="unknown_name", path="stage")
        if role not in roles:
            message = f"{role!r} learned nothing in stage {stage}; who did: {', '.join(roles)}"
            raise UserError(message, code="unknown_name", path="role")
        name = f"cells/{cell}/checkpoints/{stage}.{quote(role, safe='')}"
        about, path = self._read_json(f"{name}.json"), self.folder / f"{name}.safetensors"
        self._verify_checksums(cell, f"checkpoints/{stage}.{quote(role, safe='')}")
        try:
            tensors = load_file(path)
            shapes = {n: list(tensor.shape) for n, tensor in tensors.items()}
            if shapes != {n: told["shape"] for n, told in about["tensors"].items()}:
                raise ValueError("it holds other tensors than its json says")
        except Exception as error:  # safetensors has its own, of no kind
            raise _unreadable(path, error) from None
        return LoadedCheckpoint({n: tensors[n] for n in sorted(tensors)}, about)

    def _verify_checksums(self, cell: str, name: str) -> None:
        """Refuse files of a cell that are not as its `cell.json` has them: size and checksum."""
        told = self._read_json(f"cells/{cell}/cell.json")
        for file in (f"{name}.json", f"{name}.safetensors"):
            path = self.folder / "cells" / cell / file
            try:
                data = path.read_bytes()
                if [len(data), zlib.crc32(data)] != list(told["files"][file]):
                    raise ValueError("it is not as it was written")
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise _unreadable(path, error) from None

    def _require_cell(self, cell: str) -> str:
        known = [name for purpose in PURPOSES for name in self.cells_of(purpose)]
        if cell not in known:
            message = f"no cell {cell!r} in {self.folder}{did_you_mean(cell, known)}"
            raise UserError(message, code="unknown_name", path="cell")
        return cell

    def _read_json(self, name: str) -> Any:
        path = self.folder / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            message = f"{self.folder} has no {name}: the run did not come so far"
            raise UserError(message, code="unreadable", path=str(path)) from None
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from None


def _unreadable(path: Path, why: object) -> UserError:
    return UserError(f"cannot read {path}: {why}", code="unreadable", path=str(path))


def open_run(folder: str | Path) -> Run:
    """Open the folder that `mores run` left.

    Raises:
        UserError: it is not one.
    """
    return Run(folder)
