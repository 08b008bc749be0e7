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

from mores.analysis.intervals import Estimate
from mores.core.errors import UserError
from mores.experiments.claims.claim_evaluation import Judged, judge_all
from mores.experiments.claims.verdicts import Verdict
from mores.experiments.results import atomic_files
from mores.experiments.results.cell_store import learners_in
from mores.experiments.results.provenance import now, provenance
from mores.experiments.run.checkpoint_store import sweep
from mores.experiments.run.parameter_uncertainty import carried_by, plan
from mores.experiments.run.progress_display import Progress
from mores.experiments.run.run_folder import CELLS, Hold, begin, make_folder
from mores.experiments.run.run_status import Status
from mores.experiments.run.scheduling import Job, check_known_elsewhere, play_missing
from mores.experiments.run.signals import stoppable
from mores.experiments.run.worker_pool import Pool, processes
from mores.experiments.scenario.expansion import resolved
from mores.experiments.scenario.loading import Loaded
from mores.experiments.scenario.specification import Scenario


@dataclasses.dataclass(frozen=True)
class Result:
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
        return any(verdict.verdict == "fails" for verdict in self.verdicts)

    @property
    def report(self) -> Path:
        """The report."""
        return self.folder / "report.html"


def run(
    loaded: Loaded,
    out: Path | None = None,
    only: Sequence[int] | None = None,
    progress: bool = True,
    jobs: int | Pool = 1,
) -> Result:
    """Run a scenario.

    Args:
        loaded: the scenario, from `mores.load_scenario`.
        out: folder to write into, new or empty; by default one of its own under `runs/`.
        only: replicates to play, by number; by default all.
        progress: show how far it is.
        jobs: processes that play cells side by side; 0: one for each core; or a pool of them.

    Raises:
        UserError: the scenario cannot be run, and nothing was written; or the folder cannot be
            written any more, and its `status.json` says where the run stopped. What is missing
            can be played later, with `mores.experiments.run.resume`.
    """
    scenario = loaded.scenario
    cells = plan(loaded)
    replicates = chosen(scenario, only)
    text = resolved(scenario, cells)
    count = processes(jobs)
    if count > 1:
        check_known_elsewhere(cells)
    folder = make_folder(scenario, text, out)
    with Hold(folder):
        origin = provenance(text, scenario.seed, count)
        origin |= {"overrides": list(loaded.overrides), "only": replicates if only else None}
        order = begin(folder, loaded, text, cells, only, origin)
        modules = tuple(module.path for module in order.load)
        job = Job(folder, scenario, cells, replicates, modules)
        return complete(job, origin, jobs, progress)


def complete(
    job: Job, origin: Mapping[str, Any], jobs: int | Pool = 1, progress: bool = True
) -> Result:
    """Play the cells that are not there yet, judge all, and write the report.

    Args:
        job: the run, whose folder this process holds.
        origin: where it comes from, for `provenance.json`.
        jobs: see `run`.
        progress: show how far it is.
    """
    began = time.monotonic()
    there = [cell.id for cell in job.cells if (job.folder / CELLS / cell.id).is_dir()]
    status = Status(job.folder, [cell.id for cell in job.cells], there, processes(jobs))
    for cell in there:
        status.tell(cell, learners_in(job.folder / CELLS / cell))
    with _accounted(status), stoppable():
        status.write("running")
        costs = {cell.id: job.cost(cell) for cell in job.cells if cell.id not in status.done}
        with Progress(job.scenario.name, costs, len(there), progress) as bar:
            play_missing(job, status, bar, jobs)
            sweep(job.folder / CELLS)
            bar.then("judging claims")
            claims, judged = judge(job)
            atomic_files.write_json(job.folder / "claims.json", [_plain(claim) for claim in claims])
            seconds = round(origin.get("seconds", 0.0) + time.monotonic() - began, 2)
            told = {**origin, "finished": now(), "seconds": seconds}
            atomic_files.write_json(job.folder / "provenance.json", told)
            bar.then("writing the report")
            _report(job, judged, told)
        status.write("done")
        status.log(f"done in {time.monotonic() - began:.2f} s")
    return judged


def judge(job: Job) -> tuple[list[Judged], Result]:
    """Put the claims to the cells on disk."""
    claims = judge_all(job.scenario, job.cells, job.records())
    verdicts = [claim.verdict for claim in claims]
    return claims, Result(job.folder, job.scenario, verdicts, [claim.arm for claim in claims])


def chosen(scenario: Scenario, only: Sequence[int] | None) -> list[int]:
    """The replicates that are played.

    Raises:
        UserError: there are no such replicates.
    """
    if only is None:
        return list(range(scenario.replicates))
    asked = sorted(set(only))
    if not asked or asked[0] < 0 or asked[-1] >= scenario.replicates:
        message = f"replicates run from 0 to {scenario.replicates - 1}, not {list(only)}"
        raise UserError(message, code="out_of_range", path="only")
    return asked


@contextlib.contextmanager
def _accounted(status: Status) -> Iterator[None]:
    """Whatever ends the run, its folder says so, and the error how to go on."""
    try:
        yield
    except BaseException as error:
        orderly = isinstance(error, (KeyboardInterrupt, atomic_files.CannotWrite))
        status.end("stopped" if orderly else "failed", f"stopped: {type(error).__name__}: {error}")
        whole, cells = len(status.done), len(status.done) + len(status.to_do)
        error.add_note(f"{whole} of {cells} cells are kept; to go on: mores resume {status.folder}")
        raise


def _plain(judged: Judged) -> dict[str, Any]:
    """A claim as JSON: over all points, and at each of them."""
    claim = judged.verdict.claim
    told = {"says": claim.says, "arm": judged.arm, **_figures(judged.verdict)}
    told["claim"] = claim.model_dump(mode="json", exclude_none=True)
    if len(judged.by_point) > 1:
        pairs = zip(judged.points, judged.by_point, strict=True)
        told["points"] = [{"point": dict(point), **_figures(verdict)} for point, verdict in pairs]
    return told


def _figures(verdict: Verdict) -> dict[str, Any]:
    return {
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        **_estimate(verdict.estimate),
        **({"ablation": _estimate(verdict.ablated)} if verdict.ablated is not None else {}),
    }


def _estimate(found: Estimate) -> dict[str, Any]:
    return {
        "estimate": found.value,
        "low": found.low,
        "high": found.high,
        "n": found.n,
        "method": found.method,
    }


def _report(job: Job, judged: Result, origin: Mapping[str, Any]) -> None:
    from mores.report.page import write_report

    records = job.records()
    carried = carried_by(job.scenario, job.cells, records)
    if carried is not None:
        atomic_files.write_json(job.folder / "sensitivity.json", carried.plain())
    write_report(
        job.folder, job.scenario, job.cells, records, judged.verdicts, origin, sensitivity=carried
    )
