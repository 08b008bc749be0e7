"""Extend a run: simulate further replicates, rounds or arms; what is there is kept.

| added | what is simulated |
|---|---|
| replicates | the new ones, in every cell of an arm |
| arms | the cells of the new arms |
| rounds | every cell from its start: a run does not keep the states of its last round |
| figures, which may also change | nothing: the report is written again |

The extended run has the files of a run that was started with everything at once, byte for byte,
where no network acts; networks give the same to rounding, since a product of matrices may depend on
the size of its batch. Only verdicts differ: a claim whose data changed has one more look
(`mores.experiments.claims.looks`). Draws of uncertain parameters and points of a sensitivity
analysis have replicates of their own, which do not change.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mores.core.arguments import check_integer, check_path
from mores.core.errors import UserError, unreadable
from mores.experiments.claims.looks import has_looks
from mores.experiments.progress import hide_progress, print_line
from mores.experiments.results.checked_files import CheckedFolder, check_tree
from mores.experiments.results.provenance import (
    compare_system_info,
    short_hash,
    system_info,
    utc_timestamp,
)
from mores.experiments.results.run_manifest import (
    CELLS_FOLDER,
    EarlierLook,
    PluginFile,
    RunManifest,
    digest_of,
    read_manifest,
)
from mores.experiments.results.stored_cell import foreign_files
from mores.experiments.run.cell_executor import CellExecutor
from mores.experiments.run.engine import RunResult, select_replicates
from mores.experiments.run.parameter_uncertainty import plan_cells
from mores.experiments.run.pending_extension import (
    Extension,
    apply_pending_extension,
    commit_extension,
)
from mores.experiments.run.resume import continue_run
from mores.experiments.run.run_folder import (
    RunPlan,
    earlier_cell_path,
    file_digest,
    lock_run,
)
from mores.experiments.run.scheduling import check_importable_by_workers, uses_workers
from mores.experiments.run.stored_run import (
    final_state,
    inspect_cells,
    load_run_plugins,
    read_provenance,
    stored_run_plan,
)
from mores.experiments.scenario.additions import added_arms, adds_rounds, check_additions
from mores.experiments.scenario.loading import LoadedScenario, load_scenario
from mores.experiments.scenario.source_locations import printable
from mores.experiments.scenario.specification import Scenario
from mores.registry.plugins import loaded_plugin_files


def extend(
    folder: str | Path,
    replicates: int | None = None,
    rounds: int | None = None,
    overrides: Sequence[str] = (),
    scenario: str | Path | None = None,
    jobs: int | CellExecutor = 1,
    plugin_files: Sequence[str | Path] = (),
    progress: bool = True,
) -> RunResult:
    """Add replicates, rounds or arms to a run, finished or not; what is there is kept.

    Without anything to add, the run is resumed. Nothing is changed if the extension is refused.

    Args:
        folder: folder of the run.
        replicates: number of replicates that the run has afterwards.
        rounds: number of rounds per episode afterwards.
        overrides: changes `dotted.path=value`, as of `mores.load_scenario`, after those of the run.
        scenario: a scenario file that has more arms, and claims about them, or other figures; by
            default that of the run. The overrides of the run apply to it.
        jobs: number of processes that simulate cells in parallel; 0: one per core; or an
            executor (`mores.experiments.launchers`).
        plugin_files: the user's Python files that the run had loaded, and those of new arms.
        progress: show progress.

    Raises:
        UserError: the folder is not one of a run or has another format, another process is running
            it, its code has changed, or the scenario differs in more than what can be added.
    """
    folder = check_path("folder", folder)
    paths = [check_path("plugin_files", path) for path in plugin_files]
    changes = [str(each) for each in overrides]
    for name, number in (("replicates", replicates), ("rounds", rounds)):
        if number is not None:
            changes.append(f"{name}={check_integer(name, number)}")
    file = None if scenario is None else check_path("scenario", scenario)
    read_manifest(folder)
    with lock_run(folder), hide_progress(not progress):
        check_tree(folder)
        apply_pending_extension(folder)
        manifest = read_manifest(folder)
        loaded_files = load_run_plugins(folder, manifest, paths, command="extend")
        run_plan = stored_run_plan(folder, manifest, loaded_files)
        overrides = [*manifest.overrides, *changes]
        loaded = load_scenario(file or folder / "scenario.yaml", overrides)
        check_additions(run_plan.scenario, loaded.scenario)
        if loaded.scenario != run_plan.scenario:
            _check_code(run_plan, manifest, jobs)
            lines = _extend(run_plan, manifest, loaded, jobs)
            manifest = read_manifest(folder)
            for line in lines:
                print_line(manifest.scenario, line, progress)
            new_files = manifest.plugin_files[len(loaded_files) :]
            loaded_files = (*loaded_files, *(file.path for file in new_files))
        return continue_run(folder, manifest, loaded_files, jobs, force=False, progress=progress)


def _check_code(run_plan: RunPlan, manifest: RunManifest, jobs: int | CellExecutor) -> None:
    """Refuse a run whose cells other code simulated: one cell would mix two versions.

    Raises:
        UserError: see above; or files of others are in a cell that would be moved.
    """
    folder = run_plan.folder
    provenance = read_provenance(run_plan, manifest, jobs)
    changed = compare_system_info(provenance, system_info()).code
    code = changed or inspect_cells(run_plan).other_code
    if code:
        raise UserError(
            f"{folder} was started with {'; '.join(code)}: its cells would differ; use the "
            "versions that it was started with, or start a new run",
            code="incompatible",
            path=str(folder),
        )
    for cell in run_plan.cells:
        path = folder / CELLS_FOLDER / cell.id
        earlier = earlier_cell_path(path)  # of an extension before; it is removed
        foreign = [*foreign_files(path), *foreign_files(earlier)]
        if earlier.exists() and not earlier.is_dir():
            foreign.append(earlier)
        if foreign:
            message = (
                f"{printable(foreign[0], 300)} is not a file of mores: move it out of the cell"
            )
            raise UserError(message, code="conflict", path=str(foreign[0]))


def _extend(
    before: RunPlan, manifest: RunManifest, loaded: LoadedScenario, jobs: int | CellExecutor
) -> list[str]:
    """Write the new files of a run; return lines on what is added.

    Raises:
        UserError: the new scenario is invalid, or needs what the cells do not hold.
    """
    folder, scenario = before.folder, loaded.scenario
    arms = added_arms(before.scenario, scenario)
    has_more_rounds = adds_rounds(before.scenario, scenario)
    if manifest.only_replicates is not None and scenario.replicates != before.scenario.replicates:
        message = f"{folder} has only the replicates of --only: start a new run with more"
        raise UserError(message, code="conflict", path="replicates")
    provenance = read_provenance(before, manifest, jobs)
    was_judged = "finished" in provenance  # since its last extension
    looks_before = _looks_before(folder, before.scenario, manifest, was_judged)
    looks = [*manifest.earlier_looks, *looks_before]
    cells, text = plan_cells(loaded, with_dry_run=bool(arms) or has_more_rounds)
    if uses_workers(jobs):
        check_importable_by_workers(text)
    replicates = select_replicates(scenario, manifest.only_replicates)
    after = RunPlan(folder, scenario, cells, replicates, before.plugin_files, looks)
    _check_cells(before, after, has_more_rounds)
    _check_arms(before, after, arms)
    lines = _describe(before, after, arms, has_more_rounds)
    provenance.pop("finished", None)
    entry: dict[str, Any] = {"time": utc_timestamp(), "added": lines}
    provenance |= {
        "resolved_hash": short_hash(text),
        "overrides": list(loaded.overrides),
        "extended": [*provenance.get("extended", []), entry],
    }
    changes: dict[str, Any] = {
        "overrides": list(loaded.overrides),
        "plugin_files": _plugin_files(manifest) if arms else manifest.plugin_files,
        "resolved_hash": short_hash(text),
        "cells_digest": digest_of(after.cells_text().encode()),
        "earlier_looks": looks,
    }
    if loaded.path != folder / "scenario.yaml":
        changes["scenario_file"] = str(loaded.path.absolute())
    before.remove_partial_files()
    new_manifest = manifest.model_copy(update=changes)
    extension = Extension(new_manifest, loaded.text, text, after.cells_text(), provenance)
    commit_extension(folder, extension)
    apply_pending_extension(folder)
    return lines


def _looks_before(
    folder: Path, scenario: Scenario, manifest: RunManifest, was_judged: bool
) -> list[EarlierLook]:
    """The verdicts of the run as it is, of claims that may get another look.

    Args:
        folder: folder of the run.
        scenario: its scenario.
        manifest: its manifest.
        was_judged: whether verdicts were written, even if they are no longer there.

    Raises:
        UserError: verdicts were written, and cannot be read.
    """
    files, path = CheckedFolder(folder), folder / "claims.json"
    state = final_state(folder)
    if not state.is_done:
        files.read_sealed("status.json")  # unreadable: it does not tell whether there are verdicts
    if path.name in state.changed or (not state.is_done and (was_judged or files.kind(path.name))):
        message = f"{path}: the verdicts of the run are incomplete: first mores resume {folder}"
        raise UserError(message, code="unreadable", path=str(path))
    if not state.is_done:
        return []
    known = {(look.claim, look.look) for look in manifest.earlier_looks}
    entries = files.read_json(path.name)
    names = [name for name in EarlierLook.model_fields if name != "claim"]
    try:
        looks = [
            EarlierLook(
                claim=index,
                **{name: entry[name] for name in names},
            )
            for index, (entry, claim) in enumerate(zip(entries, scenario.claims, strict=True))
            if has_looks(claim)
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise unreadable(path, str(error).splitlines()[0]) from None
    return [look for look in looks if (look.claim, look.look) not in known]


def _check_cells(before: RunPlan, after: RunPlan, has_more_rounds: bool) -> None:
    """Check that the cells of the run are cells of the extended run.

    Raises:
        UserError: new claims need rounds that were not recorded.
    """
    new = after.identities()
    for name, identity in before.identities().items():
        if name not in new or has_more_rounds:
            same = name in new
        else:
            same = (identity.inputs, identity.rounds) == (new[name].inputs, new[name].rounds)
        if not same:
            raise UserError(
                f"{before.folder}: the cell {printable(name, 60)} lacks what the extended scenario "
                "needs, such as a round of a new claim that was not recorded: start a new run",
                code="conflict",
                path=name,
            )


def _check_arms(before: RunPlan, after: RunPlan, arms: Sequence[str]) -> None:
    """Check that new arms are no copies of earlier ones, whose data were seen.

    Raises:
        UserError: a new arm has the cells of an earlier one.
    """
    identities = after.identities()
    known = {identities[cell.id].inputs: cell.arm for cell in before.cells}
    for arm in arms:
        cells = [cell for cell in after.cells if cell.arm == arm]
        copied = [known.get(identities[cell.id].inputs) for cell in cells]
        if cells and None not in copied:
            raise UserError(
                f"arms.{arm}: it has the data of the arm {printable(str(copied[0]), 60)}, which "
                "were seen before: repeat it with another seed in a new run",
                code="conflict",
                path=f"arms.{arm}",
            )


def _describe(
    before: RunPlan, after: RunPlan, arms: Sequence[str], has_more_rounds: bool
) -> list[str]:
    """Lines on what is added, and what is simulated for it."""
    old, new = before.scenario, after.scenario
    lines = []
    if new.replicates > old.replicates:
        first, last = old.replicates, new.replicates - 1
        added = f"replicate {last} is" if first == last else f"replicates {first} to {last} are"
        lines.append(f"{added} added to every arm")
        if new.uncertainty is not None:
            lines.append("draws of uncertain parameters have replicates of their own, and stay")
    if arms:
        lines.append(f"new arms: {printable(', '.join(arms), 200)}")
    if has_more_rounds:
        lines.append(
            "more rounds: every cell is simulated again from its start, since a run does not keep "
            "the states of its last round"
        )
    return lines


def _plugin_files(manifest: RunManifest) -> list[PluginFile]:
    """The user's files of the run, and all others that are loaded: new arms may need them."""
    files = list(manifest.plugin_files)
    known = {(Path(file.path).name, file.digest) for file in files}
    for path in loaded_plugin_files():
        digest = file_digest(path)
        if (path.name, digest) not in known:
            files.append(PluginFile(path=str(path), digest=digest))
    return files
