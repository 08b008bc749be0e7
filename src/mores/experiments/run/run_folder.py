"""The folder of a run: its plan, its creation, and its lock.

The folder holds everything that defines the experiment: the scenario as given, and in `run.json`
the options of the command line. `run.json` is written last: without it the run has not started.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mores.core.errors import UserError, printable, unreadable
from mores.core.file_formats import RUN_FORMAT, mores_version
from mores.experiments.results import atomic_files
from mores.experiments.results.cell_identity import CellIdentity
from mores.experiments.results.cell_store import StoredCellResults
from mores.experiments.results.checked_files import CheckedFolder
from mores.experiments.results.provenance import short_hash, utc_timestamp
from mores.experiments.results.run_manifest import (
    CELLS_FILE,
    CELLS_FOLDER,
    EXTENSION,
    MANIFEST,
    EarlierLook,
    PluginFile,
    RunManifest,
    digest_of,
)
from mores.experiments.results.stored_cell import foreign_files
from mores.experiments.scenario.cell import Cell
from mores.experiments.scenario.loading import LoadedScenario
from mores.experiments.scenario.specification import Scenario

RUN_FILES = {  # that a run writes into its folder
    MANIFEST, CELLS_FILE, "scenario.yaml", "resolved.yaml", "provenance.json", "status.json",
    "claims.json", "sensitivity.json", "report.html",
}  # fmt: skip
# Of a run that is being extended, in the order in which they replace the earlier ones.
NEW_FILES = ("scenario.yaml", "resolved.yaml", "provenance.json", CELLS_FILE, MANIFEST)
EXTENDED = "extends.json"  # digest of the `run.json` that is replaced
FIGURES = "figures"
LOGS = "logs"  # folder of trackers
LOCK_HELD = {errno.EAGAIN, errno.EACCES}


@dataclasses.dataclass(frozen=True)
class CellTask:
    """A cell to simulate into a folder, and the Python files of the user that it may need.

    `trackers`: kinds and parameters of trackers, and `logs`: folder of their logs.
    """

    folder: Path
    cell: Cell
    scenario: Scenario
    replicates: Sequence[int]
    plugin_files: tuple[str, ...] = ()
    trackers: tuple[Mapping[str, Any], ...] = ()
    logs: Path = Path(LOGS)

    @property
    def identity(self) -> CellIdentity:
        """What the cell belongs to."""
        return CellIdentity.of(self.cell, self.scenario, self.replicates)


@dataclasses.dataclass(frozen=True)
class RunPlan:
    """All cells of a run, the replicates of its arms, and the user's files that it needs.

    `earlier_looks` are the verdicts before the run was extended.
    `trackers`: see `CellTask`.
    """

    folder: Path
    scenario: Scenario
    cells: Sequence[Cell]
    replicates: Sequence[int]
    plugin_files: tuple[str, ...] = ()
    earlier_looks: Sequence[EarlierLook] = ()
    trackers: tuple[Mapping[str, Any], ...] = ()

    def cost(self, cell: Cell) -> float:
        """Cost of a cell, in rounds of one world."""
        rounds = sum(s.episodes * (s.rounds or cell.rounds) for s in cell.stages)
        return float(rounds * len(cell.worlds(self.scenario, self.replicates)))

    def make_task(self, cell: Cell) -> CellTask:
        """The simulation of a cell."""
        folder = self.folder / CELLS_FOLDER / cell.id
        plugins, logs = self.plugin_files, self.folder / LOGS
        return CellTask(folder, cell, self.scenario, self.replicates, plugins, self.trackers, logs)

    def identities(self) -> dict[str, CellIdentity]:
        """What each cell belongs to."""
        return {cell.id: self.make_task(cell).identity for cell in self.cells}

    def cells_text(self) -> str:
        """Content of `cells.json`."""
        entries = {
            cell.id: {**_cell_entry(cell), **self.make_task(cell).identity.to_json()}
            for cell in self.cells
        }
        return json.dumps(entries, indent=1, ensure_ascii=False) + "\n"

    def cell_results(self) -> StoredCellResults:
        """The results on disk."""
        folder = CheckedFolder(self.folder, CELLS_FOLDER)
        return StoredCellResults(folder, self.identities())

    def remove_partial_files(self) -> None:
        """Remove temporary files that killed processes left, of names that a run writes.

        Raises:
            WriteError: a file cannot be removed.
        """
        cells = {cell.id for cell in self.cells}
        checkpoints = {checkpoint_path(Path(cell)).name for cell in cells}
        folders = cells | {earlier_cell_path(Path(cell)).name for cell in cells}

        def is_own_in_cells(name: str, path: Path) -> bool:
            if name in folders:
                return path.is_dir() and not foreign_files(path)
            return name in checkpoints and path.is_file()

        def is_own(name: str, path: Path) -> bool:
            if name == EXTENSION and path.is_dir():
                names = [each.name.removeprefix(".") for each in path.iterdir()]
                return all(name.startswith((*NEW_FILES, EXTENDED)) for name in names)
            return path.is_file() and (name in RUN_FILES or path.parent.name == FIGURES)

        atomic_files.remove_partial_files(self.folder, is_own)
        atomic_files.remove_partial_files(self.folder / FIGURES, is_own)
        atomic_files.remove_partial_files(self.folder / CELLS_FOLDER, is_own_in_cells)


@contextlib.contextmanager
def lock_run(folder: Path) -> Iterator[None]:
    """Lock a run's folder; the system releases the lock when this process ends.

    Raises:
        UserError: another process holds the lock.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:  # some network file systems have no locks: continue without one
            if error.errno in LOCK_HELD:
                message = f"{folder}: {_lock_owner(folder)} is running it"
                raise UserError(message, code="busy", path=str(folder)) from None
        yield
    finally:
        os.close(descriptor)


def create_run_folder(scenario: Scenario, resolved_text: str, out: Path | None) -> Path:
    """Create the folder of a run: `out`, or a new one under `runs/`.

    Raises:
        UserError: the folder is not empty, or cannot be created.
    """
    first = Path("runs") / scenario.name / f"{utc_timestamp()}-{short_hash(resolved_text)}"
    later = (first.with_name(f"{first.name}-{number}") for number in itertools.count(1))
    for folder in [out] if out is not None else itertools.chain([first], later):
        try:
            folder.mkdir(parents=True, exist_ok=out is not None)
            if any(folder.iterdir()):
                hint = "a run needs a new or empty folder"
                if (folder / MANIFEST).is_file():
                    hint = f"it holds a run; to finish it: mores resume {folder}"
                message = f"{folder} is not empty: {hint}"
                raise UserError(message, code="not_writable", path=str(folder))
            (folder / CELLS_FOLDER).mkdir()  # fails if another run has started here
            return folder
        except OSError as error:
            if out is None and isinstance(error, FileExistsError):
                continue  # the same scenario was started in the same second
            message = f"cannot write to {folder}: {error.strerror or error}"
            raise UserError(message, code="not_writable", path=str(folder)) from None
    raise AssertionError


def write_run_inputs(
    run_plan: RunPlan,
    loaded: LoadedScenario,
    resolved_text: str,
    only_replicates: Sequence[int] | None,
    provenance: dict[str, Any],
) -> None:
    """Write the scenario, the manifest and the provenance of a run."""
    folder, cells_text = run_plan.folder, run_plan.cells_text()
    manifest = RunManifest(
        format=RUN_FORMAT,
        mores_version=mores_version(),
        scenario=loaded.scenario.name,
        scenario_file=str(loaded.path.absolute()),
        working_directory=os.getcwd(),
        overrides=list(loaded.overrides),
        only_replicates=None if only_replicates is None else sorted(set(only_replicates)),
        plugin_files=[
            PluginFile(path=file, digest=file_digest(Path(file))) for file in run_plan.plugin_files
        ],
        resolved_hash=short_hash(resolved_text),
        cells_digest=digest_of(cells_text.encode()),
        earlier_looks=[],
    )
    atomic_files.write_text(folder / "scenario.yaml", loaded.text)
    atomic_files.write_text(folder / "resolved.yaml", resolved_text)
    atomic_files.write_sealed_json(folder / "provenance.json", provenance)
    atomic_files.write_text(folder / CELLS_FILE, cells_text)
    atomic_files.write_sealed_json(folder / MANIFEST, manifest.model_dump(mode="json"))


def checkpoint_path(cell_folder: Path) -> Path:
    """The checkpoint of a cell that is being simulated, beside its folder."""
    return cell_folder.with_name(f".{cell_folder.name}.checkpoint")


def earlier_cell_path(cell_folder: Path) -> Path:
    """The cell before its run was extended, beside its folder, until the new one is complete."""
    return cell_folder.with_name(f".{cell_folder.name}.earlier")


def file_digest(file: Path) -> str:
    """Digest of a file's content.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        return digest_of(file.read_bytes())
    except OSError as error:
        raise unreadable(file, error.strerror) from None


def _cell_entry(cell: Cell) -> dict[str, Any]:
    entry = {"arm": cell.arm, "point": dict(cell.point)}
    if cell.purpose != "arm":
        points = [dict(draw.point) for draw in cell.separate_draws]  # in the order of `draws`
        entry |= {"purpose": cell.purpose, "points": points}
    return entry


def _lock_owner(folder: Path) -> str:
    try:
        pid = CheckedFolder(folder).read_json("status.json")["pid"]
    except (UserError, KeyError, TypeError):
        return "another process"
    return f"another process ({printable(pid, 20)})"
