"""Run a scenario: play its cells, judge its claims, write the run's folder.

Claims and report are always made from what is on disk. So a run on one process, on many, and one
that was killed and resumed take the same path, and end in the same numbers, bit for bit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mores.analysis.intervals import IntervalEstimate
from mores.core.errors import UserError
from mores.experiments.claims.claim_evaluation import ClaimEvaluation, evaluate_claims
from mores.experiments.claims.verdicts import Verdict
from mores.experiments.results import atomic_files
from mores.experiments.results.cell_store import read_training_summary
from mores.experiments.results.provenance import collect_provenance, utc_timestamp
from mores.experiments.run.checkpoint_store import remove_stale_checkpoints
from mores.experiments.run.parameter_uncertainty import plan_cells, sensitivity_indices
from mores.experiments.run.progress_display import ProgressDisplay
from mores.experiments.run.run_folder import (
    CELLS_FOLDER,
    RunLock,
    create_run_folder,
    write_run_inputs,
)
from mores.experiments.run.run_status import RunStatus
from mores.experiments.run.scheduling import RunPlan, check_importable_by_workers, run_missing_cells
from mores.experiments.run.signals import stop_on_signals
from mores.experiments.run.worker_pool import WorkerPool, num_processes
from mores.experiments.scenario.expansion import resolved_yaml
from mores.experiments.scenario.loading import LoadedScenario
from mores.experiments.scenario.specification import Scenario


@dataclasses.dataclass(frozen=True)
class RunResult:
    """What a run came to.

    Attributes:
        folder: where it is on disk.
        scenario: what was run.
        verdicts: one for each claim of the scenario, in its order.
        arms: the arm each of them is about.
    """

    folder: Path
    scenario: Scenario
    verdicts: list[Verdict]
    arms: list[str]

    @property
    def failed(self) -> bool:
        """Whether any claim failed. One that is undecided did not pass, and did not fail."""
        return any(verdict.status == "fails" for verdict in self.verdicts)

    @property
    def report_path(self) -> Path:
        """The report."""
        return self.folder / "report.html"


def run_scenario(
    loaded: LoadedScenario,
    out: Path | None = None,
    only_replicates: Sequence[int] | None = None,
    progress: bool = True,
    jobs: int | WorkerPool = 1,
) -> RunResult:
    """Run a scenario.

    Args:
        loaded: the scenario, from `mores.load_scenario`.
        out: folder to write into, new or empty; by default one of its own under `runs/`.
        only_replicates: replicates to play, by number; by default all.
        progress: show how far it is.
        jobs: processes that play cells side by side; 0: one for each core; or a pool of them.

    Raises:
        UserError: the scenario cannot be run, and nothing was written; or the folder cannot be
            written any more, and its `status.json` says where the run stopped. What is missing
            can be played later, with `mores.experiments.run.resume_run`.
    """
    scenario = loaded.scenario
    cells = plan_cells(loaded)
    replicates = select_replicates(scenario, only_replicates)
    text = resolved_yaml(scenario, cells)
    count = num_processes(jobs)
    if count > 1:
        check_importable_by_workers(cells)
    folder = create_run_folder(scenario, text, out)
    with RunLock(folder):
        origin = collect_provenance(text, scenario.seed, count)
        origin |= {
            "overrides": list(loaded.overrides),
            "only": replicates if only_replicates else None,
        }
        order = write_run_inputs(folder, loaded, text, cells, only_replicates, origin)
        modules = tuple(module.path for module in order.plugin_files)
        job = RunPlan(folder, scenario, cells, replicates, modules)
        return complete_run(job, origin, jobs, progress)


def complete_run(
    run_plan: RunPlan,
    provenance: Mapping[str, Any],
    jobs: int | WorkerPool = 1,
    progress: bool = True,
) -> RunResult:
    """Play the cells that are not there yet, judge all, and write the report.

    Args:
        run_plan: the run, whose folder this process holds.
        provenance: where it comes from, for `collect_provenance.json`.
        jobs: see `run_scenario`.
        progress: show how far it is.
    """
    began = time.monotonic()
    there = [
        cell.id for cell in run_plan.cells if (run_plan.folder / CELLS_FOLDER / cell.id).is_dir()
    ]
    status = RunStatus(
        run_plan.folder, [cell.id for cell in run_plan.cells], there, num_processes(jobs)
    )
    for cell in there:
        status.note_training(cell, read_training_summary(run_plan.folder / CELLS_FOLDER / cell))
    with _record_interruption(status), stop_on_signals():
        status.write("running")
        costs = {
            cell.id: run_plan.cost(cell) for cell in run_plan.cells if cell.id not in status.done
        }
        with ProgressDisplay(run_plan.scenario.name, costs, len(there), progress) as bar:
            run_missing_cells(run_plan, status, bar, jobs)
            remove_stale_checkpoints(run_plan.folder / CELLS_FOLDER)
            bar.show_step("judging claims")
            claims, judged = evaluate_run_claims(run_plan)
            atomic_files.write_json(
                run_plan.folder / "claims.json", [_claim_entry(claim) for claim in claims]
            )
            seconds = round(provenance.get("seconds", 0.0) + time.monotonic() - began, 2)
            told = {**provenance, "finished": utc_timestamp(), "seconds": seconds}
            atomic_files.write_json(run_plan.folder / "provenance.json", told)
            bar.show_step("writing the report")
            _write_report(run_plan, judged, told)
        status.write("done")
        status.log(f"done in {time.monotonic() - began:.2f} s")
    return judged


def evaluate_run_claims(run_plan: RunPlan) -> tuple[list[ClaimEvaluation], RunResult]:
    """Put the claims to the cells on disk."""
    claims = evaluate_claims(run_plan.scenario, run_plan.cells, run_plan.cell_results())
    verdicts = [claim.verdict for claim in claims]
    return claims, RunResult(
        run_plan.folder, run_plan.scenario, verdicts, [claim.arm for claim in claims]
    )


def select_replicates(scenario: Scenario, only_replicates: Sequence[int] | None) -> list[int]:
    """The replicates that are played.

    Raises:
        UserError: there are no such replicates.
    """
    if only_replicates is None:
        return list(range(scenario.replicates))
    asked = sorted(set(only_replicates))
    if not asked or asked[0] < 0 or asked[-1] >= scenario.replicates:
        message = f"replicates run from 0 to {scenario.replicates - 1}, not {list(only_replicates)}"
        raise UserError(message, code="out_of_range", path="only")
    return asked


@contextlib.contextmanager
def _record_interruption(status: RunStatus) -> Iterator[None]:
    """Whatever ends the run, its folder says so, and the error how to go on."""
    try:
        yield
    except BaseException as error:
        orderly = isinstance(error, (KeyboardInterrupt, atomic_files.WriteError))
        status.finish(
            "stopped" if orderly else "failed", f"stopped: {type(error).__name__}: {error}"
        )
        whole, cells = len(status.done), len(status.done) + len(status.to_do)
        error.add_note(f"{whole} of {cells} cells are kept; to go on: mores resume {status.folder}")
        raise


def _claim_entry(evaluation: ClaimEvaluation) -> dict[str, Any]:
    """A claim as JSON: over all points, and at each of them."""
    claim = evaluation.verdict.claim
    told = {"statement": claim.statement, "arm": evaluation.arm, **_verdict_fields(evaluation.verdict)}
    told["claim"] = claim.model_dump(mode="json", exclude_none=True)
    if len(evaluation.point_verdicts) > 1:
        pairs = zip(evaluation.points, evaluation.point_verdicts, strict=True)
        told["points"] = [
            {"point": dict(point), **_verdict_fields(verdict)} for point, verdict in pairs
        ]
    return told


def _verdict_fields(verdict: Verdict) -> dict[str, Any]:
    return {
        "verdict": verdict.status,
        "reason": verdict.reason,
        **_estimate_fields(verdict.estimate),
        **(
            {"ablation": _estimate_fields(verdict.ablation_estimate)}
            if verdict.ablation_estimate is not None
            else {}
        ),
    }


def _estimate_fields(estimate: IntervalEstimate) -> dict[str, Any]:
    return {
        "estimate": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "n": estimate.n,
        "method": estimate.method,
    }


def _write_report(run_plan: RunPlan, run_result: RunResult, provenance: Mapping[str, Any]) -> None:
    from mores.report.page import write_report

    records = run_plan.cell_results()
    carried = sensitivity_indices(run_plan.scenario, run_plan.cells, records)
    if carried is not None:
        atomic_files.write_json(run_plan.folder / "sensitivity.json", carried.to_dict())
    write_report(
        run_plan.folder,
        run_plan.scenario,
        run_plan.cells,
        records,
        run_result.verdicts,
        provenance,
        sensitivity=carried,
    )
