"""Go on with a run that was stopped, killed or ran out of disk: play what is missing.

The folder is enough: it has the scenario, what the command line changed in it, and the cells that
are whole. What could make the other cells come out differently is refused: another scenario, other
versions. `force` goes on in spite of other versions, and `collect_provenance.json` says so.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mores.core.errors import UserError
from mores.experiments.results import atomic_files, cell_store
from mores.experiments.results.provenance import (
    collect_provenance,
    compare_system_info,
    system_info,
    utc_timestamp,
)
from mores.experiments.run.checkpoint_store import remove_stale_checkpoints
from mores.experiments.run.engine import (
    RunResult,
    complete_run,
    evaluate_run_claims,
    select_replicates,
)
from mores.experiments.run.parameter_uncertainty import plan_cells
from mores.experiments.run.run_folder import (
    CELLS_FOLDER,
    PluginFile,
    RunLock,
    RunManifest,
    file_digest,
    read_manifest,
)
from mores.experiments.run.scheduling import RunPlan
from mores.experiments.run.worker_pool import WorkerPool, num_processes
from mores.experiments.scenario.expansion import resolved_yaml
from mores.experiments.scenario.loading import LoadedScenario, load_scenario
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
    """Play what is missing of a run, judge its claims, and write its report.

    A run that is finished is judged again from what is on disk, and nothing is written.

    Args:
        folder: of the run.
        jobs: processes that play cells side by side; 0: one for each core; or a pool of them.
        plugin_files: files of your own that the run had loaded; nothing is imported that is not named.
        force: go on although versions of mores or torch, or your own files, have changed.
        progress: show how far it is.

    Raises:
        UserError: it is no run's folder, another process is running it, the experiment in it
            cannot be made any more as it was, or the disk says no.
    """
    order = read_manifest(folder)

    def say(text: str) -> None:
        if progress:
            print(printable(f"{order.scenario}: {text}", 2000), file=sys.stderr)

    with RunLock(folder):
        _load_plugins(folder, order, plugin_files, force)
        loaded = _load_scenario(folder, order)
        job = _make_run_plan(folder, loaded, order)
        origin = _read_provenance(folder, job, jobs)
        for place in [folder, *(path for path in folder.iterdir() if path.is_dir())]:
            atomic_files.remove_partial_files(place)
        lost = _remove_damaged_cells(job, say)
        missing = [cell.id for cell in job.cells if not (folder / CELLS_FOLDER / cell.id).is_dir()]
        remove_stale_checkpoints(folder / CELLS_FOLDER, missing)
        there = len(job.cells) - len(missing)
        if there == len(job.cells) and not lost and _is_complete(folder):
            say(f"finished on {origin.get('finished', 'an unknown day')}; nothing is left to do")
            return evaluate_run_claims(job)[1]
        here = system_info()
        changed = compare_system_info(origin, here)
        if changed.code and not force:
            raise UserError(
                f"{folder} was begun with {'; '.join(changed.code)}: cells would not fit together; "
                "use what it was begun with, begin anew, or go on with --force",
                code="incompatible",
                path=str(folder),
            )
        for difference in [*changed.code, *changed.machine]:
            say(f"begun with {difference}: the last bits of numbers may differ")
        say(f"{there} of {len(job.cells)} cells are there")
        note: dict[str, Any] = {"at": utc_timestamp(), "there": there, "jobs": num_processes(jobs)}
        if changed.code or changed.machine:
            note |= here
        origin["resumed"] = [*origin.get("resumed", []), note]
        atomic_files.write_json(folder / "provenance.json", origin)
        return complete_run(job, origin, jobs, progress)


def _load_plugins(
    folder: Path, manifest: RunManifest, plugin_files: Sequence[Path], force: bool
) -> None:
    """Import the user's own files as the run did, if the user names them again.

    The folder may be somebody else's: what it names is not run for that alone.
    """
    by_name = {path.name: path for path in [*loaded_plugin_files(), *plugin_files]}
    for module in manifest.plugin_files:
        name = Path(module.path).name
        path = by_name.get(name)
        if path is None:
            raise UserError(
                f"{folder} was begun with --load {printable(module.path, 200)}: name that file again, "
                f"mores resume {folder} --load {printable(name, 60)}",
                code="missing",
                path=name,
            )
        if not path.is_file():
            message = f"--load {path}: there is no such file"
            raise UserError(message, code="unreadable", path=str(path))
        if file_digest(path) != module.digest and not force:
            raise UserError(
                f"{path} has changed since {folder} was begun: cells would not fit together; "
                "put it back, begin anew, or go on with --force",
                code="incompatible",
                path=str(path),
            )
        load_plugins([path])
    known = {Path(module.path).name for module in manifest.plugin_files}
    load_plugins([path for path in plugin_files if path.name not in known])


def _load_scenario(folder: Path, manifest: RunManifest) -> LoadedScenario:
    try:
        return load_scenario(folder / "scenario.yaml", manifest.overrides)
    except ScenarioError as error:
        line = str(error).splitlines()[0]
        message = f"{folder} cannot be resumed: its scenario is none: {line}"
        path = error.path or str(folder / "scenario.yaml")
        raise UserError(message, code=error.code, path=path) from None


def _make_run_plan(folder: Path, loaded: LoadedScenario, manifest: RunManifest) -> RunPlan:
    """The run as it was begun.

    Raises:
        UserError: it would be another experiment now.
    """
    cells = plan_cells(loaded, with_dry_run=False)
    text = resolved_yaml(loaded.scenario, cells)
    path = folder / "resolved.yaml"
    try:
        before = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        message = f"cannot read {path}: {error}"
        raise UserError(message, code="unreadable", path=str(path)) from None
    if text != before:
        raise UserError(
            f"{folder} cannot be resumed: its scenario has become another one, as scenario.yaml "
            f"was edited or mores changed: {_first_difference(before, text)}",
            code="incompatible",
            path=str(path),
        )
    replicates = select_replicates(loaded.scenario, manifest.only_replicates)
    return RunPlan(folder, loaded.scenario, cells, replicates, _plugin_paths(manifest.plugin_files))


def _plugin_paths(plugin_files: Sequence[PluginFile]) -> tuple[str, ...]:
    """Where the modules are that were imported: perhaps not where they were."""
    names = {Path(module.path).name for module in plugin_files}
    return tuple(str(path) for path in loaded_plugin_files() if path.name in names)


def _first_difference(before: str, after: str) -> str:
    old, new = before.splitlines(), after.splitlines()
    for number in range(max(len(old), len(new))):
        was, is_ = (lines[number] if number < len(lines) else "" for lines in (old, new))
        if was != is_:
            what = f"{printable(was.strip(), 80)!r} was, {printable(is_.strip(), 80)!r} is"
            return f"resolved.yaml:{number + 1}: {what}"
    return "spaces at the end"


def _read_provenance(folder: Path, run_plan: RunPlan, jobs: int | WorkerPool) -> dict[str, Any]:
    """What `collect_provenance.json` says; where somebody took it away, what is known here."""
    path = folder / "provenance.json"
    try:
        origin = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        text = (folder / "resolved.yaml").read_text(encoding="utf-8")
        return collect_provenance(text, run_plan.scenario.seed, num_processes(jobs))
    except (OSError, ValueError) as error:
        message = f"cannot read {path}: {error}"
        raise UserError(message, code="unreadable", path=str(path)) from None
    kinds = {"resumed": list, "seconds": (int, float), "versions": dict}
    if not isinstance(origin, dict) or any(
        not isinstance(origin.get(key, kind() if kind is not kinds["seconds"] else 0), kind)
        for key, kind in kinds.items()
    ):
        message = f"cannot read {path}: it does not say where a run comes from"
        raise UserError(message, code="unreadable", path=str(path))
    return origin


def _remove_damaged_cells(run_plan: RunPlan, log: Any) -> int:
    """Take away cells that are not as they were written: they are played again."""
    lost = 0
    for cell in run_plan.cells:
        folder = run_plan.folder / CELLS_FOLDER / cell.id
        wrong = cell_store.find_damage(folder) if folder.exists() else None
        if wrong is not None:
            log(f"cell {cell.id} is damaged ({wrong}): it is played again")
            atomic_files.remove_folder(folder)
            lost += 1
    return lost


def _is_complete(folder: Path) -> bool:
    try:
        state = json.loads((folder / "status.json").read_text(encoding="utf-8"))["state"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return state == "done" and all((folder / name).is_file() for name in FINAL_FILES)
