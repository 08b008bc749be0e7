"""A run on disk that is continued: its plan, plugin files, provenance, and what is there of it.

The folder is sufficient: it holds the scenario, the command line's overrides, and the complete
cells. A change that could change the other cells is refused: of the scenario, of versions.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mores.core.errors import UserError, unreadable
from mores.experiments.results.checked_files import MAX_JSON_BYTES, CheckedFolder
from mores.experiments.results.provenance import collect_provenance
from mores.experiments.results.run_manifest import (
    CELLS_FOLDER,
    MANIFEST,
    RunManifest,
    digest_of,
)
from mores.experiments.results.stored_cell import StoredCell, find_damage, foreign_files
from mores.experiments.run.cell_executor import CellExecutor
from mores.experiments.run.engine import FINAL_FILES, select_replicates
from mores.experiments.run.parameter_uncertainty import plan_cells
from mores.experiments.run.run_folder import RunPlan, file_digest
from mores.experiments.run.worker_pool import num_processes
from mores.experiments.scenario.loading import load_scenario
from mores.experiments.scenario.source_locations import ScenarioError, printable
from mores.registry.plugins import load_plugins, loaded_plugin_files


class CellsOnDisk(NamedTuple):
    """The cells of a run on disk.

    Attributes:
        missing: cells to simulate, those that are damaged included.
        damaged: what is wrong with a cell.
        other_code: how the code that simulated cells differs from this one.
    """

    missing: list[str]
    damaged: dict[str, str]
    other_code: list[str]


def inspect_cells(run_plan: RunPlan) -> CellsOnDisk:
    """Inspect the cells of a run; change nothing.

    Raises:
        UserError: a cell is of another run, or files that are no cell's are in the way.
    """
    folder = CheckedFolder(run_plan.folder, CELLS_FOLDER)
    missing, damaged, other_code = list[str](), dict[str, str](), dict[str, None]()
    for name, identity in run_plan.identities().items():
        path = folder.path / name
        if not folder.kind(name):
            missing.append(name)
            continue
        if folder.kind(name) == "file":
            raise unreadable(path, "it is a file, not the folder of a cell")
        if damage := find_damage(folder.folder(name), identity):
            missing.append(name)
            damaged[name] = damage
            if foreign := foreign_files(path):
                raise UserError(
                    f"{printable(foreign[0], 300)} is not a file of mores: move it out of the "
                    "folder of the damaged cell, which is removed and simulated again",
                    code="conflict",
                    path=str(foreign[0]),
                )
        elif difference := StoredCell(folder.folder(name)).other_code:
            other_code[difference] = None
    return CellsOnDisk(missing, damaged, list(other_code))


class FinalState(NamedTuple):
    """Whether a run had finished, and which of its final files are missing or changed since."""

    is_done: bool
    changed: list[str]


def final_state(folder: Path) -> FinalState:
    """Whether a run had finished: by `status.json`, and the files whose checksums it has."""
    files = CheckedFolder(folder)
    try:
        status = files.read_sealed("status.json")
    except UserError:
        return FinalState(False, [])
    recorded = status.get("files")
    if status.get("state") != "done" or not isinstance(recorded, dict):
        return FinalState(False, [])
    changed = [] if files.kind("provenance.json") else ["provenance.json"]
    for name in FINAL_FILES:
        if files.kind(name) != "file" or files.size_and_checksum(name) != recorded.get(name):
            changed.append(name)
    return FinalState(True, changed)


def load_run_plugins(
    folder: Path,
    manifest: RunManifest,
    plugin_files: Sequence[Path],
    force: bool = False,
    command: str = "resume",
) -> tuple[str, ...]:
    """Run the run's plugin files, if the user names them again; their paths now.

    The folder may come from another person: a file is never run only because the folder names it.
    Files are identified by name and content.

    Args:
        folder: folder of the run.
        manifest: its manifest.
        plugin_files: files that the user names.
        force: accept files whose content has changed.
        command: the command that the user gave, for messages.

    Raises:
        UserError: a file of the run is not named, or has changed.
    """
    known = [path for path in [*plugin_files, *loaded_plugin_files()] if path.is_file()]
    digests = {path: file_digest(path) for path in known}
    paths: list[Path] = []
    for plugin in manifest.plugin_files:
        name = Path(plugin.path).name
        same_name = [path for path in known if path.name == name and path not in paths]
        same = [path for path in same_name if digests[path] == plugin.digest]
        if not same_name:
            wrong = [path for path in plugin_files if path.name == name and not path.is_file()]
            if wrong:
                raise unreadable(wrong[0], "there is no such file")
            stored, directory = Path(plugin.path), Path(manifest.working_directory)
            if stored.is_relative_to(directory):
                stored = stored.relative_to(directory)
            file = printable(stored, 200)
            place = "" if directory == Path.cwd() else f" in {printable(directory, 200)}"
            raise UserError(
                f"{folder} was started with --load {file}{place}: name that file again, "
                f"mores {command} {folder} --load {file}",
                code="missing",
                path=name,
            )
        if not same and not force:
            remedy = (
                "or start a new run" if command == "extend" else "start a new run, or add --force"
            )
            raise UserError(
                f"{same_name[0]} has changed since {folder} was started: its cells would differ; "
                f"restore the file, {remedy}",
                code="incompatible",
                path=str(same_name[0]),
            )
        paths.append((same or same_name)[0])
    load_plugins(paths)
    load_plugins(plugin_files)
    return tuple(map(str, paths))


def stored_run_plan(folder: Path, manifest: RunManifest, plugin_paths: tuple[str, ...]) -> RunPlan:
    """The plan of the run as it was started.

    Raises:
        UserError: its scenario is invalid, or the experiment has changed since.
    """
    try:
        loaded = load_scenario(folder / "scenario.yaml", manifest.overrides)
    except ScenarioError as error:
        line = str(error).splitlines()[0]
        message = f"{folder} cannot be resumed: its scenario is invalid: {line}"
        path = error.path or str(folder / "scenario.yaml")
        raise UserError(message, code=error.code, path=path) from None
    cells, text = plan_cells(loaded, with_dry_run=False)
    path = folder / "resolved.yaml"
    try:
        before = CheckedFolder(folder).read("resolved.yaml", MAX_JSON_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise unreadable(path, error) from None
    if text != before:
        raise UserError(
            f"{folder} cannot be resumed: scenario.yaml was edited or mores changed, and the "
            f"experiment differs: {_first_difference(before, text)}",
            code="incompatible",
            path=str(path),
        )
    replicates = select_replicates(loaded.scenario, manifest.only_replicates)
    looks = manifest.earlier_looks
    run_plan = RunPlan(folder, loaded.scenario, cells, replicates, plugin_paths, looks)
    if digest_of(run_plan.cells_text().encode()) != manifest.cells_digest:
        message = f"{folder} cannot be resumed: run.json belongs to other cells"
        raise UserError(message, code="incompatible", path=str(folder / MANIFEST))
    return run_plan


def _first_difference(before: str, after: str) -> str:
    pairs = itertools.zip_longest(before.splitlines(), after.splitlines(), fillvalue="")
    for number, (old, new) in enumerate(pairs, 1):
        if old != new:
            texts = [repr(printable(line.strip(), 80)) for line in (old, new)]
            return f"resolved.yaml:{number}: {texts[0]} is now {texts[1]}"
    return "white space at the end"


def read_provenance(
    run_plan: RunPlan, manifest: RunManifest, jobs: int | CellExecutor
) -> dict[str, Any]:
    """Content of `provenance.json`; the provenance of this process if the file was removed.

    Raises:
        UserError: it belongs to another run, or is not the provenance of a run.
    """
    files = CheckedFolder(run_plan.folder)
    if not files.kind("provenance.json"):
        text = files.read("resolved.yaml", MAX_JSON_BYTES).decode("utf-8")
        return collect_provenance(text, run_plan.scenario.seed, num_processes(jobs))
    provenance = files.read_sealed("provenance.json")
    path = run_plan.folder / "provenance.json"
    if provenance.get("resolved_hash") != manifest.resolved_hash:
        raise unreadable(path, "it belongs to another run")
    types = {
        "resumed": list,
        "extended": list,
        "seconds": (int, float),
        "versions": dict,
        "source": dict,
    }
    if any(
        key in provenance and not isinstance(provenance[key], kind) for key, kind in types.items()
    ):
        raise unreadable(path, "it is not the provenance of a run")
    return provenance
