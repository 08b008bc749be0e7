"""A cell that is simulated on another machine: what is sent there, and what is sent back.

If that machine has the run's folder (`shared_folder`), the cell is written there, with checkpoints.
Otherwise it is simulated in a temporary folder of that machine, and its files are sent back; a
checkpoint and earlier replicates of the cell are sent with it.

Sent are data of this run and the user's own `--load` files, as text; nothing of a run's folder is
unpickled. The other machine checks first that it has the same versions and source code.
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
from mores.experiments.launchers.shipped_files import Files, read_files, write_files
from mores.experiments.results import atomic_files
from mores.experiments.results.checked_files import CheckedFolder
from mores.experiments.results.provenance import code_info, describe_other_code, processor
from mores.experiments.results.run_manifest import CELLS_FOLDER, MANIFEST
from mores.experiments.run.cell_execution import CellEnd, simulate_cell
from mores.experiments.run.checkpoint import remove_checkpoints
from mores.experiments.run.earlier_cell import remove_earlier_cells
from mores.experiments.run.run_folder import (
    CellTask,
    checkpoint_path,
    earlier_cell_path,
    file_digest,
)
from mores.experiments.run.worker_pool import portable_end


@dataclasses.dataclass(frozen=True)
class RemoteCell:
    """What is sent to the machine that simulates a cell.

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
    files: Files

    @classmethod
    def of(cls, task: CellTask, shared_folder: bool) -> RemoteCell:
        """The cell of a task.

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
class RemoteEnd:
    """What is sent back.

    Attributes:
        end: the end of the cell.
        files: files of the cell, if the run's folder is not shared.
    """

    end: CellEnd
    files: Files = dataclasses.field(default_factory=dict)


def simulate_remote_cell(remote: RemoteCell) -> RemoteEnd:
    """Simulate a cell on this machine; errors are in the result.

    The process should have one thread from its start (`worker_pool.THREAD_COUNTS`).
    """
    torch.set_num_threads(1)
    host = socket.gethostname()
    try:
        difference = describe_other_code(remote.code)
        if difference:
            message = f"{host} has other code than the machine that runs mores: {difference}"
            raise UserError(message, code="incompatible", path="launcher")
        with contextlib.ExitStack() as stack:
            if Path(remote.working_directory).is_dir():
                stack.enter_context(contextlib.chdir(remote.working_directory))
            temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mores-")))
            task: CellTask = pickle.loads(remote.task)
            task = dataclasses.replace(task, plugin_files=_plugins_here(remote.plugins, temporary))
            remote_end = _simulate(remote, task, temporary, host)
    except Exception as error:
        remote_end = RemoteEnd(CellEnd(remote.name, error))
    end = portable_end(remote_end.end)
    notes = [*end.notes, f"simulated on {host}, {processor()}"]
    return dataclasses.replace(remote_end, end=dataclasses.replace(end, notes=notes))


def _simulate(remote: RemoteCell, task: CellTask, temporary: Path, host: str) -> RemoteEnd:
    """Simulate a cell in the run's folder, or in a temporary one whose files are returned."""
    if remote.run_digest:
        manifest = task.folder.parents[1] / MANIFEST
        if not manifest.is_file() or file_digest(manifest) != remote.run_digest:
            raise UserError(
                f"{host} does not have the run's folder {manifest.parent}: it must be on a disk "
                "that all machines share",
                code="unreadable",
                path=str(manifest.parent),
            )
        return RemoteEnd(simulate_cell(task, lambda _: None))
    cells = temporary / CELLS_FOLDER
    cells.mkdir()
    write_files(cells, remote.files)
    end = simulate_cell(dataclasses.replace(task, folder=cells / remote.name), lambda _: None)
    if isinstance(end.error, atomic_files.WriteError):  # of this machine's disk, not the run's
        message = f"on {host}: {end.error}"
        error = UserError(message, code=end.error.code, path=end.error.path)
        end = dataclasses.replace(end, error=error)
    written = not end.error
    return RemoteEnd(end, read_files(CheckedFolder(cells, remote.name)) if written else {})


def write_remote_cell(task: CellTask, remote_end: RemoteEnd) -> CellEnd:
    """Write the files of a cell that was sent back; its end."""
    end = remote_end.end
    try:
        if remote_end.files:
            with atomic_files.atomic_folder(task.folder) as folder:
                write_files(folder, remote_end.files)
            remove_checkpoints(task.folder.parent, [task.cell.id])
            remove_earlier_cells(task.folder.parent, [task.cell.id])
    except Exception as error:
        return dataclasses.replace(end, error=error)
    return end


def remote_failure(task: CellTask, error: Exception) -> CellEnd:
    """The end of a cell whose process could not simulate it, for a reason outside of the cell."""
    message = f"a worker fails: {describe_exception(error)}"
    return CellEnd(task.cell.id, UserError(message, code="failed", path="launcher"))


def _unfinished_files(folder: Path) -> Files:
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
