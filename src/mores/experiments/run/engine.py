"""Run a scenario: simulate its cells, evaluate its claims, write the run's folder.

Claims and report are always made from the files on disk. So a run on one process, on many, and one
that was killed and resumed take the same path and end in the same numbers, bit for bit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from mores.core.arguments import check_path
from mores.core.errors import UserError
from mores.experiments.claims.claim_entries import claim_entry
from mores.experiments.claims.claim_evaluation import evaluate_claims
from mores.experiments.claims.verdicts import Verdict
from mores.experiments.progress import ProgressDisplay, hide_progress
from mores.experiments.results import atomic_files
from mores.experiments.results.provenance import collect_provenance, utc_timestamp
from mores.experiments.results.run_manifest import CELLS_FOLDER
from mores.experiments.run.cell_executor import CellExecutor
from mores.experiments.run.checkpoint import remove_checkpoints
from mores.experiments.run.earlier_cell import remove_earlier_cells
from mores.experiments.run.earlier_runs import mark_changed_claims
from mores.experiments.run.parameter_uncertainty import CellPlan, plan_cells, sensitivity_indices
from mores.experiments.run.run_folder import (
    RunPlan,
    create_run_folder,
    lock_run,
    write_run_inputs,
)
from mores.experiments.run.run_status import RunStatus
from mores.experiments.run.scheduling import (
    check_importable_by_workers,
    run_missing_cells,
    uses_workers,
)
from mores.experiments.run.worker_pool import num_processes
from mores.experiments.scenario.loading import LoadedScenario, check_loaded
from mores.experiments.scenario.specification import Scenario
from mores.experiments.tracking.logs import tracker_specs
from mores.registry.plugins import loaded_plugin_files

FINAL_FILES = ("claims.json", "report.html")  # of a finished run; status.json has their checksums


@dataclasses.dataclass(frozen=True)
class RunResult:
    """The result of a run.

    Attributes:
        folder: its folder on disk.
        scenario: the scenario.
        verdicts: one for each claim of the scenario, in its order.
    """

    folder: Path
    scenario: Scenario
    verdicts: list[Verdict]

    @property
    def arms(self) -> list[str]:
        """The arm of each claim."""
        return [verdict.arm for verdict in self.verdicts]

    @property
    def failed(self) -> bool:
        """Whether any claim failed. An undecided claim has neither passed nor failed."""
        return any(verdict.status == "fails" for verdict in self.verdicts)

    @property
    def undecided(self) -> bool:
        """Whether any claim is undecided."""
        return any(verdict.status == "undecided" for verdict in self.verdicts)

    @property
    def report_path(self) -> Path:
        """Path of the report."""
        return self.folder / "report.html"


def run_scenario(
    loaded: LoadedScenario,
    out: str | Path | None = None,
    only_replicates: Sequence[int] | None = None,
    progress: bool = True,
    jobs: int | CellExecutor = 1,
    plan: CellPlan | None = None,
    track: Any = None,
) -> RunResult:
    """Run a scenario.

    Args:
        loaded: the scenario, from `mores.load_scenario`.
        out: folder to write into, new or empty; by default a new one under `runs/`.
        only_replicates: indices of the replicates to simulate; by default all.
        progress: show progress.
        jobs: number of processes that simulate cells in parallel; 0: one per core; or an
            executor (`mores.experiments.launchers`).
        plan: its cells, if they were checked before.
        track: trackers that log metrics and learning of every cell while it is simulated, as in
            `mores.train`; into the run's folder `logs`, unless a tracker has another.

    Raises:
        UserError: the scenario cannot be run, and nothing was written; or the folder is no longer
            writable, and its `status.json` records where the run stopped. Missing cells can be
            simulated later, with `mores.experiments.run.resume_run`.
    """
    loaded = check_loaded(loaded)
    out = None if out is None else check_path("out", out)
    scenario, trackers = loaded.scenario, tracker_specs(track)
    with hide_progress(not progress):
        cells, text = plan or plan_cells(loaded)
    replicates = select_replicates(scenario, only_replicates)
    num_jobs = num_processes(jobs)
    if uses_workers(jobs):
        check_importable_by_workers(text)
    folder = create_run_folder(scenario, text, out)
    with lock_run(folder):
        provenance = collect_provenance(text, scenario.seed, num_jobs)
        provenance |= {
            "overrides": list(loaded.overrides),
            "only_replicates": replicates if only_replicates else None,
        }
        plugin_paths = tuple(map(str, loaded_plugin_files()))
        run_plan = RunPlan(folder, scenario, cells, replicates, plugin_paths, trackers=trackers)
        write_run_inputs(run_plan, loaded, text, only_replicates, provenance)
        return complete_run(run_plan, provenance, jobs, progress)


def complete_run(
    run_plan: RunPlan, provenance: Mapping[str, Any], jobs: int | CellExecutor, progress: bool
) -> RunResult:
    """Simulate the missing cells of a locked run, evaluate all claims, and write the report."""
    start = time.monotonic()
    folder, cells = run_plan.folder, run_plan.cells
    status = RunStatus(folder, [cell.id for cell in cells], num_processes(jobs))
    costs = [run_plan.cost(cell) for cell in cells if cell.id not in status.done]
    with (
        _record_interruption(status),
        _stop_on_signals(),
        ProgressDisplay(run_plan.scenario.name, sum(costs, 0.0), progress) as display,
    ):
        status.write("running")
        display.update(status.count)
        run_missing_cells(run_plan, status, display, jobs)
        remove_checkpoints(folder / CELLS_FOLDER, [cell.id for cell in cells])
        remove_earlier_cells(folder / CELLS_FOLDER, [cell.id for cell in cells])
        with display.final_work("evaluating claims, writing the report"):
            result = evaluate_run_claims(run_plan)
            entries = [claim_entry(verdict) for verdict in result.verdicts]
            atomic_files.write_json(folder / "claims.json", entries)
            seconds = round(provenance.get("seconds", 0.0) + time.monotonic() - start, 2)
            final = {**provenance, "finished": utc_timestamp(), "seconds": seconds}
            atomic_files.write_sealed_json(folder / "provenance.json", final)
            _write_report(run_plan, result, final)
        status.write("done", FINAL_FILES)
        status.log(f"done in {time.monotonic() - start:.2f} s")
    return result


def evaluate_run_claims(run_plan: RunPlan) -> RunResult:
    """Evaluate the claims on the cells on disk."""
    results, looks = run_plan.cell_results(), run_plan.earlier_looks
    verdicts = evaluate_claims(run_plan.scenario, run_plan.cells, results, looks)
    verdicts = mark_changed_claims(run_plan.folder, run_plan.scenario, verdicts)
    return RunResult(run_plan.folder, run_plan.scenario, verdicts)


def select_replicates(scenario: Scenario, only_replicates: Sequence[int] | None) -> list[int]:
    """Indices of the replicates to simulate.

    Raises:
        UserError: a replicate is out of range.
    """
    if only_replicates is None:
        return list(range(scenario.replicates))
    selected = sorted(set(only_replicates))
    if not selected or selected[0] < 0 or selected[-1] >= scenario.replicates:
        message = f"replicates are 0 to {scenario.replicates - 1}, not {list(only_replicates)}"
        raise UserError(message, code="out_of_range", path="only_replicates")
    return selected


@contextlib.contextmanager
def _stop_on_signals() -> Iterator[None]:
    """SIGTERM and a closed terminal end a run as Ctrl-C does, unless they have handlers."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) == signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        numbers = []  # only the main thread may set handlers
    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def _record_interruption(status: RunStatus) -> Iterator[None]:
    """Record any exception in the run's folder, and add to it the command that resumes the run."""
    try:
        yield
    except BaseException as error:
        expected = isinstance(error, (KeyboardInterrupt, atomic_files.WriteError))
        with contextlib.suppress(atomic_files.WriteError):  # the disk may be full
            status.write("stopped" if expected else "failed")
            status.log(f"stopped: {type(error).__name__}: {error}")
        error.add_note(f"{status.count} are complete; to continue: mores resume {status.folder}")
        raise


def _write_report(run_plan: RunPlan, run_result: RunResult, provenance: Mapping[str, Any]) -> None:
    from mores.report.page import write_report

    cell_results = run_plan.cell_results()
    indices = sensitivity_indices(run_plan.scenario, run_plan.cells, cell_results)
    if indices is not None:
        atomic_files.write_sealed_json(run_plan.folder / "sensitivity.json", indices.to_dict())
    scenario, cells, verdicts = run_plan.scenario, run_plan.cells, run_result.verdicts
    write_report(run_plan.folder, scenario, cells, cell_results, verdicts, provenance, indices)
