"""A cell that is simulated on another machine: what is sent there, and what is sent back.

If that machine has the run's folder (`shared_folder`), the cell is written there, with checkpoints.
Otherwise it is simulated in a temporary folder of that machine, and its files are sent back; a
checkpoint and earlier replicates of the cell are sent with it.

Tasks are pickled, files of `--load` are sent as bytes. The other machine checks first that it has
the same versions and source code.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mores.core.errors import UserError, describe_exception
from mores.experiments.launchers.file_transfer import FileContents, read_files, write_files
from mores.experiments.results import atomic_files
from mores.experiments.results.checked_files import CheckedFolder
from mores.experiments.results.provenance import code_info, describe_other_code, processor
from mores.experiments.results.run_manifest import CELLS_FOLDER, MANIFEST
from mores.experiments.run.cell_execution import CellOutcome, simulate_cell
from mores.experiments.run.checkpoint import remove_checkpoints
from mores.experiments.run.earlier_cell import remove_earlier_cells
from mores.experiments.run.run_folder import (
    CellTask,
    checkpoint_path,
    earlier_cell_path,
    file_digest,
)
from mores.experiments.run.worker_pool import portable_outcome


@dataclasses.dataclass(frozen=True)
class CellRequest:
    """Request to simulate one cell on another machine.

    Attributes:
        name: name of the cell.
        task: the pickled `CellTask`; it is not read by other versions of mores.
        code: versions and digest of the source of this process.
        plugins: paths and contents of the user's Python files.
        working_directory: of this process; the files that a scenario names are relative to it.
        run_digest: digest of the run's `run.json`; empty: the run's folder is not shared.
        files: checkpoint and earlier replicates of the cell, if the folder is not shared.
    """

    name: str
    task: bytes
    code: Mapping[str, Any]
    plugins: tuple[tuple[str, bytes], ...]
    working_directory: str
    run_digest: str
    files: FileContents

    @classmethod
    def of(cls, task: CellTask, shared_folder: bool) -> CellRequest:
        """The request for the cell of a task.

        Raises:
            UserError: a file cannot be read; or the task has trackers, whose logs are in the run's
                folder, which is not shared.
        """
        folder = task.folder.absolute()
        if task.trackers and not shared_folder:
            raise UserError(
                "track: logs are written into the run's folder, which other machines need for "
                "that: add --launcher-option shared_folder=true if they have it",
                code="unsupported",
                path="track",
            )
        sent = dataclasses.replace(task, folder=folder, logs=task.logs.absolute())
        return cls(
            name=task.cell.id,
            task=pickle.dumps(sent),
            code=code_info(),
            plugins=tuple((path, Path(path).read_bytes()) for path in task.plugin_files),
            working_directory=os.getcwd(),
            run_digest=file_digest(folder.parents[1] / MANIFEST) if shared_folder else "",
            files={} if shared_folder else _unfinished_files(folder),
        )


@dataclasses.dataclass(frozen=True)
class RemoteOutcome:
    """Reply of the machine: outcome of the cell and its files.

    Attributes:
        outcome: outcome of the cell.
        files: files of the cell, if the run's folder is not shared.
    """

    outcome: CellOutcome
    files: FileContents = dataclasses.field(default_factory=dict)


def simulate_remote_cell(request: CellRequest) -> RemoteOutcome:
    """Simulate a cell on this machine.

    Exceptions are returned in `outcome.error`, not raised.

    The process should have one thread from its start (`worker_pool.THREAD_COUNTS`).
    """
    torch.set_num_threads(1)
    host = socket.gethostname()
    try:
        difference = describe_other_code(request.code)
        if difference:
            message = f"{host} has other code than the machine that runs mores: {difference}"
            raise UserError(message, code="incompatible", path="launcher")
        with contextlib.ExitStack() as stack:
            if Path(request.working_directory).is_dir():
                stack.enter_context(contextlib.chdir(request.working_directory))
            temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mores-")))
            task: CellTask = pickle.loads(request.task)
            task = dataclasses.replace(task, plugin_files=_plugins_here(request.plugins, temporary))
            remote_outcome = _simulate(request, task, temporary, host)
    except Exception as error:
        remote_outcome = RemoteOutcome(CellOutcome(request.name, error))
    outcome = portable_outcome(remote_outcome.outcome)
    notes = [*outcome.notes, f"simulated on {host}, {processor()}"]
    return dataclasses.replace(remote_outcome, outcome=dataclasses.replace(outcome, notes=notes))


def _simulate(request: CellRequest, task: CellTask, temporary: Path, host: str) -> RemoteOutcome:
    """Simulate a cell in the run's folder, or in a temporary one whose files are returned."""
    if request.run_digest:
        manifest = task.folder.parents[1] / MANIFEST
        if not manifest.is_file() or file_digest(manifest) != request.run_digest:
            raise UserError(
                f"{host} does not have the run's folder {manifest.parent}: it must be on a disk "
                "that all machines share",
                code="unreadable",
                path=str(manifest.parent),
            )
        return RemoteOutcome(simulate_cell(task, lambda _: None))
    cells = temporary / CELLS_FOLDER
    cells.mkdir()
    write_files(cells, request.files)
    outcome = simulate_cell(dataclasses.replace(task, folder=cells / request.name), lambda _: None)
    if isinstance(outcome.error, atomic_files.WriteError):  # of this machine's disk, not the run's
        message = f"on {host}: {outcome.error}"
        error = UserError(message, code=outcome.error.code, path=outcome.error.path)
        outcome = dataclasses.replace(outcome, error=error)
    written = not outcome.error
    return RemoteOutcome(outcome, read_files(CheckedFolder(cells, request.name)) if written else {})


def write_remote_cell(task: CellTask, remote_outcome: RemoteOutcome) -> CellOutcome:
    """Write the files of a cell that was sent back.

    Returns the outcome, with the error if files cannot be written.
    """
    outcome = remote_outcome.outcome
    try:
        if remote_outcome.files:
            with atomic_files.atomic_folder(task.folder) as folder:
                write_files(folder, remote_outcome.files)
            remove_checkpoints(task.folder.parent, [task.cell.id])
            remove_earlier_cells(task.folder.parent, [task.cell.id])
    except Exception as error:
        return dataclasses.replace(outcome, error=error)
    return outcome


def remote_failure(task: CellTask, error: Exception) -> CellOutcome:
    """Outcome of a cell whose process could not simulate it, for a reason outside of the cell."""
    message = f"a worker fails: {describe_exception(error)}"
    return CellOutcome(task.cell.id, UserError(message, code="failed", path="launcher"))


def _unfinished_files(folder: Path) -> FileContents:
    """Checkpoint and earlier replicates of a cell."""
    cells = CheckedFolder(folder.parent)
    checkpoint, earlier = checkpoint_path(folder).name, earlier_cell_path(folder).name
    files = {checkpoint: cells.read(checkpoint)} if cells.kind(checkpoint) == "file" else {}
    if cells.kind(earlier) == "folder":
        below = read_files(cells.folder(earlier))
        files |= {f"{earlier}/{path}": content for path, content in below.items()}
    return files


def _plugins_here(plugins: tuple[tuple[str, bytes], ...], temporary: Path) -> tuple[str, ...]:
    """Paths of the user's files on this machine: their own, else those of copies."""
    paths: list[str] = []
    for number, (path, content) in enumerate(plugins):
        here = Path(path)
        if not (here.is_file() and here.read_bytes() == content):
            here = temporary / f"plugin-{number}" / here.name
            here.parent.mkdir()
            here.write_bytes(content)
        paths.append(str(here))
    return tuple(paths)
