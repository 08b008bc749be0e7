"""Simulate the missing cells of a run: in this process, in worker processes, or elsewhere.

A cell that fails does not stop the others: they are simulated first, and its error is raised at the
end. A full disk and a stop signal end the run at once.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Generator, Sequence

from mores.core.errors import UserError
from mores.core.threads import single_threaded
from mores.experiments.progress import ProgressDisplay
from mores.experiments.results import atomic_files
from mores.experiments.run.cell_execution import CellOutcome, simulate_cell
from mores.experiments.run.cell_executor import CellExecutor, CellRetry
from mores.experiments.run.run_folder import RunPlan
from mores.experiments.run.run_status import RunStatus
from mores.experiments.run.worker_pool import WorkerPool, num_processes
from mores.experiments.scenario.cell import Cell
from mores.registry import REGISTRIES


def uses_workers(jobs: int | CellExecutor) -> bool:
    """Whether cells are simulated outside of this process."""
    return isinstance(jobs, CellExecutor) or num_processes(jobs) > 1


def check_importable_by_workers(resolved_text: str) -> None:
    """Check that worker processes can make the objects that `resolved.yaml` names.

    Raises:
        UserError: a class is defined in the main script, which workers do not run.
    """
    words = set(re.findall(r"\w+", resolved_text))
    for registry_name, registry in REGISTRIES.items():
        for kind, entry in registry.items():
            if kind in words and getattr(entry, "__module__", "") == "__main__":
                raise UserError(
                    f"jobs: the {registry_name.replace('_', ' ')} {kind!r} is defined in the main "
                    "script: move it to another file, and load that with "
                    "mores.registry.plugins.load_plugins or --load",
                    code="unsupported",
                    path="jobs",
                )


def run_missing_cells(
    run_plan: RunPlan, status: RunStatus, progress: ProgressDisplay, jobs: int | CellExecutor = 1
) -> None:
    """Simulate the cells that are not done in `status`; `progress` counts their costs.

    Raises:
        WriteError: the folder cannot be written; files written before are complete.
        UserError, Exception: a cell failed; all others were simulated.
    """
    missing = [cell for cell in run_plan.cells if cell.id not in status.done]
    costs = {cell.id: run_plan.cost(cell) for cell in missing}
    simulated = dict.fromkeys(costs, 0.0)  # fraction of each cell
    first_error: Exception | None = None

    def advance(cell: str, fraction: float) -> None:
        simulated[cell] += fraction
        progress.update(advance=fraction * costs[cell])

    # Closed in all cases: no worker may continue after this function.
    with contextlib.closing(_run_cells(run_plan, missing, advance, jobs)) as events:
        for event in events:
            name = event.cell
            if isinstance(event, CellRetry):
                text = f"cell {name}: {event.reason}; it is simulated again"
                status.log(text)
                progress.note(text)
                advance(name, -simulated[name])
                continue
            if isinstance(event.error, atomic_files.WriteError):
                raise event.error
            if event.error is not None:
                first_error = first_error or event.error
                message = status.mark_failed(name, event.error)
                if len(missing) > 1:
                    progress.note(f"cell {name} failed: {message}")
            else:
                for note in (*event.notes, f"{event.seconds:.2f} s"):
                    status.log(f"{name}: {note}")
                for remark in status.mark_done(name):
                    progress.note(f"cell {name}: {remark}; the run continues")
            advance(name, 1.0 - simulated[name])
            progress.update(status.count, important=len(status.done) == len(run_plan.cells))
    if first_error is not None:
        raise first_error


def _run_cells(
    run_plan: RunPlan,
    missing: Sequence[Cell],
    callback: Callable[[str, float], None],
    jobs: int | CellExecutor,
) -> Generator[CellOutcome | CellRetry, None, None]:
    """Simulate cells; `callback` is that of `CellExecutor.run_tasks`."""
    if not uses_workers(jobs):
        with single_threaded():
            for cell in missing:
                task = run_plan.make_task(cell)
                yield simulate_cell(task, functools.partial(callback, cell.id))
        return
    with contextlib.ExitStack() as stack:
        # after all workers have ended
        stack.callback(run_plan.remove_partial_files)
        if not isinstance(jobs, CellExecutor):
            jobs = stack.enter_context(WorkerPool(num_processes(jobs)))
        # Long cells first: one that starts last would leave the other workers idle.
        ordered = sorted(missing, key=run_plan.cost, reverse=True)
        events = jobs.run_tasks([run_plan.make_task(cell) for cell in ordered], callback)
        yield from stack.enter_context(contextlib.closing(events))
