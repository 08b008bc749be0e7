"""Resume a run that was stopped or killed, or ran out of disk: simulate the missing cells.

The folder is sufficient: it holds the scenario, the command line's overrides, and the complete
cells. Changes that could change the other cells are refused: of the scenario, of versions. `force`
accepts other versions, and `provenance.json` records them.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mores.core.arguments import check_path
from mores.core.errors import UserError, unreadable
from mores.experiments.results import atomic_files
from mores.experiments.results.checked_files import MAX_JSON_BYTES, CheckedFolder, check_tree
from mores.experiments.results.provenance import (
    collect_provenance,
    compare_system_info,
    system_info,
    utc_timestamp,
)
from mores.experiments.results.run_manifest import (
    CELLS_FILE,
    CELLS_FOLDER,
    MANIFEST,
    RunManifest,
    digest_of,
    read_manifest,
)
from mores.experiments.results.stored_cell import StoredCell, find_damage, foreign_files
from mores.experiments.run.checkpoint import remove_checkpoints
from mores.experiments.run.engine import (
    FINAL_FILES,
    RunResult,
    complete_run,
    evaluate_run_claims,
    select_replicates,
)
from mores.experiments.run.parameter_uncertainty import plan_cells
from mores.experiments.run.run_folder import RunPlan, file_digest, lock_run
from mores.experiments.run.worker_pool import WorkerPool, num_processes
from mores.experiments.scenario.loading import load_scenario
from mores.experiments.scenario.source_locations import ScenarioError, printable
from mores.experiments.tracking.logs import tracker_specs
from mores.registry.plugins import load_plugins, loaded_plugin_files


def resume_run(
    folder: str | Path,
    jobs: int | WorkerPool = 1,
    plugin_files: Sequence[str | Path] = (),
    force: bool = False,
    progress: bool = True,
    track: Any = None,
) -> RunResult:
    """Simulate the missing cells of a run, evaluate its claims, and write its report.

    The claims of a finished run are evaluated again from disk, and nothing is written, unless
    `claims.json` or `report.html` is missing or was changed. Nothing is removed or written if the
    folder contains a link, or a cell of another run.

    Args:
        folder: folder of the run.
        jobs: number of processes that simulate cells in parallel; 0: one per core; or a pool.
        plugin_files: the user's Python files that the run had loaded, which are run; no others are.
        force: continue although versions of mores or torch, or plugin files, have changed.
        progress: show progress.
        track: see `run_scenario`; trackers of the run are not remembered.

    Raises:
        UserError: the folder is not one of a run or has another format, another process is running
            it, its experiment has changed, or the folder cannot be written.
    """
    folder = check_path("folder", folder)
    plugin_paths = [check_path("plugin_files", path) for path in plugin_files]
    manifest = read_manifest(folder)

    def log(text: str) -> None:
        if progress:
            print(printable(f"{manifest.scenario}: {text}", 2000), file=sys.stderr)

    with lock_run(folder):
        check_tree(folder)
        loaded = _load_plugins(folder, manifest, plugin_paths, force)
        run_plan = _make_run_plan(folder, manifest, loaded)
        run_plan = dataclasses.replace(run_plan, trackers=tracker_specs(track))
        provenance = _read_provenance(run_plan, manifest, jobs)
        system = system_info()
        changed = compare_system_info(provenance, system)
        cells = _inspect_cells(run_plan)
        state = _final_state(folder)
        is_complete = state.is_done and not state.changed and not cells.missing
        code = changed.code or cells.other_code
        if code and not force and not is_complete:
            raise UserError(
                f"{folder} was started with {'; '.join(code)}: its cells would differ; "
                "use the versions that it was started with, start a new run, or add --force",
                code="incompatible",
                path=str(folder),
            )
        for cell, damage in cells.damaged.items():
            log(f"cell {cell} is damaged ({damage}): it is simulated again")
            atomic_files.remove_folder(folder / CELLS_FOLDER / cell)
        run_plan.remove_partial_files()
        complete = [cell.id for cell in run_plan.cells if cell.id not in cells.missing]
        remove_checkpoints(folder / CELLS_FOLDER, complete)
        _restore_cells_file(run_plan, manifest, log)
        for difference in [*code, *changed.machine]:
            log(f"started with {difference}: the last bits of numbers may differ")
        if is_complete:
            log(f"finished on {provenance.get('finished', 'an unknown day')}; nothing left to do")
            return evaluate_run_claims(run_plan)
        if state.is_done:
            for name in state.changed:
                log(f"{name} is missing or was changed: it is written again")
        num_done = len(run_plan.cells) - len(cells.missing)
        log(f"{num_done} of {len(run_plan.cells)} cells are complete")
        entry = {"time": utc_timestamp(), "num_cells_done": num_done, "jobs": num_processes(jobs)}
        if code or changed.machine:
            entry |= system
        provenance["resumed"] = [*provenance.get("resumed", []), entry]
        atomic_files.write_sealed_json(folder / "provenance.json", provenance)
        return complete_run(run_plan, provenance, jobs, progress)


class _CellsOnDisk(NamedTuple):
    """The cells of a run on disk.

    Attributes:
        missing: cells to simulate, those that are damaged included.
        damaged: what is wrong with a cell.
        other_code: how the code that simulated cells differs from this one.
    """

    missing: list[str]
    damaged: dict[str, str]
    other_code: list[str]


def _inspect_cells(run_plan: RunPlan) -> _CellsOnDisk:
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
    return _CellsOnDisk(missing, damaged, list(other_code))


class _FinalState(NamedTuple):
    """Whether a run had finished, and which of its final files are missing or changed since."""

    is_done: bool
    changed: list[str]


def _final_state(folder: Path) -> _FinalState:
    files = CheckedFolder(folder)
    try:
        status = files.read_sealed("status.json")
    except UserError:
        return _FinalState(False, [])
    recorded = status.get("files")
    if status.get("state") != "done" or not isinstance(recorded, dict):
        return _FinalState(False, [])
    changed = [] if files.kind("provenance.json") else ["provenance.json"]
    for name in FINAL_FILES:
        if files.kind(name) != "file" or files.size_and_checksum(name) != recorded.get(name):
            changed.append(name)
    return _FinalState(True, changed)


def _restore_cells_file(
    run_plan: RunPlan, manifest: RunManifest, log: Callable[[str], None]
) -> None:
    """Write `cells.json` again if it is damaged."""
    files, text = CheckedFolder(run_plan.folder), run_plan.cells_text()
    try:
        intact = digest_of(files.read(CELLS_FILE, MAX_JSON_BYTES)) == manifest.cells_digest
    except UserError:
        intact = False
    if not intact:
        log(f"{CELLS_FILE} is missing or was changed: it is written again")
        atomic_files.write_text(run_plan.folder / CELLS_FILE, text)


def _load_plugins(
    folder: Path, manifest: RunManifest, plugin_files: Sequence[Path], force: bool
) -> tuple[str, ...]:
    """Run the run's plugin files, if the user names them again; their paths now.

    The folder may come from another person: a file is never run only because the folder names it.
    Files are identified by name and content.
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
            raise UserError(
                f"{folder} was started with --load {printable(plugin.path, 200)}: "
                f"name that file again, mores resume {folder} --load {printable(name, 60)}",
                code="missing",
                path=name,
            )
        if not same and not force:
            raise UserError(
                f"{same_name[0]} has changed since {folder} was started: its cells would differ; "
                "restore the file, start a new run, or add --force",
                code="incompatible",
                path=str(same_name[0]),
            )
        paths.append((same or same_name)[0])
    load_plugins(paths)
    load_plugins(plugin_files)
    return tuple(map(str, paths))


def _make_run_plan(folder: Path, manifest: RunManifest, plugin_paths: tuple[str, ...]) -> RunPlan:
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
    run_plan = RunPlan(folder, loaded.scenario, cells, replicates, plugin_paths)
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


def _read_provenance(
    run_plan: RunPlan, manifest: RunManifest, jobs: int | WorkerPool
) -> dict[str, Any]:
    """Content of `provenance.json`; the provenance of this process if the file was removed."""
    files = CheckedFolder(run_plan.folder)
    if not files.kind("provenance.json"):
        text = files.read("resolved.yaml", MAX_JSON_BYTES).decode("utf-8")
        return collect_provenance(text, run_plan.scenario.seed, num_processes(jobs))
    provenance = files.read_sealed("provenance.json")
    path = run_plan.folder / "provenance.json"
    if provenance.get("resolved_hash") != manifest.resolved_hash:
        raise unreadable(path, "it belongs to another run")
    types = {"resumed": list, "seconds": (int, float), "versions": dict, "source": dict}
    if any(
        key in provenance and not isinstance(provenance[key], kind) for key, kind in types.items()
    ):
        raise unreadable(path, "it is not the provenance of a run")
    return provenance
