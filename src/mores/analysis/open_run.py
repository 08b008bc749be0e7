"""Open a run's folder: its numbers as a pandas table or xarray arrays, its people, its verdicts."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mores.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

FORMAT = ("scenario.yaml", "resolved.yaml", "status.json")


class Run:
    """A finished or stopped run on disk. Nothing in it is executed; nothing is changed."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        missing = [name for name in FORMAT if not (self.folder / name).is_file()]
        if missing:
            raise UserError(f"{self.folder} is not a run's folder: it has no {missing[0]}")

    def __repr__(self) -> str:
        return f"<run {self.folder}: {self.status['state']}, cells {', '.join(self.cells)}>"

    @cached_property
    def status(self) -> dict[str, Any]:
        """How far the run came: `state`, cells `done` and `to_do`."""
        found = self._json("status.json")
        cells = found.get("done") if isinstance(found, dict) else None
        if not isinstance(cells, list) or not all(isinstance(c, str) for c in cells):
            raise UserError(f"{self.folder / 'status.json'} is not a run's status")
        if any(Path(cell).name != cell for cell in cells):
            raise UserError(f"{self.folder / 'status.json'} names cells outside the run's folder")
        return found

    @property
    def cells(self) -> list[str]:
        """The cells that are whole."""
        return list(self.status["done"])

    @cached_property
    def index(self) -> dict[str, dict[str, Any]]:
        """The arm of each cell, and its point of the sweep."""
        return self._json("cells.json")

    @property
    def claims(self) -> list[dict[str, Any]]:
        """Every claim with its estimate, interval, n, method and verdict."""
        return self._json("claims.json")

    @property
    def provenance(self) -> dict[str, Any]:
        """Versions, source, machine, command, times."""
        return self._json("provenance.json")

    def table(self, cell: str | None = None) -> pd.DataFrame:
        """All numbers: cell, arm, replicate, world, stage, episode, round, measure, value a row.

        Over a sweep each swept path is a column, too.
        """
        import pandas as pd

        frames = []
        for name in [self._known(cell)] if cell is not None else self.cells:
            path = self.folder / "cells" / name / "measures.parquet"
            try:
                frame = pd.read_parquet(path)
            except (OSError, ValueError) as error:  # pyarrow's own errors are of both kinds
                raise UserError(f"cannot read {path}: {error}") from None
            frame.insert(0, "cell", name)
            about = self.index[name]
            frame.insert(1, "arm", about["arm"])
            for path, value in about["point"].items():
                frame[path] = str(value) if isinstance(value, (dict, list)) else value
            frames.append(frame)
        if not frames:
            raise UserError(f"{self.folder}: no cell is done yet")
        return pd.concat(frames, ignore_index=True)

    def measures(self, cell: str) -> xr.Dataset:
        """A cell's measures as arrays over (world, round), with `replicate` as a coordinate."""
        import xarray as xr

        wide = self.table(cell).pivot(
            index=["replicate", "world"], columns=["measure", "round"], values="value"
        )
        names = list(dict.fromkeys(wide.columns.get_level_values("measure")))
        rounds = list(dict.fromkeys(wide.columns.get_level_values("round")))
        rows = wide.index
        return xr.Dataset(
            {str(name): (("row", "round"), np.asarray(wide[name][rounds])) for name in names},
            coords={
                "round": rounds,
                "replicate": ("row", rows.get_level_values("replicate").to_numpy()),
                "world": ("row", rows.get_level_values("world").to_numpy()),
            },
            attrs={"cell": cell},
        )

    def trajectory(self, cell: str) -> xr.Dataset:
        """The sampled people (and what else is hidden from players) of a cell, over rounds."""
        import xarray as xr

        path = self.folder / "cells" / self._known(cell) / "trajectory.zarr"
        if not path.exists():
            raise UserError(f"{cell} kept no trajectory: the scenario has sample: 0")
        return xr.open_zarr(path, consolidated=False)

    def _known(self, cell: str) -> str:
        if cell not in self.cells:
            raise UserError(f"no cell {cell!r} in {self.folder}{did_you_mean(cell, self.cells)}")
        return cell

    def _json(self, name: str) -> Any:
        path = self.folder / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{self.folder} has no {name}: the run did not come so far") from None
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read {path}: {error}") from None


def open_run(folder: str | Path) -> Run:
    """Open the folder that `mores run` left.

    Raises:
        UserError: it is not one.
    """
    return Run(folder)
