"""The cell before its run was extended: its replicates are kept, and only the others simulated.

An extension moves the folder `cells/<cell>` to `cells/.<cell>.earlier`. The new folder has the
earlier replicates and the new ones, and is written as a whole; then the earlier one is removed. A
process that is killed at any moment leaves the earlier folder or the new one complete.

The earlier replicates are used if they are the first ones of the new cell, recorded in the same
rounds, undamaged, and simulated by the same code. Otherwise the cell is simulated from its start.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from mores.core.errors import UserError
from mores.experiments.results import atomic_files
from mores.experiments.results.cell_extension import append_replicates
from mores.experiments.results.cell_identity import CellIdentity, is_first_part
from mores.experiments.results.cell_result import CellResult
from mores.experiments.results.cell_store import read_cell_result
from mores.experiments.results.checked_files import CheckedFolder
from mores.experiments.results.policy_checkpoints import read_checkpoints
from mores.experiments.results.run_manifest import CELLS_FOLDER
from mores.experiments.results.stored_cell import DECODING_ERRORS, StoredCell, foreign_files
from mores.experiments.run.run_folder import CellTask, earlier_cell_path


class EarlierCell(NamedTuple):
    """The replicates of a cell that were simulated before its run was extended.

    Attributes:
        result: their results, with checkpoints; None if there are none that can be used.
        note: a line for the log; empty if the cell was not extended.
    """

    result: CellResult | None = None
    note: str = ""

    def missing_task(self, task: CellTask) -> CellTask:
        """The simulation of the replicates that are missing."""
        if self.result is None:
            return task
        present = set(self.result.replicate.tolist())
        missing = [number for number in task.replicates if number not in present]
        return dataclasses.replace(task, replicates=missing)

    def append(self, task: CellTask, added: CellResult) -> CellResult:
        """The results of all replicates of a cell."""
        if self.result is None:
            return added
        scenario, roles = task.scenario, task.cell.roles_by_stage
        return append_replicates(self.result, added, scenario.trajectory.worlds, roles)


def read_earlier_cell(task: CellTask) -> EarlierCell:
    """The earlier replicates of a cell, if they can be kept."""
    path = earlier_cell_path(task.folder)
    files = CheckedFolder(path.parent)
    try:
        if files.kind(path.name) != "folder":
            return EarlierCell()
        stored = StoredCell(files.folder(path.name))
        reason = _difference(stored, task.identity) or stored.find_damage()
        if reason:
            return EarlierCell(None, f"simulated from its start: {reason}")
        result = read_cell_result(files.folder(path.name))
        result = dataclasses.replace(result, checkpoints=read_checkpoints(stored))
    except (UserError, *DECODING_ERRORS) as error:
        return EarlierCell(None, f"simulated from its start: {error}")
    return EarlierCell(
        result, f"added to the {len(set(result.replicate.tolist()))} replicates before"
    )


def _difference(stored: StoredCell, expected: CellIdentity) -> str:
    """Why an earlier cell is not the first part of the expected one; empty if it is."""
    found = CellIdentity.from_json(stored.metadata.get("identity"))
    if stored.other_code:
        return f"the earlier replicates were simulated with {stored.other_code}"
    if (found.inputs, found.rounds) != (expected.inputs, expected.rounds):
        return "the extension changes its rounds"
    if not is_first_part(found.replicates, expected.replicates):
        return "the earlier replicates are not its first ones"
    return ""


def set_cell_aside(folder: Path, cell: str, expected: CellIdentity) -> None:
    """Move a cell that an extension changes aside; others, and damaged ones, stay.

    Args:
        folder: folder of the run.
        cell: name of the cell.
        expected: its identity in the extended run.

    Raises:
        UserError: a file of others would be removed.
        WriteError: it cannot be moved.
    """
    cells = CheckedFolder(folder, CELLS_FOLDER)
    if cells.kind(cell) != "folder":
        return
    try:
        found = CellIdentity.from_json(StoredCell(cells.folder(cell)).metadata.get("identity"))
    except (UserError, ValueError):
        return
    if found == expected:
        return
    earlier = earlier_cell_path(cells.path / cell)
    if cells.kind(earlier.name) == "folder":  # of an extension before
        if foreign := foreign_files(earlier):
            message = f"{foreign[0]} is not a file of mores: move it out of the cell"
            raise UserError(message, code="conflict", path=str(foreign[0]))
        atomic_files.remove_folder(earlier)
    atomic_files.move_folder(cells.path / cell, earlier)


def remove_earlier_cells(cells_folder: Path, complete: Collection[str]) -> None:
    """Remove the earlier folders of cells that are complete.

    Raises:
        WriteError: one cannot be removed.
    """
    for cell in complete:
        path = earlier_cell_path(cells_folder / cell)
        if path.is_dir() and not path.is_symlink() and not foreign_files(path):
            atomic_files.remove_folder(path)
