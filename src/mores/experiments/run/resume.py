"""Resume a run that was stopped or killed, or ran out of disk: simulate the missing cells.

Changes that could change the other cells are refused (`stored_run`): of the scenario, of versions.
`force` accepts other versions, and `provenance.json` records them. An extension that was
interrupted is completed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mores.core.arguments import check_path
from mores.core.errors import UserError
from mores.experiments.progress import hide_progress, print_line
from mores.experiments.results import atomic_files
from mores.experiments.results.checked_files import MAX_JSON_BYTES, CheckedFolder, check_tree
from mores.experiments.results.provenance import compare_system_info, system_info, utc_timestamp
from mores.experiments.results.run_manifest import (
    CELLS_FILE,
    CELLS_FOLDER,
    RunManifest,
    digest_of,
    read_manifest,
)
from mores.experiments.run.cell_executor import CellExecutor
from mores.experiments.run.checkpoint import remove_checkpoints
from mores.experiments.run.earlier_cell import remove_earlier_cells
from mores.experiments.run.engine import RunResult, complete_run, evaluate_run_claims
from mores.experiments.run.pending_extension import apply_pending_extension
from mores.experiments.run.run_folder import RunPlan, lock_run
from mores.experiments.run.stored_run import (
    final_state,
    inspect_cells,
    load_run_plugins,
    read_provenance,
    stored_run_plan,
)
from mores.experiments.run.worker_pool import num_processes
from mores.experiments.tracking.logs import tracker_specs


def resume_run(
    folder: str | Path,
    jobs: int | CellExecutor = 1,
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
        jobs: number of processes that simulate cells in parallel; 0: one per core; or an
            executor (`mores.experiments.launchers`).
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
    read_manifest(folder)
    with lock_run(folder):
        check_tree(folder)
        apply_pending_extension(folder)
        manifest = read_manifest(folder)
        loaded = load_run_plugins(folder, manifest, plugin_paths, force)
        return continue_run(folder, manifest, loaded, jobs, force, progress, track)


def continue_run(
    folder: Path,
    manifest: RunManifest,
    plugin_paths: tuple[str, ...],
    jobs: int | CellExecutor,
    force: bool,
    progress: bool,
    track: Any = None,
) -> RunResult:
    """Continue a run whose folder is locked: see `resume_run`.

    Args:
        folder: folder of the run.
        manifest: its manifest.
        plugin_paths: the user's files that it needs, which are loaded.
        jobs, force, progress, track: see `resume_run`.
    """

    def log(text: str) -> None:
        print_line(manifest.scenario, text, progress)

    trackers = tracker_specs(track)
    with hide_progress(not progress):
        run_plan = stored_run_plan(folder, manifest, plugin_paths)
    run_plan = dataclasses.replace(run_plan, trackers=trackers)
    provenance = read_provenance(run_plan, manifest, jobs)
    system = system_info()
    changed = compare_system_info(provenance, system)
    cells = inspect_cells(run_plan)
    state = final_state(folder)
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
    remove_earlier_cells(folder / CELLS_FOLDER, complete)
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
