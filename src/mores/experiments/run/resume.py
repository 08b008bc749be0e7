"""Resume a run that was stopped or killed, or ran out of disk: simulate the missing cells.

The folder is sufficient: it holds the scenario, the command line's overrides, and the complete
cells. Changes that could change the other cells are refused: of the scenario, of versions. `force`
accepts other versions, and `provenance.json` records them.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mores.core.errors import UserError, unreadable
from mores.experiments.results import atomic_files, cell_store
from mores.experiments.results.provenance import (
    collect_provenance,
    compare_system_info,
    system_info,
    utc_timestamp,
)
from mores.experiments.run.checkpoint import remove_stale_checkpoints
from mores.experiments.run.engine import (
    RunResult,
    complete_run,
    evaluate_run_claims,
    select_replicates,
)
from mores.experiments.run.parameter_uncertainty import plan_cells
from mores.experiments.run.run_folder import (
    CELLS_FOLDER,
    RunManifest,
    RunPlan,
    file_digest,
    lock_run,
    read_manifest,
)
from mores.experiments.run.worker_pool import WorkerPool, num_processes
from mores.experiments.scenario.loading import load_scenario
from mores.experiments.scenario.source_locations import ScenarioError, printable
from mores.registry.plugins import load_plugins, loaded_plugin_files

FINAL_FILES = ("claims.json", "report.html", "provenance.json")


def resume_run(
    folder: Path,
    jobs: int | WorkerPool = 1,
    plugin_files: Sequence[Path] = (),
    force: bool = False,
    progress: bool = True,
) -> RunResult:
    """Simulate the missing cells of a run, evaluate its claims, and write its report.

    The claims of a finished run are evaluated again from disk, and nothing is written.

    Args:
        folder: folder of the run.
        jobs: number of processes that simulate cells in parallel; 0: one per core; or a pool.
        plugin_files: the user's Python files that the run had loaded; no others are imported.
        force: continue although versions of mores or torch, or plugin files, have changed.
        progress: show progress.

    Raises:
        UserError: the folder is not one of a run or has another format, another process is running
            it, its experiment has changed, or the folder cannot be written.
    """
    manifest = read_manifest(folder)

    def log(text: str) -> None:
        if progress:
            print(printable(f"{manifest.scenario}: {text}", 2000), file=sys.stderr)

    with lock_run(folder):
        _load_plugins(folder, manifest, plugin_files, force)
        run_plan = _make_run_plan(folder, manifest)
        provenance = _read_provenance(run_plan, jobs)
        for path in [folder, *(inner for inner in folder.iterdir() if inner.is_dir())]:
            atomic_files.remove_partial_files(path)
        is_complete = _is_complete(folder)
        missing = []
        for cell in run_plan.cells:
            path = folder / CELLS_FOLDER / cell.id
            if path.exists() and (damage := cell_store.find_damage(path)):
                log(f"cell {cell.id} is damaged ({damage}): it is simulated again")
                atomic_files.remove_folder(path)
            if not path.is_dir():
                missing.append(cell.id)
        remove_stale_checkpoints(folder / CELLS_FOLDER, missing)
        if is_complete and not missing:
            log(f"finished on {provenance.get('finished', 'an unknown day')}; nothing left to do")
            return evaluate_run_claims(run_plan)
        system = system_info()
        changed = compare_system_info(provenance, system)
        if changed.code and not force:
            raise UserError(
                f"{folder} was started with {'; '.join(changed.code)}: its cells would differ; "
                "use the versions that it was started with, start a new run, or add --force",
                code="incompatible",
                path=str(folder),
            )
        for difference in [*changed.code, *changed.machine]:
            log(f"started with {difference}: the last bits of numbers may differ")
        num_done = len(run_plan.cells) - len(missing)
        log(f"{num_done} of {len(run_plan.cells)} cells are complete")
        entry = {"time": utc_timestamp(), "num_cells_done": num_done, "jobs": num_processes(jobs)}
        if changed.code or changed.machine:
            entry |= system
        provenance["resumed"] = [*provenance.get("resumed", []), entry]
        atomic_files.write_json(folder / "provenance.json", provenance)
        return complete_run(run_plan, provenance, jobs, progress)


def _load_plugins(
    folder: Path, manifest: RunManifest, plugin_files: Sequence[Path], force: bool
) -> None:
    """Import the run's plugin files, if the user names them again.

    The folder may come from another person: a file is never imported only because it names it.
    """
    by_name = {path.name: path for path in [*loaded_plugin_files(), *plugin_files]}
    for plugin in manifest.plugin_files:
        name = Path(plugin.path).name
        path = by_name.get(name)
        if path is None:
            raise UserError(
                f"{folder} was started with --load {printable(plugin.path, 200)}: "
                f"name that file again, mores resume {folder} --load {printable(name, 60)}",
                code="missing",
                path=name,
            )
        if not path.is_file():
            raise unreadable(path, "there is no such file")
        if file_digest(path) != plugin.digest and not force:
            raise UserError(
                f"{path} has changed since {folder} was started: its cells would differ; "
                "restore the file, start a new run, or add --force",
                code="incompatible",
                path=str(path),
            )
        load_plugins([path])
    load_plugins(plugin_files)


def _make_run_plan(folder: Path, manifest: RunManifest) -> RunPlan:
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
        before = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    if text != before:
        raise UserError(
            f"{folder} cannot be resumed: scenario.yaml was edited or mores changed, and the "
            f"experiment differs: {_first_difference(before, text)}",
            code="incompatible",
            path=str(path),
        )
    replicates = select_replicates(loaded.scenario, manifest.only_replicates)
    names = {Path(plugin.path).name for plugin in manifest.plugin_files}
    # The files may have moved since the run started.
    plugin_paths = tuple(str(path) for path in loaded_plugin_files() if path.name in names)
    return RunPlan(folder, loaded.scenario, cells, replicates, plugin_paths)


def _first_difference(before: str, after: str) -> str:
    pairs = itertools.zip_longest(before.splitlines(), after.splitlines(), fillvalue="")
    for number, (old, new) in enumerate(pairs, 1):
        if old != new:
            texts = [repr(printable(line.strip(), 80)) for line in (old, new)]
            return f"resolved.yaml:{number}: {texts[0]} is now {texts[1]}"
    return "white space at the end"


def _read_provenance(run_plan: RunPlan, jobs: int | WorkerPool) -> dict[str, Any]:
    """Content of `provenance.json`; the provenance of this process if the file was removed."""
    path = run_plan.folder / "provenance.json"
    try:
        provenance = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        text = (run_plan.folder / "resolved.yaml").read_text(encoding="utf-8")
        return collect_provenance(text, run_plan.scenario.seed, num_processes(jobs))
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    types = {"resumed": list, "seconds": (int, float), "versions": dict, "source": dict}
    if not isinstance(provenance, dict) or any(
        key in provenance and not isinstance(provenance[key], kind) for key, kind in types.items()
    ):
        raise unreadable(path, "it is not the provenance of a run")
    return provenance


def _is_complete(folder: Path) -> bool:
    """Whether the run had finished, with all of its files."""
    try:
        state = json.loads((folder / "status.json").read_text(encoding="utf-8"))["state"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return state == "done" and all((folder / name).is_file() for name in FINAL_FILES)
