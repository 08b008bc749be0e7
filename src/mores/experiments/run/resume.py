"""Go on with a run that was stopped, killed or ran out of disk: play what is missing.

The folder is enough: it has the scenario, what the command line changed in it, and the cells that
are whole. What could make the other cells come out differently is refused: another scenario, other
versions. `force` goes on in spite of other versions, and `provenance.json` says so.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mores.core.errors import UserError
from mores.experiments.results import atomic_files, cell_store
from mores.experiments.results.provenance import differences, now, provenance, surroundings
from mores.experiments.run.checkpoint_store import sweep
from mores.experiments.run.engine import Result, chosen, complete, judge
from mores.experiments.run.parameter_uncertainty import plan
from mores.experiments.run.run_folder import CELLS, Hold, Module, Order, digest, read_order
from mores.experiments.run.scheduling import Job
from mores.experiments.run.worker_pool import Pool, processes
from mores.experiments.scenario.expansion import resolved
from mores.experiments.scenario.loading import Loaded, load
from mores.experiments.scenario.source_locations import ScenarioError, shown
from mores.registry.plugins import load_modules, loaded_files

REPORTED = ("claims.json", "report.html", "provenance.json")


def resume(
    folder: Path,
    jobs: int | Pool = 1,
    modules: Sequence[Path] = (),
    force: bool = False,
    progress: bool = True,
) -> Result:
    """Play what is missing of a run, judge its claims, and write its report.

    A run that is finished is judged again from what is on disk, and nothing is written.

    Args:
        folder: of the run.
        jobs: processes that play cells side by side; 0: one for each core; or a pool of them.
        modules: files of your own that the run had loaded; nothing is imported that is not named.
        force: go on although versions of mores or torch, or your own files, have changed.
        progress: show how far it is.

    Raises:
        UserError: it is no run's folder, another process is running it, the experiment in it
            cannot be made any more as it was, or the disk says no.
    """
    order = read_order(folder)

    def say(text: str) -> None:
        if progress:
            print(shown(f"{order.scenario}: {text}", 2000), file=sys.stderr)

    with Hold(folder):
        _load_modules(folder, order, modules, force)
        loaded = _loaded(folder, order)
        job = _job(folder, loaded, order)
        origin = _origin(folder, job, jobs)
        for place in [folder, *(path for path in folder.iterdir() if path.is_dir())]:
            atomic_files.remove_parts(place)
        lost = _drop_damaged(job, say)
        missing = [cell.id for cell in job.cells if not (folder / CELLS / cell.id).is_dir()]
        sweep(folder / CELLS, missing)
        there = len(job.cells) - len(missing)
        if there == len(job.cells) and not lost and _is_done(folder):
            say(f"finished on {origin.get('finished', 'an unknown day')}; nothing is left to do")
            return judge(job)[1]
        here = surroundings()
        changed = differences(origin, here)
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
        note: dict[str, Any] = {"at": now(), "there": there, "jobs": processes(jobs)}
        if changed.code or changed.machine:
            note |= here
        origin["resumed"] = [*origin.get("resumed", []), note]
        atomic_files.write_json(folder / "provenance.json", origin)
        return complete(job, origin, jobs, progress)


def _load_modules(folder: Path, order: Order, given: Sequence[Path], force: bool) -> None:
    """Import the user's own files as the run did, if the user names them again.

    The folder may be somebody else's: what it names is not run for that alone.
    """
    by_name = {path.name: path for path in [*loaded_files(), *given]}
    for module in order.load:
        name = Path(module.path).name
        path = by_name.get(name)
        if path is None:
            raise UserError(
                f"{folder} was begun with --load {shown(module.path, 200)}: name that file again, "
                f"mores resume {folder} --load {shown(name, 60)}",
                code="missing",
                path=name,
            )
        if not path.is_file():
            message = f"--load {path}: there is no such file"
            raise UserError(message, code="unreadable", path=str(path))
        if digest(path) != module.digest and not force:
            raise UserError(
                f"{path} has changed since {folder} was begun: cells would not fit together; "
                "put it back, begin anew, or go on with --force",
                code="incompatible",
                path=str(path),
            )
        load_modules([path])
    known = {Path(module.path).name for module in order.load}
    load_modules([path for path in given if path.name not in known])


def _loaded(folder: Path, order: Order) -> Loaded:
    try:
        return load(folder / "scenario.yaml", order.overrides)
    except ScenarioError as error:
        line = str(error).splitlines()[0]
        message = f"{folder} cannot be resumed: its scenario is none: {line}"
        path = error.path or str(folder / "scenario.yaml")
        raise UserError(message, code=error.code, path=path) from None


def _job(folder: Path, loaded: Loaded, order: Order) -> Job:
    """The run as it was begun.

    Raises:
        UserError: it would be another experiment now.
    """
    cells = plan(loaded, rehearse=False)
    text = resolved(loaded.scenario, cells)
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
    replicates = chosen(loaded.scenario, order.only)
    return Job(folder, loaded.scenario, cells, replicates, _paths(order.load))


def _paths(modules: Sequence[Module]) -> tuple[str, ...]:
    """Where the modules are that were imported: perhaps not where they were."""
    names = {Path(module.path).name for module in modules}
    return tuple(str(path) for path in loaded_files() if path.name in names)


def _first_difference(before: str, after: str) -> str:
    old, new = before.splitlines(), after.splitlines()
    for number in range(max(len(old), len(new))):
        was, is_ = (lines[number] if number < len(lines) else "" for lines in (old, new))
        if was != is_:
            what = f"{shown(was.strip(), 80)!r} was, {shown(is_.strip(), 80)!r} is"
            return f"resolved.yaml:{number + 1}: {what}"
    return "spaces at the end"


def _origin(folder: Path, job: Job, jobs: int | Pool) -> dict[str, Any]:
    """What `provenance.json` says; where somebody took it away, what is known here."""
    path = folder / "provenance.json"
    try:
        origin = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        text = (folder / "resolved.yaml").read_text(encoding="utf-8")
        return provenance(text, job.scenario.seed, processes(jobs))
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


def _drop_damaged(job: Job, say: Any) -> int:
    """Take away cells that are not as they were written: they are played again."""
    lost = 0
    for cell in job.cells:
        folder = job.folder / CELLS / cell.id
        wrong = cell_store.damage(folder) if folder.exists() else None
        if wrong is not None:
            say(f"cell {cell.id} is damaged ({wrong}): it is played again")
            atomic_files.remove_folder(folder)
            lost += 1
    return lost


def _is_done(folder: Path) -> bool:
    try:
        state = json.loads((folder / "status.json").read_text(encoding="utf-8"))["state"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return state == "done" and all((folder / name).is_file() for name in REPORTED)
